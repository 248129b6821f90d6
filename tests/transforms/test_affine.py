from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.image import Points
from anamorph.transforms import Affine, Composite
from geometries import GRIDS, SHEARED, points_inside, small_affine


def test_points_are_mapped_by_the_matrix() -> None:
    affine = Affine([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    np.testing.assert_allclose(affine.apply_points(np.array([[1.0, 2, 3]])), [[3, 7, 13]])
    np.testing.assert_allclose(affine.apply_points(np.array([[-1.0, -2, 3]]), frame="lps"), [[-3, -7, 13]])
    named = affine.apply_points(Points([[1.0, 2, 3]], ("a",)))
    assert named.labels == ("a",)
    np.testing.assert_allclose(named.positions_mm, [[3, 7, 13]])


@pytest.mark.parametrize("grid", [*GRIDS.values(), SHEARED])
def test_voxel_positions_agree_with_world_points(grid) -> None:
    affine = small_affine(grid)
    positions = affine.positions_on(grid).reshape(3, -1).T
    centres = grid.voxel_to_world(np.argwhere(np.ones(grid.shape)))
    np.testing.assert_allclose(grid.voxel_to_world(positions), affine.map_world(centres), atol=2e-4)


def test_inverse_and_composition() -> None:
    a, b = small_affine(GRIDS["oblique"], 1), small_affine(GRIDS["flipped"], 2)
    points = points_inside(GRIDS["oblique"])
    np.testing.assert_allclose(a.inverse().map_world(a.map_world(points)), points, atol=1e-9)
    both = a @ b
    assert isinstance(both, Affine)
    np.testing.assert_allclose(both.map_world(points), a.map_world(b.map_world(points)))
    assert isinstance(Composite.of(a, b, a), Affine)


def test_scaling_changes_volume_by_its_cube() -> None:
    scaling = Affine(np.diag([1.2, 1.2, 1.2, 1]))
    for grid in (GRIDS["oblique"], SHEARED):
        np.testing.assert_allclose(scaling.jacobian_determinant(grid), 1.728, rtol=1e-3)
    mirror = Affine(np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_allclose(mirror.jacobian_determinant(GRIDS["oblique"]), -1, rtol=1e-3)


@pytest.mark.parametrize(
    "matrix", [np.eye(3), np.diag([1, 1, 0, 1]), np.full((4, 4), np.inf), np.vstack([np.eye(4)[:3], [0, 0, 1, 1]])]
)
def test_impossible_matrices_are_refused(matrix: np.ndarray) -> None:
    with pytest.raises(UserError):
        Affine(matrix)
