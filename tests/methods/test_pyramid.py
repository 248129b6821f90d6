from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.methods.pyramid import MOST_LABELS_PER_SIDE, Pyramid


def grid(shape, spacing):
    return Grid(shape, np.diag([*spacing, 1.0]))


def covers(outer, inner, slack_vox=0.5):
    return outer.contains(inner.corners_mm(), margin_vox=0.5 + slack_vox).all()


def test_small_scans_are_described_as_they_are():
    fixed = grid((47, 53, 61), (2.0, 2.0, 2.0))
    pyramid = Pyramid.plan(fixed, 0.0, 0.0)
    assert pyramid.working == pyramid.base == fixed
    assert pyramid.pool == (1, 1, 1)
    level = pyramid.level(2)
    assert level.cell == (2, 2, 2)
    assert level.grid == fixed.pooled((2, 2, 2))
    assert level.ratio_to(pyramid.level(4)) == (2, 2, 2)


def test_large_scans_are_resampled_and_pooled():
    fixed = grid((512, 512, 400), (0.8, 0.8, 1.0))
    pyramid = Pyramid.plan(fixed, 0.0, 4.0)
    assert np.prod(pyramid.working.shape) < 2.2e7
    np.testing.assert_allclose(pyramid.base.spacing_mm, 4.0, rtol=0.2)
    assert covers(pyramid.working, fixed)
    assert covers(pyramid.base, fixed)


def test_the_automatic_spacing_gives_about_a_million_descriptors():
    pyramid = Pyramid.plan(grid((200, 210, 190), (1.0, 1.0, 1.0)), 0.0, 0.0)
    assert pyramid.pool == (2, 2, 2)
    assert 0.5e6 < np.prod(pyramid.base.shape) < 2e6


def test_thick_slices_are_kept_and_not_smoothed_over():
    pyramid = Pyramid.plan(grid((120, 120, 20), (0.8, 0.8, 5.0)), 0.0, 0.0)
    assert pyramid.working.shape[2] == pyramid.base.shape[2] == 20
    level = pyramid.level(2)
    assert level.cell == (2, 2, 1)
    assert level.neighbours == (1, 1, 0)
    assert level.cells(3) == (3, 3, 1)
    assert level.radius(0.0, 4) == (4, 4, 2)
    assert level.radius(100.0, 4) == (MOST_LABELS_PER_SIDE,) * 3


@pytest.mark.parametrize("thickness", [7.0, 0.01])
def test_two_dimensions_stay_two(thickness):
    pyramid = Pyramid.plan(grid((300, 280, 1), (1.0, 1.0, thickness)), 0.0, 3.0)
    assert pyramid.pool == (3, 3, 1)
    for scale in (4, 2, 1):
        level = pyramid.level(scale)
        assert level.grid.shape[2] == 1
        assert level.cell == (scale, scale, 1)
        assert level.radius(12.0, 4) == (max(4 // scale, 1), max(4 // scale, 1), 0)
        assert level.cells(4)[2] == 1


@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 40, 7), (1, 30, 30)])
def test_tiny_axes_are_not_pooled_away(shape):
    pyramid = Pyramid.plan(grid(shape, (3.0, 3.0, 3.0)), 0.0, 0.0)
    level = pyramid.level(8)
    assert all(n >= min(full, 4) for n, full in zip(level.grid.shape, shape, strict=True))
    assert all(c <= n for c, n in zip(level.cells(6), level.grid.shape, strict=True))
