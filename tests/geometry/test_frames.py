from __future__ import annotations

import numpy as np
import torch

from anamorph.geometry.frames import (
    flip_affine_ras_lps,
    flip_map_ras_lps,
    flip_ras_lps,
    to_grid_sample_order,
    voxel_to_normalised,
)
from geometries import GRIDS, rotation


def test_the_flip_negates_left_right_and_front_back_and_undoes_itself() -> None:
    points = np.array([[1.0, 2, 3], [-4, 5, -6]])
    np.testing.assert_array_equal(flip_ras_lps(points), [[-1, -2, 3], [4, -5, -6]])
    np.testing.assert_array_equal(flip_ras_lps(flip_ras_lps(points)), points)
    assert flip_ras_lps(points.astype(np.float32)).dtype == np.float32


def test_affines_and_maps_flip_with_their_points() -> None:
    grid = GRIDS["oblique"]
    vox = np.array([3.0, 1, 4])
    lps = (flip_affine_ras_lps(grid.affine) @ [*vox, 1])[:3]
    np.testing.assert_allclose(lps, flip_ras_lps(grid.voxel_to_world(vox)))
    ras_map = np.eye(4)
    ras_map[:3, :3], ras_map[:3, 3] = rotation((10, 20, 30)), (1, 2, 3)
    mapped = (flip_map_ras_lps(ras_map) @ [*lps, 1])[:3]
    np.testing.assert_allclose(flip_ras_lps(mapped), (ras_map @ [*grid.voxel_to_world(vox), 1])[:3])


def test_normalised_coordinates_put_the_ends_on_voxel_centres() -> None:
    shape = (5, 9, 1)
    points = np.array([[0.0, 0, 0], [4, 8, 0], [2, 4, 0]])
    expected = np.array([[-1.0, -1, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(voxel_to_normalised(points, shape), expected)
    np.testing.assert_allclose(voxel_to_normalised(torch.from_numpy(points), shape).numpy(), expected)


def test_grid_sample_wants_the_last_axis_first() -> None:
    array = np.array([[1.0, 2, 3]])
    np.testing.assert_array_equal(to_grid_sample_order(array), [[3, 2, 1]])
    np.testing.assert_array_equal(to_grid_sample_order(torch.from_numpy(array)).numpy(), [[3, 2, 1]])
