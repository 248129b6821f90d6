from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods import base, deeds, descriptors
from anamorph.methods.base import Pair, Run
from anamorph.methods.deeds import Deeds, DeedsConfig, dense_search
from anamorph.testing.conformance import MethodConformance
from anamorph.testing.pairs import apart_vox, error_mm, gentle_pair, pair_of
from anamorph.transforms import Affine
from geometries import isotropic
from recorded import recorded

SMALL = {"grid_spacing": (6, 4, 3), "search_radius": (4, 3, 2), "quantisation": (2, 1, 1)}


class TestDeeds(MethodConformance):
    method = Deeds
    quick: ClassVar[dict[str, Any]] = {"init": "world", **SMALL}
    limits_mm: ClassVar[dict[str, float]] = {
        "affine": 2.5,
        "smooth": 4.0,
        "flipped and finer": 4.0,
        "permuted and oblique": 4.1,
        "both sheared": 3.8,
        "odd": 3.4,
        "thick": 2.1,
        "2D": 2.3,
        "two channels": 4.1,
        "padded": 4.1,
        "given start": 3.7,
    }

    @pytest.mark.parametrize("compatible", [False, True])
    def test_tensors_take_the_same_way_as_arrays(self, monkeypatch, compatible):
        pair = pair_of(shape=(32, 28, 30), seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)
        method = Deeds(DeedsConfig(**self.quick, compatible=compatible))
        arrays = method(Pair(pair.fixed, pair.moving), Run("cpu"))
        monkeypatch.setattr(base, "resolve_device", lambda device: "cuda")
        for module in (deeds, dense_search, descriptors):
            monkeypatch.setattr(module, "to_device", lambda array, device: torch.tensor(np.float32(array)))
        tensors = method(Pair(pair.fixed, pair.moving), Run("cpu"))
        assert apart_vox(arrays.fixed_to_moving, tensors.fixed_to_moving, pair.fixed.grid) < 0.05
        assert apart_vox(arrays.moving_to_fixed, tensors.moving_to_fixed, pair.fixed.grid) < 0.05
        found, again = (result.provenance["differing_bits"] for result in (arrays, tensors))
        assert len(found) == 3
        np.testing.assert_allclose(found, again, rtol=0.01)

    @pytest.mark.parametrize("compatible", [False, True])
    def test_the_search_alone_finds_a_deformation(self, compatible):
        pair = gentle_pair()
        settings = {"init": "world", "compatible": compatible, "refine_iterations": (0, 0)}
        result = Deeds(DeedsConfig(**settings))(Pair(pair.fixed, pair.moving), Run("cpu"))
        assert error_mm(Affine.identity(), pair) > 8
        assert error_mm(result.fixed_to_moving, pair) < 5.5
        assert error_mm(result.moving_to_fixed.inverse(), pair) < 5.5

    @pytest.mark.parametrize("compatible", [False, True])
    def test_a_level_starts_from_the_one_before(self, monkeypatch, compatible):
        pair = pair_of(
            shape=(48, 40, 22), spacing_mm=(8, 8, 14), seed=3, translation_mm=6, rotation_deg=2, scale=0.03
        )  # fmt: skip
        config = DeedsConfig(**self.quick, compatible=compatible, refine_iterations=(0, 0))
        searches, infer = [], dense_search.infer_labels
        monkeypatch.setattr(
            dense_search, "infer_labels", lambda *args: searches.append((args[3], args[4].copy())) or infer(*args)
        )
        fields = recorded(monkeypatch, dense_search, "inverse_consistent")
        Deeds(config)(Pair(pair.fixed, pair.moving), Run("cpu"))
        levels = config.levels(pair.fixed.grid)
        if not compatible:
            assert levels[0].unit_vox[2] == pytest.approx(2 * 8 / 14)
        assert not np.any([start for _, start in searches[:2]])
        for number, level in enumerate(levels):
            for weight, start in searches[2 * number : 2 * number + 2]:
                np.testing.assert_allclose(weight, np.array(level.step) / level.unit_vox, rtol=1e-6)
                assert start.shape == (3, np.prod(level.cells))
        for number, (before, level) in enumerate(pairwise(levels)):
            centres = level.control.voxel_to_world(np.indices(level.cells).reshape(3, -1).T)
            places = before.control.world_to_voxel(centres).T
            for direction in range(2):
                known = fields[number][direction] * np.reshape(before.cell, (3, 1, 1, 1))
                expected = [map_coordinates(u.astype(float), places, order=1, mode="nearest") for u in known]
                assert np.abs(expected).max() > 0.5
                start = searches[2 * (number + 1) + direction][1] * level.unit_vox[:, None]
                np.testing.assert_allclose(start, expected, atol=2e-3)


@pytest.mark.parametrize("settings", [{}, {"compatible": True}, {"compatible": True, "init": "rigid"}])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 2, 2), (5, 4, 3), (9, 9, 9), (1, 30, 28), (30, 28, 1), (40, 3, 38), (20, 1, 1)]
)
def test_tiny_and_thin_scans_give_finite_maps(shape, settings):
    rng = np.random.default_rng(1)
    grid = Grid(shape, np.diag([1.0, 1, 3, 1]))
    method = Deeds(DeedsConfig(refine_iterations=(1, 1), **settings))
    half = np.where(np.indices(shape)[0] < shape[0] / 2, 0, rng.normal(500, 100, shape)).astype(np.float32)
    noise, other = (Image(rng.normal(0, 100, shape).astype(np.float32), grid) for _ in range(2))
    empty = Image(np.zeros(shape, np.float32), grid)
    for fixed, moving in ((noise, other), (Image(half, grid), noise), (empty, empty)):
        result = method(Pair(fixed, moving), Run("cpu"))
        for transform in (result.fixed_to_moving, result.moving_to_fixed):
            disp = transform.displacement_on(grid).disp_vox
            assert np.isfinite(disp).all()
            single = [n == 1 for n in shape]
            np.testing.assert_allclose(disp[single], 0, atol=1e-4)
            if fixed is empty:
                np.testing.assert_allclose(disp, 0, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid_spacing": (8, 4)},
        {"search_radius": (8, 7, 6, 5)},
        {"grid_spacing": (), "search_radius": (), "quantisation": ()},
        {"quantisation": (5, 4, 3, 2, 0)},
        {"search_radius": (8, 7, 6, 5, -4)},
        {"linear_quantisation": (4, 3)},
        {"linear_grid_spacing": (7, 6, 5, 0)},
        {"alpha": 0.0},
        {"refine_scales": (3,)},
        {"refine_iterations": (10,)},
        {"diffusion": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        DeedsConfig(**wrong)


def test_every_preset_is_a_config():
    assert "abdomen-ct" in Deeds.presets
    for values in Deeds.presets.values():
        assert len(DeedsConfig(**values).levels(isotropic((60, 50, 40), 2.0))) == 5


def test_a_larger_alpha_is_smoother():
    pair = gentle_pair()
    scans = Pair(pair.fixed, pair.moving)
    rough, smooth = (
        Deeds(DeedsConfig(compatible=True, init="world", alpha=alpha, **SMALL))(scans, Run("cpu"))
        for alpha in (0.4, 25.6)
    )
    spread = [r.fixed_to_moving.jacobian_determinant(pair.fixed.grid).std() for r in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]
