"""Tissue that slides, through whole registrations."""

from __future__ import annotations

import numpy as np
import pytest

import anamorph
from anamorph.errors import UserError
from anamorph.image.image import Labels
from anamorph.phantom.sliding import SKIN_MM, depth_mm, make_sliding_pair
from anamorph.transforms.folding import folded_cells

NEAR_MM = 15.0


@pytest.fixture(scope="module")
def phantom():
    return make_sliding_pair((84, 66, 50), 3.2, seed=2, slide_mm=20.0)


def errors_mm(result, phantom) -> tuple[float, float]:
    """Mean error near the surface that slides, and in the whole trunk."""
    grid = phantom.fixed.grid
    points = grid.voxel_to_world(np.argwhere(phantom.fixed.data[0] > -1e9))
    true = phantom.true_fixed_to_moving.map_world(points)
    seen = (depth_mm(points, SKIN_MM) > 0) & phantom.moving.grid.contains(true)
    apart = np.linalg.norm(result.fixed_to_moving.map_world(points[seen]) - true[seen], axis=1)
    return apart[abs(depth_mm(points[seen])) < NEAR_MM].mean(), apart.mean()


@pytest.fixture(scope="module")
def smooth(phantom):
    return errors_mm(anamorph.register(phantom.fixed, phantom.moving, threads=1), phantom)


@pytest.mark.parametrize("known", ["fixed", "moving", "both"])
def test_near_the_surface_a_smooth_map_errs_about_twice_as_much_and_nothing_folds(phantom, smooth, known):
    given = {"sliding": phantom.inner, "moving_sliding": phantom.moving_inner}
    if known != "both":
        del given["moving_sliding" if known == "fixed" else "sliding"]
    result = anamorph.register(phantom.fixed, phantom.moving, threads=1, **given)
    near, whole = errors_mm(result, phantom)
    assert near < 0.6 * smooth[0]
    assert whole < 0.8 * smooth[1]
    for transform, grid in (
        (result.fixed_to_moving, phantom.fixed.grid),
        (result.moving_to_fixed, phantom.moving.grid),
    ):
        field = transform.displacement_on(grid)
        assert field.jacobian_determinant().min() > 0
        assert folded_cells(field.disp_vox) < 1e-4 * np.prod(grid.shape)
    points = phantom.fixed.grid.voxel_to_world(np.argwhere(phantom.inner.data[0])[::101])
    back = result.moving_to_fixed.map_world(result.fixed_to_moving.map_world(points))
    assert np.linalg.norm(back - points, axis=1).mean() < 0.3


def test_what_does_not_slide_is_found_as_well_as_without_a_mask():
    phantom = make_sliding_pair((70, 54, 40), 4.0, seed=3, slide_mm=0.0)
    free = errors_mm(anamorph.register(phantom.fixed, phantom.moving, threads=1), phantom)
    given = errors_mm(anamorph.register(phantom.fixed, phantom.moving, threads=1, sliding=phantom.inner), phantom)
    assert given[1] < 1.15 * free[1] + 0.05


def test_a_piece_in_the_wall_stays_rigid_beside_what_slides(phantom):
    grid = phantom.fixed.grid
    points = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    rod = np.linalg.norm(points[:, :2] - (108, 0), axis=1) < 8
    rod &= abs(points[:, 2]) < 30
    rod = Labels(rod.reshape(grid.shape).astype(np.uint8), grid, "rod")
    result = anamorph.register(phantom.fixed, phantom.moving, threads=1, sliding=phantom.inner, keep_rigid=rod)
    (piece,) = result.pair.kept
    assert piece.after.deviation_mm < 2e-4


def test_a_method_without_refinement_says_that_the_mask_had_no_say(phantom):
    result = anamorph.register(phantom.fixed, phantom.moving, method="linear", sliding=phantom.inner)
    assert any("sliding had no say" in warning for warning in result.warnings)


@pytest.mark.parametrize(("mask", "message"), [(np.zeros, "background only"), (np.ones, "fills its scan, so there is")])
def test_masks_without_a_surface_are_refused(phantom, mask, message):
    grid = phantom.fixed.grid
    with pytest.raises(UserError, match=message):
        anamorph.register(phantom.fixed, phantom.moving, sliding=Labels(mask(grid.shape, np.uint8), grid, "lungs"))


def test_a_mask_on_another_grid_is_refused_unless_it_may_be_resampled(phantom):
    coarse = phantom.inner.grid.pooled((2, 2, 2))
    data = phantom.inner.data[0][::2, ::2, ::2]
    mask = Labels(np.ascontiguousarray(data), coarse, "lungs")
    with pytest.raises(UserError, match="lungs"):
        anamorph.register(phantom.fixed, phantom.moving, sliding=mask)
