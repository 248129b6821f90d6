"""``register`` takes two-dimensional images: files and images of other packages without a third axis."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from anamorph import register
from anamorph.evaluation import dice
from anamorph.image import Labels
from anamorph.image.read import read_image
from anamorph.phantom import make_pair

SPACING_MM = (4.0, 3.2)


@pytest.fixture(scope="module")
def pair():
    return make_pair((80, 88, 1), (*SPACING_MM, 1.0), seed=3)


def as_simpleitk(image):
    """A plane of LPS directions whose first pixel is at the origin, as a photograph or a PNG file has it."""
    plane = sitk.GetImageFromArray(np.ascontiguousarray(image.data[0, :, :, 0].T))
    plane.SetSpacing(SPACING_MM)
    return plane


def as_nibabel(image):
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], 1.0, 1.0])
    return nibabel.Nifti1Image(np.ascontiguousarray(image.data[0, :, :, 0]), affine)


def grid_of(image):
    return read_image(image).grid


@pytest.mark.parametrize("method", ["convex", "deeds"])
@pytest.mark.parametrize("convert", [as_simpleitk, as_nibabel])
def test_planes_without_a_third_axis_are_registered_in_their_plane(pair, convert, method):
    fixed, moving = convert(pair.fixed), convert(pair.moving)
    result = register(fixed, moving, method=method)
    grid = grid_of(fixed)
    labels = [Labels(labels.data, grid) for labels in (pair.fixed_labels, pair.moving_labels)]
    before = np.mean(list(dice(*labels).values()))
    after = np.mean(list(dice(labels[0], result.fixed_to_moving.warp_labels(labels[1], grid)).values()))
    assert before < 0.5
    assert after > 0.85
    assert not result.fixed_to_moving.displacement_on(grid).disp_vox[2].any()


def test_files_of_pictures_are_registered(pair, tmp_path):
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        grey = np.clip((image.data[0, :, :, 0].T + 160.0) / 400, 0, 1) * 255
        plane = sitk.GetImageFromArray(grey.astype(np.uint8))
        plane.SetSpacing(SPACING_MM)
        sitk.WriteImage(plane, tmp_path / f"{name}.png")
    result = register(tmp_path / "fixed.png", tmp_path / "moving.png")
    grid = grid_of(str(tmp_path / "fixed.png"))
    assert grid.is_2d
    labels = [Labels(labels.data, grid) for labels in (pair.fixed_labels, pair.moving_labels)]
    assert np.mean(list(dice(labels[0], result.fixed_to_moving.warp_labels(labels[1], grid)).values())) > 0.85
