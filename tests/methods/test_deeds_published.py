from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from anamorph.evaluation import dice, inverse_consistency_mm
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.image.read import read_image, read_labels
from anamorph.methods.base import Pair, Run
from anamorph.methods.deeds import Deeds, DeedsConfig, dense_search, published
from anamorph.methods.deeds.dense_search import DeedsFrame
from anamorph.methods.deeds.levels import DeedsLevel
from anamorph.methods.deeds.published import linear_stage
from anamorph.methods.working_frame import Scan, Side
from anamorph.testing.pairs import GRID_PAIRS, apart_vox, error_mm, gentle_pair, pair_of
from anamorph.transforms import Affine
from anamorph.transforms.files import read_transform, write_transform
from geometries import isotropic, rotation
from recorded import recorded

SMALL = {"grid_spacing": (6, 4, 3), "search_radius": (4, 3, 2), "quantisation": (2, 1, 1)}


def corner_rule(field, shape):
    """``(3, *cells)`` brought to all voxels as published: sample a of m1 sits at voxel a m / m1."""
    places = np.indices(shape) * np.reshape([c / n for c, n in zip(field.shape[1:], shape, strict=True)], (3, 1, 1, 1))
    return np.stack([map_coordinates(u.astype(float), places, order=1, mode="nearest") for u in field])


def linear(matrix, positions):
    return np.tensordot(matrix[:3, :3], positions, 1) + matrix[:3, 3].reshape(3, 1, 1, 1)


class TestCompatible:
    """The conventions of the published program."""

    def test_the_maps_are_the_sum_of_a_matrix_and_a_field(self, monkeypatch, tmp_path):
        pair = pair_of(shape=(49, 42, 45), seed=3)
        matrices = recorded(monkeypatch, published, "linear_stage")
        fields = recorded(monkeypatch, dense_search, "inverse_consistent")
        result = Deeds(DeedsConfig(compatible=True))(Pair(pair.fixed, pair.moving), Run("cpu"))
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
            side, side, scan, Affine(matrix), (level,), turn=np.linalg.inv(matrix[:3, :3])
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
        result = Deeds(DeedsConfig(compatible=True))(Pair(pair.fixed, moving), Run("cpu"))
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
            Deeds(DeedsConfig(compatible=True))(Pair(*scans, **masks), Run("cpu")).fixed_to_moving
            for scans in ((pair.fixed, pair.moving), garbage)
        )
        assert apart_vox(clean, dirty, pair.fixed.grid) < 1e-3

    def test_a_given_start_takes_the_place_of_the_linear_stage(self, monkeypatch):
        stages = recorded(monkeypatch, published, "linear_stage")
        far = np.eye(4)
        far[:3, 3] = 500, -300, 200
        pair = gentle_pair()
        moving = Image(pair.moving.data, Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine))
        start = Affine(far)
        result = Deeds(DeedsConfig(compatible=True))(Pair(pair.fixed, moving, start=start), Run("cpu"))
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


@pytest.mark.slow
def test_an_abdominal_pair_reaches_the_published_overlap(shared_data):
    folder = shared_data / "abdomen_ct"
    fixed, moving = (read_image(folder / "images" / f"crlm{n}.nii.gz") for n in (1006, 1004))
    labels, others = (read_labels(folder / "labels" / f"crlm{n}.nii.gz") for n in (1006, 1004))
    result = Deeds(DeedsConfig(compatible=True))(Pair(fixed, moving), Run("cpu"))
    overlap = dice(labels, result.fixed_to_moving.warp_labels(others, fixed.grid, "nearest"))
    assert len(overlap) == 9
    assert np.mean(list(overlap.values())) > 0.69
