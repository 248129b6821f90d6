"""The linear start: what it finds, what it must not lose, and that it knows no fixed and no moving scan."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.linear_start import leads, linear_start, linear_start_bytes
from anamorph.methods.start.search import UNSHEARED
from anamorph.methods.working_frame import Scan
from anamorph.phantom import make_pair
from anamorph.transforms import Affine
from anamorph.transforms.affine import AffineParts
from geometries import affine_of

SHAPE = (40, 34, 36)


@pytest.fixture(scope="module")
def linear_pair():
    return make_pair(SHAPE, seed=1, deformation_mm=0.0, rotation_deg=8, scale=0.06)


@pytest.fixture(scope="module")
def rigid_pair():
    return make_pair(SHAPE, seed=2, deformation_mm=0.0, rotation_deg=10, scale=0, translation_mm=30)


def moved(image, matrix):
    """The same scan with a header that puts it somewhere else."""
    return type(image)(image.data, Grid(image.grid.shape, matrix @ image.grid.affine), image.name)


def turned(image, axis, angle_deg):
    """The same scan turned about its middle by its header."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(angle_deg) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    matrix[:3, 3] = image.grid.centre_mm - matrix[:3, :3] @ image.grid.centre_mm
    return moved(image, matrix), matrix


def run(fixed, moving, init="auto", fixed_mask=None, moving_mask=None):
    return linear_start(Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask), init)


def errors_vox(transform, pair, after=None):
    mapped = transform.map_world(pair.fixed_points.positions_mm)
    truth = pair.moving_points.positions_mm
    truth = truth if after is None else Affine(after).map_world(truth)
    return np.linalg.norm(mapped - truth, axis=1) / pair.fixed.grid.voxel_mm


def test_world_trusts_the_headers(linear_pair):
    found = run(linear_pair.fixed, linear_pair.moving, "world")
    np.testing.assert_array_equal(found.transform.matrix, np.eye(4))


def test_centres_brings_the_middles_together(linear_pair):
    far = moved(linear_pair.moving, affine_of(np.eye(3), (1, 1, 1), (800.0, -500.0, 300.0)))
    found = run(linear_pair.fixed, far, "centres").transform
    np.testing.assert_array_equal(found.matrix[:3, :3], np.eye(3))
    np.testing.assert_allclose(found.map_world(linear_pair.fixed.grid.centre_mm), far.grid.centre_mm)


def test_a_scan_and_itself_stay_where_they_are(linear_pair):
    found = run(linear_pair.fixed, linear_pair.fixed)
    np.testing.assert_array_equal(found.transform.matrix, np.eye(4))
    assert found.costs[-1] == pytest.approx(0, abs=1e-6)
    assert found.steps[0].startswith("found from world coordinates of the files (explains 1.00 of 1, 100 %")


@pytest.mark.parametrize("far", [np.zeros(3), np.array([3000.0, -2000.0, 5000.0])])
def test_an_affine_map_is_found_to_a_tenth_of_a_voxel(linear_pair, far):
    matrix = np.eye(4)
    matrix[:3, 3] = far
    assert errors_vox(Affine.identity(), linear_pair).mean() > 1.4
    found = run(linear_pair.fixed, moved(linear_pair.moving, matrix))
    assert errors_vox(found.transform, linear_pair, matrix).mean() < 0.1


def test_a_rigid_map_is_found_exactly_and_neither_scales_nor_shears(rigid_pair):
    linear = run(rigid_pair.fixed, rigid_pair.moving, "rigid").transform
    assert errors_vox(linear, rigid_pair).mean() < 0.1
    np.testing.assert_allclose(linear.matrix[:3, :3] @ linear.matrix[:3, :3].T, np.eye(3), atol=1e-6)
    assert np.linalg.det(linear.matrix) == pytest.approx(1)


def test_one_change_of_size_is_found_exactly_and_nothing_sheared(rigid_pair):
    larger = np.diag([1.12, 1.12, 1.12, 1.0])
    found = run(rigid_pair.fixed, moved(rigid_pair.moving, larger), "similarity").transform
    assert errors_vox(found, rigid_pair, larger).mean() < 0.1
    linear = found.matrix[:3, :3]
    size = np.cbrt(np.linalg.det(linear))
    assert size == pytest.approx(1.12, abs=0.005)
    np.testing.assert_allclose(linear @ linear.T, size**2 * np.eye(3), atol=1e-6)


