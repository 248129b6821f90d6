from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from anamorph.evaluation import dice, inverse_consistency_mm
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.image.read import read_image, read_labels
from anamorph.methods import deeds, deeds_published, described_pair, refinement
from anamorph.methods.deeds import Deeds, DeedsConfig
from anamorph.methods.deeds_frame import DeedsFrame
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.deeds_published import linear_stage
from anamorph.methods.working_frame import Scan, Side
from anamorph.transforms import Affine
from anamorph.transforms.files import read_transform, write_transform
from conformance import GRID_PAIRS, MethodConformance, apart_vox, error_mm, gentle_pair, pair_of
from geometries import affine_of, rotation

SMALL = {"grid_spacing": (6, 4, 3), "search_radius": (4, 3, 2), "quantisation": (2, 1, 1)}


def isotropic(shape, spacing=1.0):
    return Grid(shape, np.diag([spacing, spacing, spacing, 1.0]))


class TestDeeds(MethodConformance):
    method = Deeds
    quick: ClassVar[dict[str, Any]] = {"init": "none", **SMALL}
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
        arrays = method(pair.fixed, pair.moving, device="cpu")
        monkeypatch.setattr(deeds, "resolve_device", lambda device: "cuda")
        for module in (deeds, described_pair, refinement):
            monkeypatch.setattr(module, "to_device", lambda array, device: torch.tensor(np.float32(array)))
        tensors = method(pair.fixed, pair.moving, device="cpu")
        assert apart_vox(arrays.fixed_to_moving, tensors.fixed_to_moving, pair.fixed.grid) < 0.05
        assert apart_vox(arrays.moving_to_fixed, tensors.moving_to_fixed, pair.fixed.grid) < 0.05
        found, again = (result.trace["differing bits"] for result in (arrays, tensors))
        assert len(found) == 3
        np.testing.assert_allclose(found, again, rtol=0.01)

    @pytest.mark.parametrize("compatible", [False, True])
    def test_the_search_alone_finds_a_deformation(self, compatible):
        pair = gentle_pair()
        settings = {"init": "none", "compatible": compatible, "refine_iterations": (0, 0)}
        result = Deeds(DeedsConfig(**settings))(pair.fixed, pair.moving, device="cpu")
        assert error_mm(Affine.identity(), pair) > 8
        assert error_mm(result.fixed_to_moving, pair) < 5.5
        assert error_mm(result.moving_to_fixed.inverse(), pair) < 5.5

    @pytest.mark.parametrize("compatible", [False, True])
    def test_a_level_starts_from_the_one_before(self, monkeypatch, compatible):
        pair = pair_of(
            shape=(48, 40, 22), spacing_mm=(8, 8, 14), seed=3, translation_mm=6, rotation_deg=2, scale=0.03
        )  # fmt: skip
        config = DeedsConfig(**self.quick, compatible=compatible, refine_iterations=(0, 0))
        searches, infer = [], deeds.infer_labels
        monkeypatch.setattr(
            deeds, "infer_labels", lambda *args: searches.append((args[3], args[4].copy())) or infer(*args)
        )
        fields = recorded(monkeypatch, deeds, "inverse_consistent")
        Deeds(config)(pair.fixed, pair.moving, device="cpu")
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


def corner_rule(field, shape):
    """``(3, *cells)`` brought to all voxels as published: sample a of m1 sits at voxel a m / m1."""
    places = np.indices(shape) * np.reshape([c / n for c, n in zip(field.shape[1:], shape, strict=True)], (3, 1, 1, 1))
    return np.stack([map_coordinates(u.astype(float), places, order=1, mode="nearest") for u in field])


def linear(matrix, positions):
    return np.tensordot(matrix[:3, :3], positions, 1) + matrix[:3, 3].reshape(3, 1, 1, 1)


def recorded(monkeypatch, module, name):
    """What a function of a module gives from now on."""
    results, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: results.append(function(*args, **kwargs)) or results[-1])
    return results


