from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.transforms import Affine, Composite, Displacement, Transform, invert
from anamorph.transforms.inversion import affine_part, invert_by_fixed_point
from geometries import GRIDS, SHEARED, other_grid, rotation, small_affine, smooth_field

GRID = GRIDS["oblique"]


def strong_affine() -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((20, -30, 35)) @ np.diag([1.3, 0.7, 1.1])
    matrix[:3, 3] = GRID.centre_mm - matrix[:3, :3] @ GRID.centre_mm + [9, -7, 5]
    return Affine(matrix)


TRANSFORMS = {
    "field": smooth_field(GRID),
    "sheared": smooth_field(SHEARED),
    "strong affine, then field": Composite.of(strong_affine(), smooth_field(GRID)),
    "field, then strong affine": Composite.of(smooth_field(GRID), strong_affine()),
    "strong affine within one field": Composite.of(strong_affine(), smooth_field(GRID)).displacement_on(GRID),
    "two fields": Composite.of(smooth_field(GRID), small_affine(GRID), smooth_field(other_grid(GRID), 0.5, 7)),
    "affine": strong_affine(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_inverse_leads_back(name: str) -> None:
    transform: Transform = TRANSFORMS[name]
    grid = SHEARED if name == "sheared" else other_grid(GRID)
    inversion = invert(transform, grid)
    assert inversion.residual_mm.shape == grid.shape
    assert inversion.residual_mm.max() < 0.02
    # The residual is what it says: y against phi(inverse(y)), computed in double precision.
    y = grid.voxel_to_world(np.argwhere(np.ones(grid.shape)))
    there_and_back = transform.map_world(inversion.transform.map_world(y))
    measured = np.linalg.norm(there_and_back - y, axis=1)
    np.testing.assert_allclose(measured, inversion.residual_mm.ravel(), atol=2e-3)


def test_newton_equals_its_readable_twin() -> None:
    transform, grid = TRANSFORMS["strong affine, then field"], other_grid(GRID)
    fast = invert(transform, grid, tolerance_mm=1e-3)
    twin = invert_by_fixed_point(transform, grid, tolerance_mm=1e-3)
    both = (fast.residual_mm < 2e-3) & (twin.residual_mm < 2e-3)
    assert both.mean() > 0.99
    apart = np.linalg.norm(fast.transform.vectors_mm() - twin.transform.vectors_mm(), axis=0)
    assert apart[both].max() < 0.02


def test_a_fold_is_reported_and_spoils_only_its_surroundings() -> None:
    grid = Grid((40, 12, 12), np.eye(4))
    disp = np.zeros((3, *grid.shape), np.float32)
    disp[0] = (
        -6 * np.exp(-(((np.arange(40) - 20) / 3) ** 2))[:, None, None] * np.sign(np.arange(40) - 19.5)[:, None, None]
    )
    field = Displacement(disp, grid)
    assert field.jacobian_determinant().min() < 0
    residual = invert(field, grid).residual_mm
    assert residual[:8].max() < 0.02
    assert residual[-8:].max() < 0.02
    assert np.isfinite(residual).all()


def test_a_tear_is_bridged() -> None:
    grid = Grid((30, 6, 6), np.eye(4))
    disp = np.zeros((3, *grid.shape), np.float32)
    disp[0, 15:] = 4  # one voxel is stretched to five, where plain Newton jumps to and fro
    assert invert(Displacement(disp, grid), grid).residual_mm.max() < 0.02


def test_where_nothing_is_mapped_to_the_residual_says_so() -> None:
    grid = Grid((30, 6, 6), np.eye(4))
    disp = np.zeros((3, *grid.shape), np.float32)
    disp[0] = 0.999 * (15 - np.arange(30))[:, None, None]  # nearly everything lands in one plane
    residual = invert(Displacement(disp, grid), grid).residual_mm
    assert residual[15].max() < 0.02
    assert np.isfinite(residual).all()


@pytest.mark.parametrize("shape", [(20, 16, 1), (1, 16, 12)])
def test_planes_invert_within_themselves(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, np.diag([1.0, 2, 3, 1]))
    field = smooth_field(grid)
    flat = shape.index(1)
    disp = field.disp_vox.copy()
    disp[flat] = 0
    inversion = invert(Displacement(disp, grid), grid)
    assert inversion.residual_mm.max() < 0.02
    assert np.abs(inversion.transform.disp_vox[flat]).max() < 1e-5


def test_the_affine_part_of_an_affine_field_is_that_affine() -> None:
    affine = small_affine(GRID)
    expected = np.linalg.inv(GRID.affine) @ affine.matrix @ GRID.affine
    np.testing.assert_allclose(affine_part(affine.displacement_on(GRID), GRID), expected, atol=1e-4)
    np.testing.assert_allclose(affine_part(affine, GRID), expected, atol=1e-9)
