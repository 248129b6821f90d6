from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.methods import base, descriptors
from anamorph.methods.base import Pair, Run
from anamorph.methods.convex import Convex
from anamorph.methods.discrete_search import SearchConfig
from anamorph.runtime.device import resolve_device
from anamorph.testing.conformance import MethodConformance
from anamorph.testing.pairs import apart_vox, gentle_pair, pair_of


class TestConvex(MethodConformance):
    method = Convex
    quick: ClassVar[dict[str, Any]] = {"init": "world"}
    limits_mm: ClassVar[dict[str, float]] = {
        "affine": 2.6,
        "smooth": 3.9,
        "flipped and finer": 4.0,
        "permuted and oblique": 4.0,
        "both sheared": 3.8,
        "odd": 3.6,
        "thick": 2.1,
        "2D": 2.3,
        "two channels": 4.1,
        "padded": 4.1,
        "given start": 3.8,
    }

    def test_tensors_take_the_same_way_as_arrays(self, monkeypatch):
        pair = pair_of(shape=(32, 28, 30), seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)
        arrays = self.run(pair.fixed, pair.moving)
        monkeypatch.setattr(base, "resolve_device", lambda device: "cuda")
        monkeypatch.setattr(descriptors, "to_device", lambda array, device: torch.tensor(np.float32(array)))
        tensors = self.run(pair.fixed, pair.moving)
        assert apart_vox(arrays.fixed_to_moving, tensors.fixed_to_moving, pair.fixed.grid) < 0.05
        assert apart_vox(arrays.moving_to_fixed, tensors.moving_to_fixed, pair.fixed.grid) < 0.05

    def test_search_and_refinement_tell_how_far_they_are(self):
        told: dict[str, list[float]] = {}
        pair = gentle_pair()
        self.run(pair.fixed, pair.moving, progress=lambda stage, done: told.setdefault(stage, []).append(done))
        np.testing.assert_allclose(told["search"], 0.35 + 0.25 * np.array([0, 1, 2, 3, 4, 5, 6]) / 6)
        assert len(told["refine"]) > 20

    def test_little_memory_gives_the_same_map(self):
        pair = gentle_pair()
        method = Convex(SearchConfig(init="world", max_memory_mb=100))
        plenty = self.gentle()
        little = method(Pair(pair.fixed, pair.moving), Run("cpu"))
        assert apart_vox(plenty.fixed_to_moving, little.fixed_to_moving, pair.fixed.grid) < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"search_scales": (2,)},
        {"search_scales": (1, 2)},
        {"refine_scales": (3,)},
        {"refine_iterations": (10,)},
        {"search_scales": (), "search_cells": (), "search_radius_mm": ()},
        {"control_cell": 0},
        {"air_weight": 1.5},
        {"diffusion": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        SearchConfig(**wrong)


def test_a_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="CUDA"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"


def test_every_preset_is_a_config():
    for values in Convex.presets.values():
        assert np.isfinite(SearchConfig(**values).diffusion)
