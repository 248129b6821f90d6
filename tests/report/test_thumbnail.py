from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.report.cohort import thumbnail, write_thumbnail
from anamorph.report.colours import label_colour
from anamorph.transforms import Affine, Displacement

SHIFT_MM = 14.0


def depth_mm(grid: Grid, centre_mm, radius_mm: float) -> np.ndarray:
    """How far inside a ball each voxel is; 0 outside."""
    positions = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.clip(radius_mm - np.linalg.norm(positions - np.array(centre_mm), axis=-1), 0, None)


@pytest.fixture
def pair():
    """A ball, and the same ball further to the patient's right on another grid, each with a label in it."""
    fixed_grid = Grid((40, 36, 30), np.diag([2.0, 2.0, 2.5, 1.0]))
    moving_grid = Grid((60, 50, 40), np.diag([-1.8, 1.8, 2.0, 1.0]) + np.array([[0, 0, 0, 100.0]] + 3 * [[0] * 4]))
    parts = []
    for name, grid, x in (("fixed", fixed_grid, 40.0), ("moving", moving_grid, 40.0 + SHIFT_MM)):
        depth = depth_mm(grid, (x, 36, 36), 26)
        parts += [Image(depth, grid, name), Labels((depth > 14).astype(np.uint8) * 7, grid)]
    return parts


def coloured(picture: np.ndarray) -> float:
    """Share of the lit pixels that are clearly green or magenta."""
    values = picture.astype(int)
    lit = values.max(axis=-1) > 60
    return float((np.abs(values[..., 1] - values[..., 0]) > 60)[lit].mean())


def test_it_is_grey_where_the_transform_aligns_and_coloured_where_not(pair):
    fixed, _, moving, _ = pair
    before, after = thumbnail(fixed, moving), thumbnail(fixed, moving, Affine.translation([SHIFT_MM, 0, 0]))
    assert coloured(before) > 0.3
    assert coloured(after) < 0.05
    axial = before[:, : before.shape[1] // 3].astype(int)
    magenta, green = (np.nonzero(sign * (axial[..., 0] - axial[..., 1]) > 60)[1].mean() for sign in (1, -1))
    assert magenta < green  # the patient's right is on the left of the screen


def test_a_field_on_the_fixed_grid_gives_what_the_affine_map_gives(pair):
    fixed, _, moving, _ = pair
    shift = Affine.translation([SHIFT_MM, 0, 0])
    field = Displacement(shift.displacement_on(fixed.grid).disp_vox, fixed.grid)
    difference = thumbnail(fixed, moving, field).astype(int) - thumbnail(fixed, moving, shift)
    assert np.abs(difference).max() <= 1


def test_outlines_have_the_colour_of_the_label_and_follow_the_transform(pair):
    fixed, fixed_labels, moving, moving_labels = pair
    colour = tuple(int(label_colour(0)[i : i + 2], 16) for i in (1, 3, 5))

    def outlined(*args, **labels) -> int:
        """Columns of the picture that show some of an outline."""
        return int((thumbnail(*args, **labels) == colour).all(axis=-1).any(axis=0).sum())

    assert outlined(fixed, moving) == 0
    for transform in (None, Affine.translation([SHIFT_MM, 0, 0])):
        one = outlined(fixed, moving, transform, fixed_labels=fixed_labels)
        two = outlined(fixed, moving, transform, fixed_labels=fixed_labels, moving_labels=moving_labels)
        assert one > 100
        assert (two > 1.2 * one) == (transform is None)  # lines beside each other, or on each other


def test_it_is_cropped_to_what_there_is_to_see():
    grid = Grid((80, 80, 80), np.eye(4))
    image = Image(depth_mm(grid, (20, 55, 40), 18), grid)
    picture = thumbnail(image, image)
    assert picture.shape[0] <= 240
    assert picture.shape[1] <= 560
    assert (picture.max(axis=-1) > 16).mean() > 0.6  # three discs fill pi/4 of their squares


@pytest.mark.parametrize("part", [slice(0), slice(3), slice(None)])
def test_scans_with_little_or_nothing_to_see_have_a_picture(part):
    grid = Grid((12, 10, 8), np.eye(4))
    data = np.zeros(grid.shape, np.float32)
    data[part, ::2] = np.nan
    picture = thumbnail(Image(data, grid), Image(np.ones(grid.shape, np.float32), grid))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


def test_a_2d_pair_has_one_view():
    grid = Grid((30, 20, 1), np.eye(4))
    image = Image(np.random.default_rng(0).random(grid.shape) + 1, grid)
    assert thumbnail(image, image).shape == (240, 360, 3)


def test_the_file_is_a_jpeg_of_the_same_size(pair, tmp_path):
    fixed, _, moving, _ = pair
    picture = thumbnail(fixed, moving)
    write_thumbnail(tmp_path / "thumbs" / "pair.jpg", picture)
    with Picture.open(tmp_path / "thumbs" / "pair.jpg") as read:
        assert read.format == "JPEG"
        assert read.size == (picture.shape[1], picture.shape[0])
        assert np.abs(np.asarray(read).astype(int) - picture).mean() < 6
