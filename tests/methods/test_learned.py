"""What becomes of a network's field: its linear part, the search around the rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from anamorph.geometry import Grid
from anamorph.methods.base import Pair, Run
from anamorph.methods.learned import Found, NetworkConfig, Seen, split_linear
from anamorph.methods.recipe import prepared
from anamorph.methods.symmetric import Symmetric
from anamorph.methods.working_frame import Scan
from anamorph.testing.pairs import body_points, error_mm, gentle_pair, pair_of
from anamorph.transforms import Affine, Displacement

GRID = Grid((20, 24, 18), np.array([[-2.0, 0, 0, 10], [0, 0, 3.0, -4], [0, 1.5, 0, 7], [0, 0, 0, 1]]))


def about(centre: np.ndarray, matrix: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> Affine:
    full = np.eye(4)
    full[:3, :3] = matrix
    full[:3, 3] = centre - matrix @ centre + shift
    return Affine(full)


def scan_on(grid: Grid, weight: np.ndarray | None = None) -> Scan:
    noise = np.random.default_rng(0).random((1, *grid.shape), np.float32)
    return Scan(noise, np.ones(grid.shape, np.float32) if weight is None else weight, grid)


def after_a_network(pair, config, found):
    """From fixed to moving points: what the recipe makes of a network's fields."""
    scans = Pair(pair.fixed, pair.moving)
    method, run = Symmetric(config), Run("cpu")
    seen = Seen(None, scans, prepared(scans), found.grid, Affine.identity())
    return method.deformed(method.follow(seen, found, run), run)[0]


def test_both_parts_together_are_the_field():
    matrix = Rotation.from_euler("xyz", (20, -10, 15), degrees=True).as_matrix() @ np.diag([1.1, 0.95, 1.0])
    centre = GRID.voxel_to_world((np.array(GRID.shape) - 1) / 2)
    linear = about(centre, matrix, (4, -3, 2))
    bump = np.zeros((3, *GRID.shape), np.float32)
    bump[1, 8:12, 8:12, 6:10] = 2
    whole = linear.displacement_on(GRID).disp_vox + bump
    backward = linear.inverse().displacement_on(GRID).disp_vox
    rest, found = split_linear(whole, backward, scan_on(GRID), scan_on(GRID), is_ct=False)
    together = found.displacement_on(GRID)
    places = GRID.voxel_to_world(np.moveaxis(np.indices(GRID.shape), 0, -1).reshape(-1, 3))
    by_parts = found.map_world(Displacement(rest, GRID).map_world(places))
    np.testing.assert_allclose(by_parts, Displacement(whole, GRID).map_world(places), atol=2e-3)
    # What is left is near the bump alone, and nothing of a field that is linear.
    assert np.abs(rest).mean() < 0.1
    assert np.abs(together.disp_vox - linear.displacement_on(GRID).disp_vox).mean() < 0.1
    rest, found = split_linear(
        linear.displacement_on(GRID).disp_vox, backward, scan_on(GRID), scan_on(GRID), is_ct=False
    )
    assert np.abs(rest).max() < 1e-3
    np.testing.assert_allclose(found.matrix, linear.matrix, atol=1e-3)


def test_the_map_is_fitted_where_the_scan_counts():
    weight = np.zeros(GRID.shape, np.float32)
    weight[:10] = 1
    field = np.zeros((3, *GRID.shape), np.float32)
    field[0, :10], field[2, 10:] = 1.5, 7
    rest, found = split_linear(field, -field, scan_on(GRID, weight), scan_on(GRID, weight), is_ct=False)
    np.testing.assert_allclose(found.matrix, Affine.translation(GRID.affine[:3, 0] * 1.5).matrix, atol=1e-4)
    assert np.abs(rest[:, :10]).max() < 1e-4


def test_two_directions_that_disagree_meet_half_way():
    here, there = (np.zeros((3, *GRID.shape), np.float32) for _ in range(2))
    here[1], there[1] = 3, -1
    rest, found = split_linear(here, there, scan_on(GRID), scan_on(GRID), is_ct=False)
    np.testing.assert_allclose(found.matrix, Affine.translation(GRID.affine[:3, 1] * 2).matrix, atol=1e-4)
    np.testing.assert_allclose(rest[1], 1, atol=1e-4)


def test_a_linear_part_within_reach_is_left_in_the_field():
    field = np.zeros((3, *GRID.shape), np.float32)
    field[1] = 2
    away = 2 * GRID.spacing_mm[1]
    for reach_mm, matrix in ((away + 0.1, np.eye(4)), (away - 0.1, Affine.translation(GRID.affine[:3, 1] * 2).matrix)):
        rest, found = split_linear(field, -field, scan_on(GRID), scan_on(GRID), False, reach_mm)
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-4)
        assert np.array_equal(rest, field) == (reach_mm > away)


@pytest.mark.parametrize("stretch", [-1.0, 0.1, 3.0])
def test_what_is_no_map_of_a_body_is_left_in_the_field(stretch):
    field = (stretch - 1) * np.indices(GRID.shape).astype(np.float32)
    for fields in ((field, 0 * field), (0 * field, field)):
        rest, found = split_linear(*fields, scan_on(GRID), scan_on(GRID), is_ct=False)
        assert np.array_equal(rest, fields[0])
        assert np.array_equal(found.matrix, np.eye(4))


def test_a_field_that_turns_the_scan_is_refined_as_well_as_one_that_does_not():
    """As the moving scan lies, its descriptors are turned by 40 degrees and half of it is out of view: 9 mm."""
    pair = pair_of(seed=3, translation_mm=60.0, rotation_deg=40.0, scale=0.03)
    grid = pair.fixed.grid.resampled(3 * pair.fixed.grid.spacing_mm)
    wrong = np.random.default_rng(0).normal(0, 0.1, (3, *grid.shape)).astype(np.float32)
    field = pair.true_fixed_to_moving.displacement_on(grid).disp_vox + wrong
    found = after_a_network(pair, NetworkConfig(guide="none"), Found(field, -field, grid))
    places = body_points(pair)
    away = np.linalg.norm(found.map_world(places) - pair.true_fixed_to_moving.map_world(places), axis=1)
    assert away.mean() < 3.5


def test_the_search_looks_around_the_field_of_a_network():
    pair = gentle_pair()
    grid = pair.fixed.grid
    nothing = np.zeros((3, *grid.shape), np.float32)

    def error(**settings):
        config = NetworkConfig(guide="none", refine_iterations=(0, 0), **settings)
        return error_mm(after_a_network(pair, config, Found(nothing, nothing, grid)), pair)

    before = error_mm(Affine.identity(), pair)
    assert error(search=False) == pytest.approx(before, abs=0.01)
    assert error() < 0.85 * before
    coarser = {"search_scales": (2, 1), "search_cells": (2, 2), "search_radius_mm": (0.0, 0.0)}
    assert error(**coarser) < 0.7 * before
