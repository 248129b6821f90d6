from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.geometry import Grid
from geometries import GRIDS, SHEARED, points_inside


@pytest.mark.parametrize("grid", [*GRIDS.values(), SHEARED])
def test_voxel_and_world_are_inverse(grid: Grid) -> None:
    points = points_inside(grid)
    np.testing.assert_allclose(grid.voxel_to_world(grid.world_to_voxel(points)), points, atol=1e-9)
    np.testing.assert_allclose(grid.voxel_to_world([1, 2, 3]), grid.affine[:3] @ [1, 2, 3, 1])


def test_properties() -> None:
    grid = GRIDS["anisotropic"]
    np.testing.assert_allclose(grid.spacing_mm, [0.8, 0.8, 5])
    assert grid.orientation == "LPS"
    assert GRIDS["permuted"].orientation == "ASR"
    np.testing.assert_allclose(grid.centre_mm, [100 - 8, 80 - 6.8, -300 + 35])
    assert grid.obliqueness_deg == pytest.approx(0)
    assert 20 < GRIDS["oblique"].obliqueness_deg < 50
    assert not any(one.is_sheared for one in GRIDS.values())
    assert SHEARED.is_sheared
    assert "21 x 18 x 15" in repr(grid)
    assert "LPS" in repr(grid)


def test_voxel_to_voxel_keeps_the_world_position() -> None:
    matrix = GRIDS["oblique"].voxel_to_voxel(GRIDS["flipped"])
    vox = np.array([3.0, 4, 5])
    world = GRIDS["flipped"].voxel_to_world((matrix @ [*vox, 1])[:3])
    np.testing.assert_allclose(world, GRIDS["oblique"].voxel_to_world(vox))


@pytest.mark.parametrize("factors", [(2, 2, 2), (4, 3, 1), (5, 5, 5)])
def test_pooled_cells_lie_at_the_mean_of_their_voxels(factors: tuple[int, int, int]) -> None:
    grid = GRIDS["oblique"]
    pooled = grid.pooled(factors)
    assert pooled.shape == tuple(-(-n // f) for n, f in zip(grid.shape, factors, strict=True))
    cell = np.array([2, 1, 1])
    voxels = np.argwhere(np.ones(factors)) + cell * factors
    np.testing.assert_allclose(pooled.voxel_to_world(cell), grid.voxel_to_world(voxels).mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(pooled.spacing_mm, grid.spacing_mm * factors)


@pytest.mark.parametrize("spacing", [1.0, 2.3, (0.5, 3, 4)])
def test_resampled_keeps_centre_and_covers(spacing: float) -> None:
    grid = GRIDS["oblique"]
    out = grid.resampled(spacing)
    np.testing.assert_allclose(out.spacing_mm, np.broadcast_to(spacing, 3))
    np.testing.assert_allclose(out.centre_mm, grid.centre_mm, atol=1e-9)
    assert out.contains(grid.corners_mm(), margin_vox=0.5 + 1e-6).all()
    assert not out.contains(grid.corners_mm() + 1.01 * (grid.corners_mm() - grid.centre_mm)).any()


def test_resampled_leaves_single_slices_alone() -> None:
    flat = Grid((30, 20, 1), np.diag([1, 1, 6, 1]))
    out = flat.resampled(2.0)
    assert out.shape == (15, 10, 1)
    np.testing.assert_allclose(out.spacing_mm, [2, 2, 6])
    np.testing.assert_allclose(out.centre_mm, flat.centre_mm)
    assert flat.is_2d


def test_contains_goes_to_the_outer_voxel_faces() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    assert grid.contains([-0.5, 3.5, 0]).all()
    assert not grid.contains([-0.51, 0, 0]).any()


def test_matches_within_a_tolerance() -> None:
    grid = GRIDS["oblique"]
    near = grid.affine.copy()
    near[0, 3] += 5e-4
    far = grid.affine.copy()
    far[:3, :3] *= 1.001
    assert grid.matches(Grid(grid.shape, near))
    assert not grid.matches(Grid(grid.shape, far))
    assert grid.corner_distance_mm(Grid(grid.shape, near)) == pytest.approx(5e-4)
    assert not grid.matches(Grid((21, 18, 14), grid.affine))
    assert grid == Grid(grid.shape, grid.affine.copy())
    assert hash(grid) == hash(Grid(grid.shape, grid.affine.copy()))
    assert grid != GRIDS["flipped"]


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((3, 3), np.eye(4), "three axes"),
        ((3, 0, 3), np.eye(4), "at least one voxel"),
        ((3, 3, 3), np.eye(3), "4x4"),
        ((3, 3, 3), np.full((4, 4), np.nan), "finite"),
        ((3, 3, 3), np.diag([1, 0, 1, 1]), "singular"),
        ((3, 3, 3), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Grid(shape, affine)
