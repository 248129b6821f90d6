"""Scans that were turned and resampled by others: the corners of their grids are padding."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.start.disturb import View, resampled, rotated
from scipy.ndimage import gaussian_filter

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.image.background import shown_part
from anamorph.methods.working_frame import Scan


def scan(shape, lowest=0.0):
    """Tissue everywhere, some of it as dark as padding."""
    values = gaussian_filter(np.random.default_rng(0).random(shape).astype(np.float32), 0.7)
    values = np.where(values < np.quantile(values, 0.05), lowest, values * 100 + lowest)
    return Image(values.astype(np.float32), Grid(shape, np.diag([2.0, 2.0, 3.0, 1.0])))


def turned(image, axis=(1.0, 2.0, 1.0), degrees=35.0):
    return resampled(rotated(View.of(image), np.array(axis), degrees))


@pytest.mark.parametrize("lowest", [0.0, -1024.0])
@pytest.mark.parametrize(
    ("shape", "axis"), [((40, 36, 30), (1, 2, 1)), ((44, 40, 28), (0, 0, 1)), ((60, 56, 8), (1, 1, 3))]
)
def test_what_a_rotation_left_in_the_corners_is_padding(shape, axis, lowest):
    view = turned(scan(shape, lowest), axis)
    shown = shown_part(view.image)
    grid = view.image.grid
    places = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    own = view.moved.inverse().map_world(places)
    at = view.seen.world_to_voxel(own).reshape(*grid.shape, 3)
    outside = np.maximum(-at, at - (np.array(view.seen.shape) - 1)).max(axis=-1)
    assert not shown[outside > 0.6].any()
    assert shown[outside < -2.5].all()


def test_only_what_is_shown_has_weight():
    view = turned(scan((40, 36, 30)))
    shown = shown_part(view.image)
    ready = Scan.prepare(view.image, None)
    assert ready.grid == view.image.grid
    np.testing.assert_array_equal(ready.weight > 0, shown)
    half = np.full(shown.shape, 0.5, np.float32)
    np.testing.assert_array_equal(Scan.prepare(view.image, Mask(half, view.image.grid)).weight, half * shown)
    # Nothing dark is left where the scan shows nothing.
    assert ready.channels[0][~shown].mean() == pytest.approx(ready.channels[0][shown].mean(), rel=0.2)


def ball():
    """A body in the middle of empty space."""
    places = np.indices((40, 40, 40)) - 19.5
    body = (places**2).sum(axis=0) < 15**2
    values = np.where(body, 50 + np.random.default_rng(0).random(body.shape), 0)
    return Image(values.astype(np.float32), Grid(body.shape, np.eye(4)))


def test_the_ground_of_a_body_is_no_padding():
    assert shown_part(ball()) is None
    assert shown_part(turned(ball()).image) is None


def test_a_turned_stack_of_slices_of_a_round_body_ends_at_its_two_faces():
    across = np.indices((48, 48, 12))[:2] - 23.5
    values = np.where((across**2).sum(axis=0) < 17**2, 50 + np.random.default_rng(0).random((48, 48, 12)), 0)
    stack = Image(values.astype(np.float32), Grid(values.shape, np.diag([2.0, 2.0, 4.0, 1.0])))
    assert shown_part(stack) is None
    view = turned(stack)
    shown, body = shown_part(view.image), view.image.data[0] > 25
    assert 0.05 < shown.mean() < 0.3
    assert shown[body].mean() > 0.8


def test_scans_that_fill_their_grid_and_flat_ones_are_whole():
    assert shown_part(scan((40, 36, 30))) is None
    assert shown_part(scan((40, 36, 1))) is None
    assert shown_part(Image(np.zeros((9, 9, 9), np.float32), Grid((9, 9, 9), np.eye(4)))) is None


def test_a_few_voxels_between_the_lines_that_are_looked_at_are_no_field_of_view():
    data = np.full((128, 32, 16), -1024, np.float32)
    data[1:6:2, 1, 7] = -900
    assert shown_part(Image(data, Grid(data.shape, np.eye(4)))) is None
