"""The method ``pwc``: the conformance suite, both directions of one pass, and what is foreseen and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.methods.base import Pair, Run
from anamorph.methods.pwc import Pwc, PwcConfig
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.pwc_network import PwcNetwork
from anamorph.networks.trained import RegistrationModel
from anamorph.testing.pairs import apart_vox, gentle_pair
from anamorph.transforms import Affine
from one_pass_conformance import OnePassConformance


def save_tiny(folder: Path, bend: float = 0.0, **options: Any) -> str:
    """An untrained model, which is the identity, unless the last convolutions are random with a deviation ``bend``."""
    torch.manual_seed(0)
    architecture = {"inputs": 1, "mult": 1, "convolutions": [1, 1, 1], "finest": 1, "radius": 1, "width": 8} | options
    network = PwcNetwork(**architecture)
    if bend:
        for step in network.steps:
            torch.nn.init.normal_(step.last.weight, std=bend)
    card = ModelCard(folder.name, "pwc", architecture=architecture, preprocessing=Preprocessing().as_json())
    save_model(folder, network.state_dict(), card)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {inputs: save_tiny(folder / f"tiny-{inputs}", inputs=inputs) for inputs in (1, 2)}


class TestPwc(OnePassConformance):
    method = Pwc


def test_both_directions_come_from_one_pass(tmp_path):
    pair = gentle_pair()
    method = Pwc(PwcConfig(model=save_tiny(tmp_path / "bent", bend=0.1), refine=False))
    forward, swapped = (
        method(one, Run("cpu")) for one in (Pair(pair.fixed, pair.moving), Pair(pair.moving, pair.fixed))
    )
    grid = pair.fixed.grid
    assert apart_vox(forward.fixed_to_moving, Affine.identity(), grid) > 0.1, "the network does something"
    assert apart_vox(forward.fixed_to_moving, swapped.moving_to_fixed, grid) < 1e-3
    assert apart_vox(forward.moving_to_fixed, swapped.fixed_to_moving, grid) < 1e-3


def test_a_wider_search_needs_more_memory(tmp_path):
    grid = Grid((64, 64, 64), np.eye(4))
    narrow, wide, fine = (
        Pwc(PwcConfig(model=save_tiny(tmp_path / name, **options), refine=False)).peak_memory_bytes(grid, grid)
        for name, options in (("narrow", {}), ("wide", {"radius": 4}), ("fine", {"finest": 0}))
    )
    costs = 4 * 2 * 32**3 * 9**3
    assert wide - narrow > costs
    assert fine > narrow


def test_a_method_without_its_model_says_so(tmp_path):
    pair = gentle_pair()
    with pytest.raises(UserError, match="'pwc' needs a model; train one"):
        Pwc()(Pair(pair.fixed, pair.moving), Run())
    assert RegistrationModel.describe(save_tiny(tmp_path / "own"), "pwc").first_channels == 4


def test_scans_of_other_patients_start_from_their_middles():
    assert Pwc.presets["head-neck-ct"]["init"] == "frame"
