"""Discrete methods: what lies outside the other scan does not pull, and exchanging the scans inverts the result."""

from __future__ import annotations

import numpy as np
import pytest

import anamorph
from anamorph.phantom import make_pair

SHAPE = (40, 34, 36)


@pytest.fixture(scope="module")
def pair():
    return make_pair(SHAPE, seed=3, deformation_mm=12.0, rotation_deg=4, scale=0.03)


@pytest.fixture(scope="module")
def whole(pair):
    return anamorph.register(pair.fixed, pair.moving)


def mean_error_vox(result, pair, seen):
    mapped = result.fixed_to_moving.map_world(pair.fixed_points.positions_mm)
    errors = np.linalg.norm(mapped - pair.moving_points.positions_mm, axis=1) / pair.fixed.grid.voxel_mm
    return errors[seen].mean()


@pytest.mark.parametrize(("method", "short"), [("convex", "moving"), ("convex", "fixed"), ("deeds", "moving")])
def test_a_short_scan_is_registered_as_in_the_whole_one(pair, whole, method, short):
    scans = {"fixed": pair.fixed, "moving": pair.moving}
    scans[short] = scans[short].cropped((slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(10, 28)))
    seen = scans["fixed"].grid.contains(pair.fixed_points.positions_mm)
    seen &= scans["moving"].grid.contains(pair.moving_points.positions_mm)
    assert seen.sum() >= 8
    part = anamorph.register(*scans.values(), method=method)
    assert mean_error_vox(part, pair, seen) < 1.5 * mean_error_vox(whole, pair, seen)
    # The long scan is not squeezed into the short one.
    field = part.fixed_to_moving.displacement_on(scans["fixed"].grid).disp_vox + np.indices(scans["fixed"].grid.shape)
    jacobian = np.moveaxis(np.stack([np.stack(np.gradient(one)) for one in field]), (0, 1), (-2, -1))
    assert np.linalg.det(jacobian).mean() > 0.85
    back = anamorph.register(*reversed(scans.values()), method=method)
    np.testing.assert_allclose(
        back.moving_to_fixed.map_world(pair.fixed_points.positions_mm),
        part.fixed_to_moving.map_world(pair.fixed_points.positions_mm),
        atol=0.01,
    )
