"""The method ``lindef``: what is common to all methods, its model, its frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Pair, Run
from anamorph.methods.lindef import Lindef, LindefConfig
from anamorph.networks.lindef_network import LindefNetwork
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.trained import RegistrationModel
from anamorph.testing.pairs import apart_vox, gentle_pair
from anamorph.transforms import Affine
from one_pass_conformance import OnePassConformance


def save_tiny(folder: Path, *, inputs: int = 1, translation: tuple[float, ...] = (), **preprocessing: Any) -> str:
    """An untrained model, which is the identity, or one that always finds a translation (units of 32 voxels)."""
    torch.manual_seed(0)
    architecture = {"inputs": inputs, "width": 2}
    network = LindefNetwork(**architecture)
    if translation:
        network.linear.last.bias.data[[3, 7, 11]] = torch.tensor(translation)
    card = ModelCard(
        folder.name, "lindef", architecture=architecture, preprocessing=Preprocessing(**preprocessing).as_json()
    )
    save_model(folder, network.state_dict(), card)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    coarse = {"spacing_mm": 16.0, "multiple": 8}
    return {inputs: save_tiny(folder / f"tiny-{inputs}", inputs=inputs, **coarse) for inputs in (1, 2)}


class TestLindef(OnePassConformance):
    method = Lindef


def of_network(model, fixed, moving, **settings):
    return Lindef(LindefConfig(model=model, refine=False, **settings))(Pair(fixed, moving), Run("cpu"))


def test_the_linear_part_is_that_of_the_voxels_of_the_frame(tmp_path):
    pair = gentle_pair()
    model = save_tiny(tmp_path / "model", translation=(0.125, 0.0, -0.0625), spacing_mm=16.0, multiple=8)
    found = of_network(model, pair.fixed, pair.moving, init="world").fixed_to_moving
    expected = Affine.translation(np.array([0.125, 0, -0.0625]) * 32 * 16)
    assert apart_vox(found, expected, pair.fixed.grid) < 1e-3


def test_scans_are_cropped_in_use_if_they_were_in_training(tmp_path):
    options = {"shape": (16, 16, 8), "spacing_mm": (4.0, 4.0, 8.0)}
    large = Grid((200, 40, 30), np.eye(4))
    covering = RegistrationModel.describe(save_tiny(tmp_path / "covering", **options), "lindef")
    assert covering.shape_for(large, large) == (64, 16, 16)
    cropping = RegistrationModel.describe(save_tiny(tmp_path / "cropping", **options, crop_in_use=True), "lindef")
    assert cropping.shape_for(large, large) == (16, 16, 8)
    np.testing.assert_allclose(cropping.frame(large, large).centre_mm, large.centre_mm)
    image = Image(np.random.default_rng(0).random((200, 40, 30)).astype(np.float32), large, "scan")
    assert "part of the body" in covering.warnings_for(image)[0]
    assert cropping.warnings_for(image) == []


def test_every_preset_is_a_config():
    for values in Lindef.presets.values():
        assert LindefConfig(**values).refine
