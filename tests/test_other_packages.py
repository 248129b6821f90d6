"""Images of other packages: what they call a voxel's place is where anamorph puts it. SimpleITK is the oracle."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import anamorph
from anamorph.errors import UserError
from anamorph.image.read import read_image

SHAPE, SPACING, ORIGIN = (5, 6, 7), (1.5, 2.0, 3.0), (11.0, -7.0, 3.0)
# A turn about z by 30 degrees and then a left-handed swap, which no symmetric convention survives.
TURN = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 1]])[:, [1, 0, 2]]


class ItkStandIn:
    """What ``itk.Image`` shows: arrays run k, j, i; geometry is LPS; matrices are arrays when asked."""

    def __init__(self, kji: np.ndarray, components: int = 1) -> None:
        self._kji, self._components = kji, components

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._kji

    def GetImageDimension(self) -> int:
        return self._kji.ndim - (self._components > 1)

    def GetNumberOfComponentsPerPixel(self) -> int:
        return self._components

    def GetLargestPossibleRegion(self) -> object:
        return object()

    def GetSpacing(self):
        return iter(SPACING)

    def GetOrigin(self):
        return iter(ORIGIN)

    def GetDirection(self):
        class Matrix:
            def __array__(self, dtype=None, copy=None) -> np.ndarray:
                return TURN

        return Matrix()


class AntsStandIn:
    """What ``ants.ANTsImage`` shows: arrays run i, j, k, channel; geometry is LPS."""

    dimension = 3
    spacing, origin, direction = SPACING, ORIGIN, TURN

    def __init__(self, ijk: np.ndarray, components: int = 1) -> None:
        self._ijk, self.components = ijk, components

    def numpy(self) -> np.ndarray:
        return self._ijk


class TorchioStandIn:
    """What ``torchio.ScalarImage`` shows: a tensor of C, I, J, K and an affine to RAS."""

    def __init__(self, data: np.ndarray, affine: np.ndarray, path: str | None = None) -> None:
        self.data, self.affine, self.path = torch.from_numpy(data), affine, path


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def oracle(values) -> sitk.Image:
    image = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURN.ravel().tolist())
    return image


def check_against(oracle: sitk.Image, image: anamorph.Image) -> None:
    """Every voxel has the value that SimpleITK has at the same physical point."""
    assert image.grid.shape == oracle.GetSize()
    for index in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (2, 3, 1)):
        lps = oracle.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(image.grid.voxel_to_world(np.array(index)), (-lps[0], -lps[1], lps[2]), atol=1e-5)
        assert image.data[0][index] == oracle.GetPixel(index)


def test_images_of_other_packages_lie_where_simpleitk_puts_them(values, oracle):
    grid = read_image(oracle).grid
    sources = {
        "itk": ItkStandIn(values.transpose(2, 1, 0)),
        "ants": AntsStandIn(values),
        "torchio": TorchioStandIn(values[None], grid.affine),
        "nibabel": nibabel.Nifti1Image(values, grid.affine),
        "simpleitk": oracle,
    }
    for source in sources.values():
        check_against(oracle, read_image(source))


def test_components_become_channels(values):
    two = np.stack([values, values + 1], axis=-1)
    for source in (ItkStandIn(two.transpose(2, 1, 0, 3), 2), AntsStandIn(two, 2)):
        image = read_image(source)
        assert image.channels == 2
        np.testing.assert_array_equal(image.data[1], values + 1)


def test_an_image_of_torchio_is_named_after_its_file(values):
    assert read_image(TorchioStandIn(values[None], np.eye(4), "/data/a.nii.gz")).name == "a.nii.gz"


def test_an_image_goes_to_other_packages_and_back(values, oracle):
    image = read_image(oracle)
    back = image.to_simpleitk()
    assert back.GetSpacing() == pytest.approx(SPACING)
    assert back.GetOrigin() == pytest.approx(ORIGIN)
    assert back.GetDirection() == pytest.approx(TURN.ravel())
    check_against(oracle, read_image(back))
    check_against(oracle, read_image(image.to_nibabel()))
    tensor = image.to_tensor()
    assert tensor.shape == (1, *SHAPE)
    np.testing.assert_array_equal(tensor.numpy()[0], values)
    unsigned = anamorph.Image.from_array(np.full((2, 2, 2), 40000, np.uint16), spacing_mm=1)
    assert unsigned.to_tensor().max().item() == 40000


def test_arrays_and_tensors_are_placed_by_spacing_or_affine(values):
    by_spacing = anamorph.Image.from_array(values, spacing_mm=SPACING, origin_mm=(1, 2, 3), name="a")
    np.testing.assert_allclose(by_spacing.grid.voxel_to_world(np.array([1, 1, 1])), [2.5, 4, 6])
    assert by_spacing.grid.orientation == "RAS"
    affine = np.diag([-2.0, -2.0, 4.0, 1.0])
    tensor = anamorph.Image.from_array(torch.from_numpy(values[None]).requires_grad_(), affine=affine)
    np.testing.assert_array_equal(tensor.grid.affine, affine)
    np.testing.assert_array_equal(tensor.data[0], values)
    slice_ = anamorph.Labels.from_array(np.eye(4, dtype=np.uint8), spacing_mm=(1, 1, 5))
    assert slice_.grid.shape == (4, 4, 1)
    assert isinstance(slice_, anamorph.Labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give affine=, or spacing_mm="),
        ({"spacing_mm": 1, "affine": np.eye(4)}, "not both"),
        ({"spacing_mm": (1, 2)}, "one or three positive numbers"),
        ({"spacing_mm": (1, 0, 2)}, "one or three positive numbers"),
        ({"spacing_mm": 1, "directions": 2 * np.eye(3)}, "unit vectors"),
    ],
)
def test_a_grid_says_what_its_place_lacks(options, message):
    with pytest.raises(UserError, match=message):
        anamorph.Grid((3, 4, 5), **options)


def test_a_grid_of_spacing_origin_and_directions():
    grid = anamorph.Grid((3, 4, 5), spacing_mm=SPACING, origin_mm=(1, 2, 3), directions=TURN)
    np.testing.assert_allclose(grid.spacing_mm, SPACING)
    np.testing.assert_allclose(grid.directions, TURN)
    np.testing.assert_array_equal(grid.origin_mm, (1, 2, 3))
    assert anamorph.Grid((3, 4, 5), spacing_mm=2).matches(anamorph.Grid((3, 4, 5), np.diag([2.0, 2, 2, 1])))


def test_what_has_no_place_or_is_no_image_is_refused_with_the_remedy():
    for array in (np.zeros((3, 3, 3)), torch.zeros(3, 3, 3)):
        with pytest.raises(UserError, match=r"Image\.from_array"):
            read_image(array)
    with pytest.raises(UserError, match="nibabel, SimpleITK, ITK, ANTs or TorchIO"):
        read_image(3)


def test_reprs_say_in_one_line_what_a_thing_is(values):
    image = anamorph.Image.from_array(values, spacing_mm=SPACING, name="scan.nii.gz")
    assert repr(image) == "Image('scan.nii.gz', float32, 5 x 6 x 7 voxels of 1.5 x 2 x 3 mm, RAS)"
    assert repr(image.grid) == "Grid(5 x 6 x 7 voxels of 1.5 x 2 x 3 mm, RAS)"
    assert repr(anamorph.Points(np.zeros((2, 3)), ("a", "b"))) == "Points(2 in RAS mm, named)"
    two = anamorph.Image.from_array(np.stack([values, values]), spacing_mm=1)
    assert repr(two).startswith("Image('image', 2 channels of float32, ")
