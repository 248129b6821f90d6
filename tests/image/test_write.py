from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from anamorph.errors import RegistrationFailure, UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from anamorph.image.write import world_code, write_image
from geometries import GRIDS, SHEARED, textured_image

GRID = GRIDS["oblique"]


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, suffix: str) -> None:
    image = textured_image(GRIDS[name], np.int16)
    path = tmp_path / f"scan{suffix}"
    write_image(image, path)
    again = read_image(path)
    assert again.data.dtype == np.int16
    np.testing.assert_array_equal(again.data, image.data)
    assert again.grid.matches(image.grid, 1e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    itk = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).transpose(2, 1, 0), image.data[0])
    corner = itk.TransformIndexToPhysicalPoint((20, 17, 14))
    np.testing.assert_allclose(np.multiply(corner, (-1, -1, 1)), image.grid.voxel_to_world([20, 17, 14]), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_every_dtype_is_kept(tmp_path: Path, dtype: type) -> None:
    write_image(textured_image(GRID, dtype), tmp_path / "scan.nii.gz")
    assert nibabel.load(tmp_path / "scan.nii.gz").get_data_dtype() == dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equal_images_make_equal_files(tmp_path: Path, dtype: type) -> None:
    image = Image(np.arange(60).reshape(3, 4, 5).astype(dtype), Grid((3, 4, 5), np.eye(4)))
    for folder in ("here", "there"):
        write_image(image, tmp_path / folder / f"{folder}.nii.gz")
    here, there = (tmp_path / name / f"{name}.nii.gz" for name in ("here", "there"))
    assert here.read_bytes() == there.read_bytes()


def test_booleans_are_written_as_bytes(tmp_path: Path) -> None:
    mask = Image(textured_image(GRID).data > 200, GRID)
    for suffix in (".nii.gz", ".mha"):
        write_image(mask, tmp_path / f"mask{suffix}")
        again = read_labels(tmp_path / f"mask{suffix}")
        assert again.data.dtype == np.uint8
        np.testing.assert_array_equal(again.data, mask.data)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_channels_are_kept(tmp_path: Path, suffix: str) -> None:
    one = textured_image(GRID).data[0]
    write_image(Image(np.stack([one, -one]), GRID), tmp_path / f"two{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"two{suffix}").data, [one, -one])
    assert sitk.ReadImage(str(tmp_path / f"two{suffix}")).GetNumberOfComponentsPerPixel() == 2


def test_header_codes_and_units(tmp_path: Path) -> None:
    write_image(textured_image(GRID), tmp_path / "scan.nii.gz")
    header = nibabel.load(tmp_path / "scan.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_sform(), header.get_qform(), atol=1e-4)
    mni = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    mni.set_sform(np.eye(4), 4)
    mni.to_filename(tmp_path / "mni.nii")
    write_image(textured_image(GRID), tmp_path / "like.nii.gz", world=world_code(tmp_path / "mni.nii"))
    assert nibabel.load(tmp_path / "like.nii.gz").header["sform_code"] == 4


def test_shear_fits_into_nifti_only(tmp_path: Path) -> None:
    image = textured_image(SHEARED)
    write_image(image, tmp_path / "scan.nii.gz")
    assert read_image(tmp_path / "scan.nii.gz").grid.matches(SHEARED, 1e-3)
    assert nibabel.load(tmp_path / "scan.nii.gz").header["qform_code"] == 0
    with pytest.raises(UserError, match=r"sheared .* \.nii\.gz"):
        write_image(image, tmp_path / "scan.nrrd")


def test_slight_shear_is_read_by_itk(tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 1e-3  # 5e-4 off a right angle
    affine[:3, 3] = 5, 6, 7
    grid = Grid((20, 24, 10), affine)
    assert grid.is_sheared
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        path = tmp_path / f"scan{suffix}"
        write_image(textured_image(grid), path)
        itk = sitk.ReadImage(str(path))
        corner = np.multiply(itk.TransformIndexToPhysicalPoint((19, 23, 9)), (-1, -1, 1))
        assert np.linalg.norm(corner - grid.voxel_to_world([19, 23, 9])) < 0.2
    assert read_image(tmp_path / "scan.nii.gz").grid.matches(grid, 1e-4)
    assert grid.shear_vox == pytest.approx(0.0035, abs=0.003)
    wide = Grid((900, 900, 10), affine)
    assert wide.shear_vox > 0.1


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_large_ids_survive_the_file(tmp_path: Path, dtype: type, suffix: str) -> None:
    values = np.zeros(GRID.shape, dtype)
    values[2:5, 2:5, 2:5], values[6:9, 2:5, 2:5] = 614454277, 3_000_000_019
    write_image(Labels(values, GRID), tmp_path / f"ids{suffix}")
    assert read_labels(tmp_path / f"ids{suffix}").present() == [614454277, 3_000_000_019]
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"ids{suffix}"))).max() == 3_000_000_019


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = textured_image(GRID)
    with pytest.raises(UserError, match=r"choose \.nii"):
        write_image(image, tmp_path / "scan.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_image(image, tmp_path / "file" / "scan.nii.gz")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Header, "write_to", full)
    for name in ("scan.nii.gz", "scan.nii"):
        with pytest.raises(RegistrationFailure, match="disk is full"):
            write_image(image, tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_names_that_itk_would_die_of_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / os.fsdecode(b"a\xff" + suffix.encode())
    with pytest.raises(UserError, match="not UTF-8"):
        write_image(textured_image(GRID), path)
    write_image(textured_image(GRID), tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(path)
    with pytest.raises(UserError, match="not UTF-8"):
        read_image(path)