class TestCompatible:
    """The conventions of the published program."""

    def test_the_maps_are_the_sum_of_a_matrix_and_a_field(self, monkeypatch, tmp_path):
        pair = pair_of(shape=(49, 42, 45), seed=3)
        matrices = recorded(monkeypatch, deeds_published, "linear_stage")
        fields = recorded(monkeypatch, deeds, "inverse_consistent")
        result = Deeds(DeedsConfig(compatible=True))(pair.fixed, pair.moving, device="cpu")
        grid, matrix = pair.fixed.grid, matrices[-1]
        assert grid == pair.moving.grid
        assert np.abs(matrix[:3, :3] - np.eye(3)).max() > 0.03
        # In cells of the last level, four voxels wide.
        forward, backward = (4 * u for u in fields[-1])
        assert forward.shape == (3, 12, 10, 11)
        assert np.abs(forward).max() > 2
        voxels = np.indices(grid.shape).astype(float)
        there = linear(matrix, voxels) + corner_rule(forward, grid.shape)
        np.testing.assert_allclose(result.fixed_to_moving.moving_positions(grid, grid), there, atol=2e-3)
        # Backward: from the moving voxel back by the matrix, then on along a field that is read there.
        start = linear(np.linalg.inv(matrix), voxels)
        scale = np.reshape([c / n for c, n in zip(backward.shape[1:], grid.shape, strict=True)], (3, 1, 1, 1))
        back = start + np.stack([map_coordinates(u, start * scale, order=1, mode="nearest") for u in backward])
        np.testing.assert_allclose(result.moving_to_fixed.moving_positions(grid, grid), back, atol=2e-3)

        path = tmp_path / "pair_displacements.dat"
        write_transform(result.fixed_to_moving, path, "deeds", grid, pair.moving.grid)
        blocks = np.fromfile(path, "<f4").reshape(3, *forward.shape[:0:-1])
        for block, axis in zip(blocks, (1, 0, 2), strict=True):
            np.testing.assert_allclose(block.T, forward[axis], atol=1e-4)
        table = np.loadtxt(tmp_path / "pair_matrix.txt")
        np.testing.assert_allclose(table.T, matrix, atol=1e-6)
        again = read_transform(path, grid=grid, moving_grid=pair.moving.grid)
        np.testing.assert_allclose(again.moving_positions(grid, grid), there, atol=2e-3)

    def test_the_moving_scan_is_warped_once_from_the_original(self):
        rng = np.random.default_rng(0)
        grid = isotropic((20, 18, 22))
        original = gaussian_filter(rng.normal(0, 3000, grid.shape), 1.5).astype(np.float32)
        field = gaussian_filter(rng.normal(0, 20, (3, 5, 4, 5)), (0, 1, 1, 1)).astype(np.float32)
        matrix = np.eye(4)
        matrix[:3, :3] = rotation((10, -6, 15)) @ np.diag([1.1, 0.9, 1])
        matrix[:3, 3] = 2, -1, 0.5
        scan = Scan(original[None], np.ones(grid.shape, np.float32), grid)
        side = Side(scan, scan.weight)
        level = DeedsLevel.published(grid, 4, 1, 1)
        frame = DeedsFrame(
            side, side, scan, Affine(matrix), (level,), "ct", turn=np.linalg.inv(matrix[:3, :3])
        )  # fmt: skip
        places = linear(matrix, np.indices(grid.shape)) + corner_rule(field, grid.shape)
        expected = map_coordinates(original.astype(float), places, order=1, mode="nearest")
        warped = frame.warped_moving(field, level.control)[0]
        np.testing.assert_allclose(warped, expected, atol=0.02 * original.std())

    @pytest.mark.parametrize("name", GRID_PAIRS)
    def test_grids_may_differ_and_lie_anywhere(self, name):
        pair = pair_of(seed=3, fixed_grid=GRID_PAIRS[name][0], moving_grid=GRID_PAIRS[name][1])
        away = Affine.translation([400.0, -250.0, 300.0])
        moving = Image(pair.moving.data, Grid(pair.moving.grid.shape, away.matrix @ pair.moving.grid.affine))
        result = Deeds(DeedsConfig(compatible=True))(pair.fixed, moving, device="cpu")
        assert error_mm(Affine.identity(), pair) > 20
        assert error_mm(away.inverse() @ result.fixed_to_moving, pair) < 6
        there_and_back = inverse_consistency_mm(
            result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, moving.grid
        )
        assert np.nanmean(there_and_back) < 1.5

    def test_what_lies_outside_the_masks_has_no_influence(self):
        pair = gentle_pair()
        inside = np.zeros(pair.fixed.grid.shape, np.float32)
        inside[6:-6, 6:-6, 8:-6] = 1
        masks = {"fixed_mask": Mask(inside, pair.fixed.grid), "moving_mask": Mask(inside, pair.moving.grid)}
        rng = np.random.default_rng(0)
        garbage = [
            i.with_data(np.where(inside > 0, i.data[0], rng.normal(0, 500, inside.shape)).astype(np.float32))
            for i in (pair.fixed, pair.moving)
        ]
        clean, dirty = (
            Deeds(DeedsConfig(compatible=True))(*scans, **masks, device="cpu").fixed_to_moving
            for scans in ((pair.fixed, pair.moving), garbage)
        )
        assert apart_vox(clean, dirty, pair.fixed.grid) < 1e-3

    def test_a_given_start_takes_the_place_of_the_linear_stage(self, monkeypatch):
        stages = recorded(monkeypatch, deeds_published, "linear_stage")
        far = np.eye(4)
        far[:3, 3] = 500, -300, 200
        pair = gentle_pair()
        moving = Image(pair.moving.data, Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine))
        start = Affine(far)
        result = Deeds(DeedsConfig(compatible=True))(pair.fixed, moving, init=start, device="cpu")
        assert not stages
        assert error_mm(Affine.identity(), pair) > 8
        assert error_mm(start.inverse() @ result.fixed_to_moving, pair) < 5.5