def test_a_shift_is_found_exactly(linear_pair):
    shift = Affine.translation([11.3, -7.9, 16.1])
    found = run(linear_pair.fixed, moved(linear_pair.fixed, shift.matrix), "translation").transform
    np.testing.assert_array_equal(found.matrix[:3, :3], np.eye(3))
    # Both scans have the same voxels, so that nothing is left but rounding.
    assert np.abs(found.matrix[:3, 3] - shift.matrix[:3, 3]).max() < 0.05 * linear_pair.fixed.grid.voxel_mm


@pytest.mark.parametrize(("axis", "angle"), [((0, 0, 1), 90), ((1, -2, 0.5), 160)])
def test_a_scan_turned_by_any_angle_is_found(linear_pair, axis, angle):
    moving, matrix = turned(linear_pair.moving, axis, angle)
    found = run(linear_pair.fixed, moving)
    assert errors_vox(found.transform, linear_pair, matrix).mean() < 0.2
    assert any("turned by" in warning for warning in found.warnings)


def test_exchanging_the_scans_inverts_the_map(linear_pair):
    there = run(linear_pair.fixed, linear_pair.moving).transform
    back = run(linear_pair.moving, linear_pair.fixed).transform
    np.testing.assert_allclose(there.matrix @ back.matrix, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("short", ["fixed", "moving"])
def test_a_part_of_a_scan_finds_its_place_in_the_whole(rigid_pair, short):
    part = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(18, SHAPE[2]))
    pair = {"fixed": rigid_pair.fixed, "moving": rigid_pair.moving}
    pair[short] = pair[short].cropped(part)
    found = run(**pair)
    inside = rigid_pair.fixed_points.positions_mm, rigid_pair.moving_points.positions_mm
    seen = pair["fixed"].grid.contains(inside[0]) & pair["moving"].grid.contains(inside[1])
    assert seen.sum() >= 5
    assert errors_vox(found.transform, rigid_pair)[seen].mean() < 0.2


@pytest.mark.parametrize("value", ["lowest", -2000.0])
def test_margins_of_padding_change_nothing(rigid_pair, value):
    fill = float(rigid_pair.moving.data.min()) if value == "lowest" else value
    margin = ((0, 0), (16, 4), (0, 24), (10, 10))
    affine = rigid_pair.moving.grid.affine.copy()
    affine[:3, 3] = rigid_pair.moving.grid.voxel_to_world([-16, 0, -10])
    data = np.pad(rigid_pair.moving.data, margin, constant_values=fill)
    padded = Image(data, Grid(data.shape[1:], affine))
    assert errors_vox(run(rigid_pair.fixed, padded).transform, rigid_pair).mean() < 0.2


def test_what_a_mask_hides_does_not_lead(rigid_pair):
    data = rigid_pair.moving.data.copy()
    data[:, :12] = 700.0
    weight = np.ones(rigid_pair.moving.grid.shape, np.float32)
    weight[:13] = 0
    mask = Mask(weight, rigid_pair.moving.grid)
    found = run(rigid_pair.fixed, rigid_pair.moving.with_data(data), moving_mask=mask)
    assert errors_vox(found.transform, rigid_pair).mean() < 0.3


@pytest.mark.parametrize("edge", [12, 24])
def test_a_scan_does_not_lead_with_the_empty_corners_of_a_larger_box(linear_pair, edge):
    """A scan with a little less of the body in a box of several times the size, as one that was turned."""
    plain = Scan.prepare(linear_pair.fixed, None)
    ends = ((edge, edge),) * 3
    weight = np.pad(plain.weight, ends)
    weight[:, :, : edge + 1] = 0
    affine = plain.grid.affine.copy()
    affine[:3, 3] = plain.grid.voxel_to_world([-edge] * 3)
    grid = Grid(weight.shape, affine)
    turned = Scan(np.pad(plain.channels, ((0, 0), *ends)), weight, grid)
    assert turned.weight.sum() < plain.weight.sum()
    assert leads(plain, turned)
    assert not leads(turned, plain)


