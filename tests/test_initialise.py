from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from anamorph.features.descriptor import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.initialise import initialise, initialise_bytes
from anamorph.methods.working_frame import Scan
from anamorph.phantom import make_pair
from anamorph.transforms import Affine
from geometries import affine_of, rotation

SETTINGS = DescriptorSettings(1, 1, 3.0)
SHAPE = (52, 44, 48)


@pytest.fixture(scope="module")
def linear_pair():
    return make_pair(SHAPE, seed=1, deformation_mm=0.0, rotation_deg=8, scale=0.06)


@pytest.fixture(scope="module")
def shifted_pair():
    return make_pair(SHAPE, seed=2, deformation_mm=0.0, rotation_deg=0, scale=0, translation_mm=30)


def moved(image, matrix):
    """The same scan with a header that puts it somewhere else."""
    return Image(image.data, Grid(image.grid.shape, matrix @ image.grid.affine), image.name)


def run(fixed, moving, model, kind="ct"):
    return initialise(Scan.prepare(fixed, None), Scan.prepare(moving, None), kind, model, SETTINGS)


def errors_mm(transform, pair, after=None):
    mapped = transform.map_world(pair.fixed_points.positions_mm)
    truth = pair.moving_points.positions_mm
    return np.linalg.norm(mapped - (truth if after is None else Affine(after).map_world(truth)), axis=1)


def test_none_trusts_the_headers(linear_pair):
    found = run(linear_pair.fixed, linear_pair.moving, "none")
    np.testing.assert_array_equal(found.transform.matrix, np.eye(4))


@pytest.mark.parametrize("far", [np.zeros(3), np.array([3000.0, -2000.0, 5000.0])])
def test_scans_without_common_world_are_brought_together(shifted_pair, far):
    matrix = np.eye(4)
    matrix[:3, 3] = far
    found = run(shifted_pair.fixed, moved(shifted_pair.moving, matrix), "translation")
    np.testing.assert_array_equal(found.transform.matrix[:3, :3], np.eye(3))
    # To half a voxel of the search, which has 40 along the longest axis, per axis.
    assert errors_mm(found.transform, shifted_pair, matrix).max() < 0.5 * np.sqrt(3) * 380 / 40


def test_an_affine_map_is_found(linear_pair):
    before = errors_mm(Affine.identity(), linear_pair).mean()
    found = run(linear_pair.fixed, linear_pair.moving, "affine")
    assert before > 12
    assert errors_mm(found.transform, linear_pair).mean() < 4.8
    assert found.costs[-1] < 0.6 * found.costs[0]
    assert len(found.steps) == len(found.costs) > 1


def test_a_rigid_map_neither_scales_nor_shears(linear_pair):
    found = run(linear_pair.fixed, linear_pair.moving, "rigid")
    linear = found.transform.matrix[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(linear) == pytest.approx(1)
    assert errors_mm(found.transform, linear_pair).mean() < 8


def test_a_turned_and_far_away_scan(linear_pair):
    matrix = affine_of(rotation((0, 0, 12)), (1, 1, 1), (800.0, -500.0, 300.0))
    found = run(linear_pair.fixed, moved(linear_pair.moving, matrix), "affine")
    assert errors_mm(found.transform, linear_pair, matrix).mean() < 8


@pytest.mark.parametrize("model", ["translation", "rigid", "affine"])
def test_scans_without_structure_give_a_finite_map(model):
    grid = Grid((20, 18, 16), np.diag([2.0, 2.0, 2.0, 1.0]))
    flat = Image(np.zeros(grid.shape, np.float32), grid)
    found = run(flat, flat, model, "scaled")
    np.testing.assert_allclose(found.transform.matrix, np.eye(4), atol=1e-6)


@pytest.mark.parametrize(("voxels", "spacing"), [(24, 1.0), (50, 2.0), (40, 7.5), (48, 20.0)])
def test_the_start_needs_no_more_memory_than_foreseen_however_large_the_moving_scan(voxels, spacing):
    small, large = cube(24, 1.0, 0), cube(voxels, spacing, 1)
    scans = Scan.prepare(small, None), Scan.prepare(large, None)
    initialise(scans[0], scans[0], "scaled", "affine", SETTINGS)  # kernels and modules are no part of it
    tracemalloc.start()
    try:
        initialise(*scans, "scaled", "affine", SETTINGS)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    foreseen = initialise_bytes(small.grid, large.grid)
    assert used < foreseen + 2_000_000
    assert foreseen < 400_000_000


def test_a_detail_is_found_in_a_far_larger_scan():
    wide = cube(64, 4.0, 3)
    at = np.array([18.0, -27.0, 30.0])
    grid = Grid((30, 30, 30), Affine.translation(at).matrix @ cube(30, 1.5, 0).grid.affine)
    seen = Affine.identity().warp_image(wide, grid)
    assert np.linalg.norm(run(seen, wide, "translation", "scaled").transform.matrix[:3, 3]) < 3.0


def cube(voxels, spacing, seed):
    """Smooth noise around the origin."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((voxels,) * 3), 2)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (voxels - 1) / 2
    return Image((values - values.min()).astype(np.float32), Grid(values.shape, affine))
