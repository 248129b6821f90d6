from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.phantom.sliding import SKIN_MM, depth_mm, make_sliding_pair


@pytest.fixture(scope="module")
def phantom():
    return make_sliding_pair((64, 50, 48), 4.5, seed=1)


def points_of(scan):
    return scan.grid.voxel_to_world(np.argwhere(scan.data[0] > -1e9))


def test_the_map_jumps_along_the_surface_alone(phantom):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    surface = np.column_stack([92 * np.cos(angle), 62 * np.sin(angle), np.full(40, -60.0)])
    sides = [phantom.true_fixed_to_moving.slid(surface * (factor, factor, 1)) for factor in (0.999, 1.001)]
    jump = sides[0] - sides[1]
    assert (jump[:, 2] > 0.9 * 0.9 * 15).all()
    assert abs(jump[:, :2]).max() < 0.2


def test_the_inverse_undoes_the_map(phantom):
    motion = phantom.true_fixed_to_moving
    inside = points_of(phantom.fixed)[::97]
    inside = inside[depth_mm(inside, SKIN_MM) > 0]
    np.testing.assert_allclose(motion.inverse().map_world(motion.map_world(inside)), inside, atol=0.1)


def test_tissue_and_mask_follow_the_map(phantom):
    points = points_of(phantom.fixed)
    chosen = abs(depth_mm(points)) > 8
    chosen &= (depth_mm(points, SKIN_MM) > 8) & phantom.moving.grid.contains(
        phantom.true_fixed_to_moving.map_world(points)
    )
    carried = phantom.true_fixed_to_moving.warp_image(phantom.moving, phantom.fixed.grid).data[0].ravel()[chosen]
    assert np.corrcoef(carried, phantom.fixed.data[0].ravel()[chosen])[0, 1] > 0.9
    labels = phantom.true_fixed_to_moving.warp_labels(phantom.moving_inner, phantom.fixed.grid).data[0].ravel()
    assert (labels == phantom.inner.data[0].ravel())[chosen].mean() > 0.999


def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match="slides by no more than"):
        make_sliding_pair(slide_mm=100)