def published_sides(pair, mr):
    """Both scans as they are, or as an MR scan would be: nothing below zero, most of it exactly that."""
    values = [image.data.astype(np.float32) for image in (pair.fixed, pair.moving)]
    if mr:
        values = [np.maximum(v + 500, 0) for v in values]
        assert (values[0] == 0).mean() > 0.2
    weight = np.ones(pair.fixed.grid.shape, np.float32)
    return [Side(Scan(v, weight, pair.fixed.grid), weight) for v in values]


@pytest.mark.parametrize("mr", [False, True], ids=["CT", "MR with zero background"])
@pytest.mark.parametrize(("model", "seed", "scale"), [("affine", 1, 0.08), ("rigid", 2, 0.0)])
def test_the_linear_stage_finds_a_known_map(model, seed, scale, mr):
    pair = pair_of(shape=(72, 60, 66), seed=seed, deformation_mm=0.0, scale=scale)
    matrix = linear_stage(DeedsConfig(), model, *published_sides(pair, mr))
    grid = pair.fixed.grid
    found = Affine(grid.affine @ matrix @ np.linalg.inv(grid.affine))
    before, after = (error_mm(t, pair) / grid.finest_mm for t in (Affine.identity(), found))
    assert before > 2.4
    assert after < 0.6
    if model == "rigid":
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("silent", [0, 1])
def test_each_direction_of_the_linear_stage_finds_the_map_alone(silent):
    pair = pair_of(shape=(72, 60, 66), seed=1, deformation_mm=0.0)
    sides = published_sides(pair, mr=True)
    sides[silent] = Side(sides[silent].scan, np.zeros_like(sides[silent].weight))
    matrix = linear_stage(DeedsConfig(), "affine", *sides)
    grid = pair.fixed.grid
    found = Affine(grid.affine @ matrix @ np.linalg.inv(grid.affine))
    assert error_mm(found, pair) / grid.finest_mm < 0.55


@pytest.mark.parametrize("value", [-1024.0, 0.0, 700.0])
@pytest.mark.parametrize("model", ["affine", "rigid"])
def test_the_linear_stage_leaves_empty_scans(model, value):
    weight = np.ones((40, 36, 38), np.float32)
    side = Side(Scan(np.full((1, 40, 36, 38), value, np.float32), weight, isotropic(weight.shape)), weight)
    np.testing.assert_array_equal(linear_stage(DeedsConfig(), model, side, side), np.eye(4))


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
        result = method(fixed, moving, device="cpu")
        for transform in (result.fixed_to_moving, result.moving_to_fixed):
            disp = transform.displacement_on(grid).disp_vox
            assert np.isfinite(disp).all()
            single = [n == 1 for n in shape]
            np.testing.assert_allclose(disp[single], 0, atol=1e-4)
            if fixed is empty:
                np.testing.assert_allclose(disp, 0, atol=1e-3)


