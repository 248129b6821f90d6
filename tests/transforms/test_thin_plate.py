from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.transforms import Affine
from anamorph.transforms.thin_plate import ThinPlate
from geometries import affine_of, rotation

GRID = Grid((20, 18, 16), affine_of(rotation((5, -8, 12)), (6, 7, 8), (-60, -50, -40)))


def scattered(count: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(seed).uniform(-60, 60, (count, 3))
    return points, 6 * np.sin(points[:, [1, 2, 0]] / 30)


@pytest.mark.parametrize("kernel", ["r", "r2logr"])
def test_points_go_where_they_are_told(kernel):
    points, moves = scattered()
    exact = ThinPlate(points, moves, kernel, smoothing=0.0)
    np.testing.assert_allclose(exact.map_world(points), points + moves, atol=1e-6)
    stiff = ThinPlate(points, moves, kernel, smoothing=1.0)
    assert 0.5 < np.abs(stiff.map_world(points) - points - moves).max() < 12


@pytest.mark.parametrize("kernel", ["r", "r2logr"])
def test_an_affine_map_is_found_everywhere(kernel):
    points, _ = scattered(40)
    true = Affine(np.array([[1.1, 0.05, 0, 3], [-0.1, 0.9, 0.02, -4], [0, 0.1, 1, 2], [0, 0, 0, 1.0]]))
    spline = ThinPlate(points, true.map_world(points) - points, kernel, smoothing=0.1)
    far = np.random.default_rng(1).uniform(-200, 200, (50, 3))
    np.testing.assert_allclose(spline.map_world(far), true.map_world(far), atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_biharmonic_spline_is_that_of_scipy(smoothing):
    points, moves = scattered()
    spline = ThinPlate(points, moves, "r", smoothing, metric=np.eye(3))
    elsewhere, _ = scattered(80, seed=5)
    expected = RBFInterpolator(points, moves, smoothing=smoothing, kernel="linear", degree=1)(elsewhere)
    np.testing.assert_allclose(spline.map_world(elsewhere) - elsewhere, expected, atol=1e-6)


def test_the_published_kernel_is_used_as_published():
    points, moves = scattered(60)
    metric = np.diag([1 / 60, 1 / 50, 1 / 40])
    spline = ThinPlate(points, moves, "r2logr", 1e-3, metric)
    # As published: normalised coordinates, lambda on the diagonal, [1, x] beside the kernel.
    x = points @ metric
    r = np.linalg.norm(x[:, None] - x, axis=2)
    p = np.column_stack([np.ones(60), x])
    system = np.block([[r**2 * np.log(r + 1e-6) + 1e-3 * np.eye(60), p], [p.T, np.zeros((4, 4))]])
    solution = np.linalg.solve(system, np.concatenate([moves, np.zeros((4, 3))]))
    at = scattered(30, seed=7)[0]
    r = np.linalg.norm((at @ metric)[:, None] - x, axis=2)
    expected = np.column_stack([r**2 * np.log(r + 1e-6), np.ones(30), at @ metric]) @ solution
    np.testing.assert_allclose(spline.map_world(at) - at, expected, atol=1e-6)


def test_a_field_on_a_grid_is_the_spline_at_its_voxels():
    spline = ThinPlate(*scattered())
    field = spline.displacement_on(GRID)
    places = GRID.voxel_to_world(np.argwhere(np.ones(GRID.shape)))
    moves = spline.map_world(places) - places
    np.testing.assert_allclose(field.vectors_mm().reshape(3, -1).T, moves, atol=1e-3)


def test_there_and_back():
    points, moves = scattered()
    spline = ThinPlate(points, moves / 3, smoothing=1e-2)
    inside = points[np.abs(points).max(axis=1) < 45]
    apart = np.linalg.norm(spline.inverse().map_world(spline.map_world(inside)) - inside, axis=1)
    assert apart.mean() < 0.2
    assert apart.max() < 1.0


def test_points_that_do_not_span_space_are_refused():
    points, moves = scattered(30)
    with pytest.raises(UserError, match="at least 4"):
        ThinPlate(points[:3], moves[:3])
    with pytest.raises(UserError, match="not finite"):
        ThinPlate(points, moves * np.nan)
