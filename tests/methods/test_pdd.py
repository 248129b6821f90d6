"""The method ``pdd``: the conformance suite, warps, the fit, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.evaluation import inverse_consistency_mm
from anamorph.geometry import Grid
from anamorph.methods.base import Pair, Run
from anamorph.methods.pdd import TWO_WARPS, Pdd, PddConfig
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.pdd_network import PddNetwork
from anamorph.networks.preprocessing import Preprocessing
from anamorph.testing.conformance import MethodConformance
from anamorph.testing.pairs import apart_vox, error_mm, gentle_pair
from anamorph.transforms import Affine
from kept_starts import KeptStarts

NETWORK: dict[str, Any] = {
    "channels": 8, "control": [10, 8, 9], "width": 7, "reach": 0.3, "mean_field": True, "feature_spacing": 2,
    "pooled": False, "sampling": "voxel",
}  # fmt: skip


def save_untrained(folder: Path, inputs: int = 1, sharpness: float = 100.0, **preprocessing: Any) -> str:
    """Features of random weights, which tell places apart well enough for a search."""
    torch.manual_seed(0)
    architecture = NETWORK | {"inputs": inputs}
    network = PddNetwork(**architecture)
    with torch.no_grad():
        network.alphas[5] = sharpness
    card = ModelCard(
        folder.name, "pdd", architecture=architecture, preprocessing=Preprocessing(**preprocessing).as_json()
    )
    save_model(folder, network.state_dict(), card)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {inputs: save_untrained(folder / f"pdd-{inputs}", inputs) for inputs in (1, 2)}


class TestPdd(KeptStarts, MethodConformance):
    """With an untrained network: what the start, the frames and the refinement do around it."""

    method = Pdd
    learned = True
    two_dimensional = False
    settings: ClassVar[dict[str, Any]] = {"init": "affine"}
    quick: ClassVar[dict[str, Any]] = {"init": "world"}
    limits_mm: ClassVar[dict[str, float]] = {
        "affine": 3.0, "smooth": 4.0, "flipped and finer": 4.1, "permuted and oblique": 4.2, "both sheared": 3.7,
        "odd": 3.4, "thick": 2.6, "two channels": 5.1, "padded": 4.3, "given start": 5.0,
    }  # fmt: skip

    def test_memory_is_foreseen(self):
        method = Pdd(PddConfig(model=self.models[1]))
        small, large = (Grid((n, n, n), np.eye(4)) for n in (64, 128))
        assert 0 < method.peak_memory_bytes(small, small) < method.peak_memory_bytes(large, large)
        wider = Pdd(PddConfig(model=self.models[1], refine=False, controls=(32,), widths=(15,), reaches=(0.4,)))
        assert wider.peak_memory_bytes(small, small) > 2 * 32**3 * 15**3 * 4


def found(models, **settings):
    pair = gentle_pair()
    given = {"init": "world", "refine": False} | settings
    result = Pdd(PddConfig(model=models[1], **given))(Pair(pair.fixed, pair.moving), Run("cpu"))
    return result, error_mm(result.fixed_to_moving, pair)


def test_a_search_brings_scans_nearer_and_a_second_warp_still_more(models):
    pair = gentle_pair()
    before = error_mm(Affine.identity(), pair)
    once, one = found(models)
    assert one < 0.9 * before
    assert not once.trace
    trained, _ = found(models, controls=(9,), widths=(7,), reaches=(0.3,))
    assert apart_vox(once.fixed_to_moving, trained.fixed_to_moving, pair.fixed.grid) < 0.5  # control was 10, 8, 9
    twice, two = found(models, fit_iterations=50, controls=(10, 14), widths=(7, 7), reaches=(0.3, 0.15))
    assert two < 0.9 * one
    fits = [trace for name, trace in twice.trace.items() if name.startswith("fit")]
    assert len(fits) == 4
    assert all(len(trace) == 50 and trace[-1] < trace[0] for trace in fits)
    apart = inverse_consistency_mm(twice.fixed_to_moving, twice.moving_to_fixed, pair.fixed.grid, pair.moving.grid)
    assert np.nanmean(apart) < 3.0


def test_a_method_without_its_model_says_so(tmp_path):
    pair = gentle_pair()
    with pytest.raises(UserError, match="'pdd' needs a model; train one"):
        Pdd()(Pair(pair.fixed, pair.moving), Run())
    torch.manual_seed(0)
    save_model(tmp_path / "other", {"w": torch.zeros(1)}, ModelCard("other", "symmetric"))
    with pytest.raises(UserError, match="is a model of 'symmetric', not of 'pdd'"):
        Pdd(PddConfig(model=str(tmp_path / "other"))).peak_memory_bytes(pair.fixed.grid, pair.moving.grid)


@pytest.mark.parametrize(
    "wrong",
    [
        {"controls": (8, 8)},
        {"controls": (8,), "widths": (6,), "reaches": (0.2,)},
        {"fit_rate": 0.0},
        {"fit_local_mean": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        PddConfig(**wrong)


def test_the_published_warps_are_a_preset():
    assert len(PddConfig(**TWO_WARPS).searches()) == 2
    assert Pdd.presets["two-warps"]["controls"] == (29, 39)
    assert Pdd.presets["two-warps"]["fit_local_mean"] == 0