def test_published_levels_are_those_of_the_lists():
    levels = DeedsConfig(compatible=True).levels(isotropic((161, 130, 112), 2.0))
    assert [level.cell for level in levels] == [(g,) * 3 for g in (8, 7, 6, 5, 4)]
    assert [level.cells for level in levels] == [(20, 16, 14), (23, 18, 16), (26, 21, 18), (32, 26, 22), (40, 32, 28)]
    assert [level.labels for level in levels] == [(n,) * 3 for n in (17, 15, 13, 11, 9)]
    assert [level.step for level in levels] == [(q,) * 3 for q in (5, 4, 3, 2, 1)]
    assert [level.stride for level in levels] == [(1, 2, 2)] * 4 + [(1, 1, 1)]
    assert [level.mind_step for level in levels] == [(q,) * 3 for q in (3, 3, 2, 2, 1)]
    np.testing.assert_array_equal([level.unit_vox for level in levels], np.repeat([[5], [4], [3], [2], [1]], 3, axis=1))
    # The first samples coincide, as in the files.
    np.testing.assert_allclose(levels[0].control.affine[:3, 3], 0)
    np.testing.assert_allclose(levels[0].control.spacing_mm, [2 * 161 / 20, 2 * 130 / 16, 16])


def test_our_levels_cover_the_scan_and_have_their_samples_in_the_middle():
    working = isotropic((161, 130, 112), 2.0)
    levels = DeedsConfig().levels(working)
    assert levels[0].cells == (21, 17, 14)
    assert levels[0].stride == (2, 2, 2)
    assert levels[-1].stride == (1, 1, 1)
    assert [level.mind_step for level in levels] == [(q,) * 3 for q in (3, 3, 2, 2, 1)]
    assert [level.labels for level in levels] == [(n,) * 3 for n in (17, 15, 13, 11, 9)]
    np.testing.assert_allclose(levels[0].control.affine[:3, 3], 2 * 3.5)
    np.testing.assert_allclose(levels[0].control.spacing_mm, 16)


def test_thick_slices_have_fewer_voxels_per_cell_and_step():
    working = Grid((120, 100, 24), affine_of(np.diag([-1.0, -1, 1]), (0.8, 0.8, 5), (0, 0, 0)))
    coarse, *_, fine = DeedsConfig().levels(working)
    assert coarse.cell == (8, 8, 1)
    assert coarse.step == (5, 5, 1)
    assert coarse.radius == (8, 8, 6)  # 40 voxels of 0.8 mm are six of 5 mm
    assert coarse.mind_step == (3, 3, 1)
    assert coarse.stride == (2, 2, 1)
    np.testing.assert_allclose(coarse.unit_vox, [5, 5, 0.8])
    assert fine.cell == (4, 4, 1)
    assert fine.radius == (4, 4, 1)
    assert fine.step == (1, 1, 1)
    np.testing.assert_allclose(fine.unit_vox, [1, 1, 0.16])


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("thickness", [7.0, 0.01])
def test_two_dimensions_are_searched_in_two(thickness, compatible):
    working = Grid((96, 80, 1), np.diag([1.5, 1.5, thickness, 1]))
    for level in DeedsConfig(compatible=compatible).levels(working):
        assert level.labels[2] == level.cells[2] == level.cell[2] == 1
        assert level.mind_step[2] == 0
        assert level.cell[:2] == (level.spacing,) * 2
        assert np.isfinite(np.array(level.step) / level.unit_vox).all()


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 1), (2, 40, 7)])
def test_cells_are_never_larger_than_the_scan(shape, compatible):
    for level in DeedsConfig(compatible=compatible).levels(isotropic(shape)):
        assert all(1 <= c <= n for c, n in zip(level.cell, shape, strict=True))
        assert all(m >= 1 and m * c <= n + c - 1 for m, c, n in zip(level.cells, level.cell, shape, strict=True))
        assert all((r > 0) == (n > 1) for r, n in zip(level.radius, shape, strict=True))


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
    rough, smooth = (
        Deeds(DeedsConfig(compatible=True, init="none", alpha=alpha, **SMALL))(pair.fixed, pair.moving, device="cpu")
        for alpha in (0.4, 25.6)
    )
    spread = [r.fixed_to_moving.jacobian_determinant(pair.fixed.grid).std() for r in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.slow
def test_an_abdominal_pair_reaches_the_published_overlap(shared_data):
    folder = shared_data / "abdomen_ct"
    fixed, moving = (read_image(folder / "images" / f"crlm{n}.nii.gz") for n in (1006, 1004))
    labels, others = (read_labels(folder / "labels" / f"crlm{n}.nii.gz") for n in (1006, 1004))
    result = Deeds(DeedsConfig(compatible=True))(fixed, moving, device="cpu")
    overlap = dice(labels, result.fixed_to_moving.warp_labels(others, fixed.grid, "nearest"))
    assert len(overlap) == 9
    assert np.mean(list(overlap.values())) > 0.69
