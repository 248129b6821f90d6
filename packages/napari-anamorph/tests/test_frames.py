"""Layers lie where ITK says, whichever of napari's transforms put them there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")
import SimpleITK as sitk
from napari.layers import Image as ImageLayer
from napari.layers import Points as PointsLayer

import anamorph
from anamorph.errors import UserError
from napari_anamorph.frames import from_napari, image_layer, image_of, points_of, to_napari
from napari_anamorph.reader import find_reader

SHAPE = (5, 6, 7)  # of the array, (k, j, i)


def turned(degrees: float) -> np.ndarray:
    """A rotation about an axis that is none of the world's."""
    axis = np.array([1.0, 2.0, 0.5]) / np.linalg.norm([1.0, 2.0, 0.5])
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def itk_scan(direction: np.ndarray) -> sitk.Image:
    scan = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    scan.SetSpacing((0.8, 1.1, 2.5))
    scan.SetOrigin((12.0, -30.0, 44.0))
    scan.SetDirection(direction.ravel().tolist())
    return scan


def test_an_array_of_simpleitk_with_spacing_and_origin_reversed_is_the_scan_itself():
    scan = itk_scan(np.eye(3))
    layer = ImageLayer(sitk.GetArrayFromImage(scan), scale=scan.GetSpacing()[::-1], translate=scan.GetOrigin()[::-1])
    image = image_of(layer)
    assert image.grid.shape == SHAPE[::-1]
    np.testing.assert_array_equal(image.data[0], sitk.GetArrayFromImage(scan).transpose())
    index = (4, 1, 3)
    lps = np.array(scan.TransformIndexToPhysicalPoint(index))
    np.testing.assert_allclose(image.grid.voxel_to_world(np.array(index, float)), lps * (-1, -1, 1), atol=1e-9)
    np.testing.assert_allclose(layer.data_to_world(index[::-1]), lps[::-1], atol=1e-9)


@pytest.mark.parametrize(
    "direction", [np.eye(3), np.diag([-1.0, 1, -1]), turned(35)], ids=["plain", "flipped", "oblique"]
)
@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
def test_a_file_that_is_read_lies_where_simpleitk_puts_it(tmp_path, direction, suffix):
    scan = itk_scan(direction)
    path = tmp_path / f"scan.{suffix}"
    sitk.WriteImage(scan, str(path))
    ((data, options, kind),) = find_reader(str(path))(str(path))
    assert (kind, options["name"]) == ("image", "scan")
    layer = ImageLayer(data, affine=options["affine"])
    rng = np.random.default_rng(1)
    for index in rng.integers(0, SHAPE[::-1], (10, 3)):
        i, j, k = (int(n) for n in index)
        lps = scan.TransformIndexToPhysicalPoint((i, j, k))
        # The layer may have its axes turned, but the voxel of this place holds this value.
        place = np.array(layer.world_to_data(lps[::-1]))
        np.testing.assert_allclose(place, np.rint(place), atol=1e-3)
        assert layer.data[tuple(np.rint(place).astype(int))] == pytest.approx(scan[i, j, k], rel=1e-5)
    there_and_back = image_of(layer)
    original = anamorph.read_image(path)
    np.testing.assert_allclose(there_and_back.grid.affine, original.grid.affine, atol=1e-9)
    np.testing.assert_array_equal(there_and_back.data, original.data)


def test_scale_rotation_shear_shift_and_affine_count_together():
    affine = np.eye(4)
    affine[:3, :3] = turned(20)
    affine[:3, 3] = (5, -6, 7)
    layer = ImageLayer(
        np.zeros(SHAPE),
        scale=(2, 1, 0.5),
        rotate=turned(-50),
        shear=(0.1, 0.2, -0.1),
        translate=(1, 2, 3),
        affine=affine,
    )
    grid = image_of(layer).grid
    for index in np.random.default_rng(2).uniform(0, 5, (5, 3)):
        world = np.array(layer.data_to_world(index))
        np.testing.assert_allclose(to_napari(grid.voxel_to_world(index[::-1])), world, atol=1e-9)


def test_axes_are_head_front_and_right():
    """World (z, y, x) in LPS: the first axis leads to the head, the second to the back, the third to the left."""
    np.testing.assert_array_equal(to_napari(np.array([[1.0, 2.0, 3.0]])), [[3.0, -2.0, -1.0]])
    np.testing.assert_array_equal(from_napari(np.array([[3.0, -2.0, -1.0]])), [[1.0, 2.0, 3.0]])


def test_points_keep_their_place_and_their_names():
    layer = PointsLayer(
        np.array([[1.0, 2, 3], [4, 5, 6]]), scale=(2, 1, 0.5), translate=(10, 0, 0), features={"name": ["a", "b"]}
    )
    points = points_of(layer)
    np.testing.assert_allclose(points.positions_mm, [[-1.5, -2, 12], [-3, -5, 18]])
    assert points.labels == ("a", "b")
    with pytest.raises(UserError, match="have 2 axes; place them in a volume"):
        points_of(PointsLayer(np.zeros((1, 2)), name="flat"))


def test_a_plane_is_one_slice_and_what_is_no_scan_is_refused():
    plane = image_of(ImageLayer(np.arange(12.0).reshape(3, 4), scale=(2, 1.5)))
    assert plane.grid.shape == (4, 3, 1)
    np.testing.assert_allclose(plane.grid.spacing_mm, (1.5, 2, np.sqrt(3)))
    np.testing.assert_array_equal(plane.data[0, :, :, 0], np.arange(12.0).reshape(3, 4).T)
    with pytest.raises(UserError, match="layer 'film' has 4 axes; give one volume"):
        image_of(ImageLayer(np.zeros((2, 3, 4, 5)), name="film"))
    with pytest.raises(UserError, match="layer 'photo' holds colours"):
        image_of(ImageLayer(np.zeros((6, 5, 3), np.uint8), rgb=True, name="photo"))


def test_of_a_pyramid_the_finest_level_counts():
    fine = np.random.default_rng(0).normal(size=(8, 8, 8))
    layer = ImageLayer([fine, fine[::2, ::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(image_of(layer).data[0], fine.transpose())


def test_image_layer_is_the_inverse_of_image_of():
    affine = np.eye(4)
    affine[:3, :3] = turned(15) @ np.diag([-1.0, 2.0, 3.0])
    affine[:3, 3] = (1, 2, 3)
    image = anamorph.Image(
        np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32), anamorph.Grid((4, 5, 6), affine)
    )
    data, options = image_layer(image)
    back = image_of(ImageLayer(data, **options))
    np.testing.assert_allclose(back.grid.affine, affine, atol=1e-12)
    np.testing.assert_array_equal(back.data, image.data)
