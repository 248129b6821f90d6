from __future__ import annotations

import numpy as np
import pytest

from anamorph.features.intensity import prepared_channels
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.working_frame import Scan, body_weight, covering_grid
from geometries import GRIDS, SHEARED, other_grid, small_affine, textured_image

EVERY_GRID = {**GRIDS, "sheared": SHEARED}


def half_mask(grid):
    weight = np.zeros(grid.shape, np.float32)
    weight[: grid.shape[0] // 2] = 1
    return Mask(weight, grid)


def test_what_lies_outside_a_mask_does_not_enter():
    image = textured_image(GRIDS["oblique"])
    garbage = image.data.copy()
    garbage[:, image.grid.shape[0] // 2 :] = 1e4 * np.random.default_rng(0).standard_normal(garbage[:, 10:].shape)
    clean, dirty = (Scan.prepare(image.with_data(data), half_mask(image.grid)) for data in (image.data, garbage))
    np.testing.assert_array_equal(clean.channels, dirty.channels)
    np.testing.assert_array_equal(clean.weight, half_mask(image.grid).data[0])
    np.testing.assert_array_equal(clean.channels[:, -1], clean.channels[:, image.grid.shape[0] // 2 - 1])


def test_without_a_mask_all_counts():
    image = textured_image(GRIDS["identity"])
    scan = Scan.prepare(image, None)
    np.testing.assert_array_equal(scan.channels, prepared_channels(image))
    assert (scan.weight == 1).all()
    assert scan.onto(image.grid) is scan


@pytest.mark.parametrize("name", EVERY_GRID)
def test_reading_on_another_grid_is_warping(name):
    grid = EVERY_GRID[name]
    scan = Scan.prepare(textured_image(grid), None)
    target, transform = other_grid(grid), small_affine(grid)
    read = scan.onto(target, transform)
    expected = transform.warp_image(Image(scan.channels, grid), target, background=-9.0)
    seen = expected.data[0] != -9
    np.testing.assert_allclose(read.channels[:, seen], expected.data[:, seen], atol=1e-4)
    np.testing.assert_array_equal(read.weight > 0, seen)


def test_a_coarser_grid_reads_averages():
    fine = Grid((24, 20, 16), np.eye(4))
    scan = Scan.prepare(Image(np.random.default_rng(0).random(fine.shape).astype(np.float32), fine), None)
    coarse = scan.onto(fine.pooled((2, 2, 2)))
    blocks = scan.channels[0].reshape(12, 2, 10, 2, 8, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse.channels[0], blocks, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_GRID)
@pytest.mark.parametrize("axes", EVERY_GRID)
def test_a_covering_grid_covers_in_any_direction(name, axes):
    grid, directions = EVERY_GRID[name], EVERY_GRID[axes].directions
    covering = covering_grid(grid, directions, 1.7)
    np.testing.assert_allclose(covering.spacing_mm, 1.7)
    np.testing.assert_allclose(covering.directions, directions, atol=1e-12)
    assert covering.contains(grid.corners_mm(), margin_vox=0.5 + 1e-6).all()
    # No larger than it must be: less than a voxel to spare along each axis.
    corners = covering.world_to_voxel(grid.corners_mm())
    assert (corners.max(axis=0) - corners.min(axis=0) > np.array(covering.shape) - 1 - 1e-6).all()


def test_a_slice_is_covered_by_a_slice():
    grid = Grid((30, 20, 1), np.diag([1.0, 1.0, 6.0, 1.0]))
    covering = covering_grid(grid, grid.directions, 2.0)
    assert covering.shape == (15, 10, 1)
    np.testing.assert_allclose(covering.spacing_mm, (2, 2, 6))


def test_air_far_from_the_body_is_turned_down():
    grid = Grid((30, 12, 12), np.diag([2.0, 2.0, 2.0, 1.0]))
    hu = np.full(grid.shape, -1000, np.float32)
    hu[:10] = 140
    scan = Scan.prepare(Image(hu, grid), None)
    weight = body_weight(scan, True, 6.0, 0.1)
    np.testing.assert_allclose(weight[:12], 1)
    np.testing.assert_allclose(weight[20:], 0.1)
    assert body_weight(scan, False, 6.0, 0.1) is scan.weight