@pytest.mark.parametrize("shift", [(7.0, -7.0, 6.6), (0.0, 0.0, 12.0)])
def test_a_body_that_looks_alike_from_any_side_is_not_turned(shift):
    """Two plain balls whose headers have lost everything: a rotation explains as much as none."""
    place = 2.0 * (np.indices((40, 40, 40)) - 19.5)
    rng = np.random.default_rng(0)
    balls = []
    for middle in (np.zeros(3), np.array(shift)):
        away = np.linalg.norm(place - middle[:, None, None, None], axis=0)
        values = 100 / (1 + np.exp((away - 24) / 2)) + 2 * rng.standard_normal(away.shape)
        balls.append(Image(values[None].astype(np.float32), Grid(away.shape, np.diag([2.0, 2.0, 2.0, 1.0]))))
    found = AffineParts.of(run(*balls).transform, balls[0].grid.centre_mm)
    assert found.turn_deg < 5
    assert np.allclose(found.shift_mm, shift, atol=1.5)


@pytest.mark.parametrize("init", ["translation", "rigid", "similarity", "affine", "any-pose"])
def test_scans_without_structure_give_a_finite_map(init):
    grid = Grid((20, 18, 16), np.diag([2.0, 2.0, 2.0, 1.0]))
    flat = Image(np.zeros(grid.shape, np.float32), grid)
    found = run(flat, flat, init)
    np.testing.assert_allclose(found.transform.matrix, np.eye(4), atol=1e-6)


def test_a_detail_is_found_in_a_far_larger_scan():
    wide = cube(64, 4.0, 3)
    grid = Grid((30, 30, 30), Affine.translation([18.0, -27.0, 30.0]).matrix @ cube(30, 1.5, 0).grid.affine)
    seen = Affine.identity().warp_image(wide, grid)
    assert np.linalg.norm(run(seen, wide, "translation").transform.matrix[:3, 3]) < 3.0


@pytest.mark.parametrize("init", ["any-pose", "world"])
def test_the_start_needs_no_more_memory_than_foreseen(init):
    small, large = cube(24, 1.0, 0), cube(48, 20.0, 1)
    scans = Scan.prepare(small, None), Scan.prepare(large, None)
    linear_start(scans[0], scans[0], "affine")  # kernels and modules are no part of it
    tracemalloc.start()
    try:
        linear_start(*scans, init)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used < linear_start_bytes(small.grid, large.grid, init) + 2_000_000


@pytest.mark.parametrize(("voxels", "spacing"), [(24, 1.0), (50, 2.0), (40, 7.5), (48, 20.0), (500, 2.0)])
def test_the_memory_is_bounded_however_large_the_moving_scan(voxels, spacing):
    grids = [Grid((n,) * 3, np.diag([s, s, s, 1.0])) for n, s in ((24, 1.0), (voxels, spacing))]
    assert 1e7 < linear_start_bytes(*grids, "auto") == linear_start_bytes(*reversed(grids), "auto") < 600_000_000


def cube(voxels, spacing, seed):
    """Smooth noise around the origin."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((voxels,) * 3), 2)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (voxels - 1) / 2
    return Image((values - values.min()).astype(np.float32), Grid(values.shape, affine))


def test_bodies_of_another_size_are_not_sheared_unless_that_explains_clearly_more(rigid_pair):
    grown, stretched = np.diag([1.35, 1.35, 1.35, 1.0]), np.diag([1.6, 1.35, 1.15, 1.0])
    found = run(rigid_pair.fixed, moved(rigid_pair.moving, grown), "affine")
    linear = found.transform.matrix[:3, :3]
    assert UNSHEARED in found.steps
    np.testing.assert_allclose(linear @ linear.T, np.cbrt(np.linalg.det(linear)) ** 2 * np.eye(3), atol=1e-6)
    assert errors_vox(found.transform, rigid_pair, grown).mean() < 0.1
    other = run(rigid_pair.fixed, moved(rigid_pair.moving, stretched), "affine")
    assert UNSHEARED not in other.steps
    assert errors_vox(other.transform, rigid_pair, stretched).mean() < 0.1
