from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Labels
from anamorph.image.convert import to_simpleitk
from anamorph.image.header_notes import header_notes
from anamorph.image.read import read_image, read_labels, read_mask
from dicom_files import UID, classic_series, ramp
from geometries import GRIDS, SHEARED, affine_of, rotation, textured_image

GRID = GRIDS["oblique"]
VALUES = textured_image(GRID, np.int16).data[0]


def save(path: Path, data: np.ndarray, affine: np.ndarray = GRID.affine, **header: float) -> Path:
    image = nibabel.Nifti1Image(data, affine, dtype=data.dtype)
    for key, value in header.items():
        image.header[key] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64])
def test_nifti_keeps_type_values_and_place(tmp_path: Path, dtype: type) -> None:
    image = read_image(save(tmp_path / "scan.nii.gz", VALUES.astype(dtype)))
    assert image.data.dtype == dtype
    assert image.data.flags.c_contiguous
    assert image.name == "scan.nii.gz"
    np.testing.assert_array_equal(image.data[0], VALUES.astype(dtype))
    assert image.grid.matches(GRID, 1e-4)


def test_other_byte_order_becomes_native(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nibabel.Nifti1Image(VALUES, GRID.affine, header)
    image.to_filename(tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    again = read_image(tmp_path / "big.nii")
    assert again.data.dtype == np.dtype("=i2")
    np.testing.assert_array_equal(again.data[0], VALUES)


def test_scaled_values_become_float32(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, GRID.affine)
    image.header.set_slope_inter(0.5, -1024)
    image.to_filename(tmp_path / "scaled.nii.gz")
    stored = nibabel.load(tmp_path / "scaled.nii.gz")
    again = read_image(tmp_path / "scaled.nii.gz")
    assert again.data.dtype == np.float32
    np.testing.assert_allclose(again.data[0], stored.get_fdata(), atol=1e-3)
    assert "scaled by 0.5" in header_notes(tmp_path / "scaled.nii.gz")[0]


def test_the_sform_wins_and_the_disagreement_is_noted(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_sform(GRID.affine, 2)
    image.set_qform(GRIDS["flipped"].affine, 1)
    image.to_filename(tmp_path / "both.nii")
    assert read_image(tmp_path / "both.nii").grid.matches(GRID, 1e-4)
    note = header_notes(tmp_path / "both.nii")[0]
    apart = GRID.corner_distance_mm(Grid(GRID.shape, GRIDS["flipped"].affine))
    assert f"differ by up to {apart:.1f} mm" in note
    assert "ITK, ANTs and 3D Slicer place this scan elsewhere" in note
    assert "set_qform(image.affine, 1)" in note
    itk = sitk.ReadImage(str(tmp_path / "both.nii"))
    first = np.multiply(itk.TransformIndexToPhysicalPoint((0, 0, 0)), (-1, -1, 1))
    np.testing.assert_allclose(first, GRIDS["flipped"].origin_mm, atol=1e-3)
    image.set_sform(None, 0)
    image.to_filename(tmp_path / "qform.nii")
    assert read_image(tmp_path / "qform.nii").grid.matches(GRIDS["flipped"], 1e-3)
    assert header_notes(tmp_path / "qform.nii") == []
    image.set_qform(None, 0)
    image.to_filename(tmp_path / "none.nii")
    note = header_notes(tmp_path / "none.nii")[0]
    assert "guesses" in note
    assert "elsewhere" in note
    itk = sitk.ReadImage(str(tmp_path / "none.nii"))
    last = np.array(GRID.shape) - 0.5
    theirs = np.multiply(itk.TransformContinuousIndexToPhysicalPoint(last.tolist()), (-1, -1, 1))
    ours = read_image(tmp_path / "none.nii").grid.voxel_to_world(last)
    assert f"{np.linalg.norm(theirs - ours):.1f} mm" in note


def test_an_empty_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_qform(GRID.affine, 1)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"] = image.header["srow_z"] = 0
    nibabel.Nifti1Image(VALUES, None, image.header).to_filename(tmp_path / "empty.nii")
    assert read_image(tmp_path / "empty.nii").grid.matches(GRID, 1e-3)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1), ("unknown", 1)])
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    image = nibabel.Nifti1Image(VALUES, GRID.affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "scan.nii")
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii").grid.spacing_mm, GRID.spacing_mm * factor, rtol=1e-5)
    assert any(unit in note for note in header_notes(tmp_path / "scan.nii")) == (factor != 1)


def test_sheared_nifti_is_read(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "scan.nii.gz", VALUES, SHEARED.affine))
    assert image.grid.matches(SHEARED, 1e-3)
    assert image.grid.is_sheared


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_itk_formats_lie_where_nifti_lies(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(to_simpleitk(textured_image(GRID, np.int16)), str(tmp_path / f"scan{suffix}"))
    image = read_image(tmp_path / f"scan{suffix}")
    assert image.grid.matches(GRID, 1e-4)
    assert image.data.dtype == np.int16
    np.testing.assert_array_equal(image.data[0], VALUES)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / f"scan{suffix}")), str(tmp_path / "by_itk.nii.gz"))
    assert read_image(tmp_path / "by_itk.nii.gz").grid.matches(GRID, 1e-3)


def test_images_of_other_packages_are_taken_as_they_are() -> None:
    for source in (nibabel.Nifti1Image(VALUES, GRID.affine), to_simpleitk(textured_image(GRID, np.int16))):
        image = read_image(source, name="mine")
        np.testing.assert_array_equal(image.data[0], VALUES)
        assert image.grid.matches(GRID, 1e-4)
        assert image.name == "mine"
    assert read_image(image) is image
    with pytest.raises(UserError, match="cannot take an image from a ndarray"):
        read_image(VALUES)


def test_planes_get_a_third_axis(tmp_path: Path) -> None:
    flat = read_image(save(tmp_path / "flat.nii", VALUES[:, :, 0]))
    assert flat.grid.shape == (*VALUES.shape[:2], 1)
    plane = sitk.GetImageFromArray(VALUES[:, :, 0].T.copy())
    plane.SetSpacing((0.5, 2.0))
    plane.SetOrigin((10.0, 20.0))
    sitk.WriteImage(plane, str(tmp_path / "flat.mha"))
    image = read_image(tmp_path / "flat.mha")
    np.testing.assert_array_equal(image.data[0, :, :, 0], VALUES[:, :, 0])
    np.testing.assert_allclose(image.grid.voxel_to_world([2, 1, 0]), [-11, -22, 0])


def test_one_volume_in_four_axes_and_channels_in_five(tmp_path: Path) -> None:
    one = read_image(save(tmp_path / "one.nii", VALUES[..., None]))
    np.testing.assert_array_equal(one.data[0], VALUES)
    channels = np.stack([VALUES, VALUES + 1, VALUES * 2], -1)[:, :, :, None]
    image = read_image(save(tmp_path / "channels.nii", channels))
    assert image.channels == 3
    np.testing.assert_array_equal(image.data[1], VALUES + 1)
    vector = sitk.GetImageFromArray(channels[:, :, :, 0].transpose(2, 1, 0, 3).astype(np.float32), isVector=True)
    np.testing.assert_array_equal(read_image(vector).data[2], VALUES * 2)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name, file and what the message must say."""
    whole = save(folder / "whole.nii.gz", VALUES)
    (folder / "text.nii.gz").write_text("this is no image")
    (folder / "text.nrrd").write_text("this is no image")
    (folder / "cut.nii.gz").write_bytes(whole.read_bytes()[:4000])
    (folder / "cut.nii").write_bytes(gzip.decompress(whole.read_bytes())[:4000])
    (folder / "empty.nii.gz").write_bytes(b"")
    rgb = sitk.GetImageFromArray(np.zeros((5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(rgb, str(folder / "photo.png"))
    colour = np.zeros((4, 4, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.Nifti1Image(colour, np.eye(4)).to_filename(folder / "rgb.nii")
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(VALUES)] * 3), str(folder / "4d.nrrd"))
    broken = VALUES.astype(np.float32)
    broken[2, 3, 4] = np.nan
    broken[0, 0, 0] = np.inf
    (folder / "folder").mkdir()
    flat = nibabel.Nifti1Image(VALUES, GRID.affine)
    flat.header["srow_y"] = 0
    nibabel.Nifti1Image(VALUES, None, flat.header).to_filename(folder / "singular.nii")
    flat = nibabel.Nifti1Image(VALUES, GRID.affine)
    flat.header["srow_y"] = 0
    nibabel.Nifti1Image(VALUES, None, flat.header).to_filename(folder / "singular.nii")
    return {
        "missing": (folder / "nowhere.nii.gz", "no such file"),
        "text": (folder / "text.nii.gz", "cannot be read"),
        "text nrrd": (folder / "text.nrrd", "cannot be read"),
        "cut gz": (folder / "cut.nii.gz", "cannot be read"),
        "cut": (folder / "cut.nii", "cannot be read"),
        "empty file": (folder / "empty.nii.gz", "cannot be read"),
        "photo": (folder / "photo.png", "colour .* convert it to grey"),
        "rgb": (folder / "rgb.nii", "colour .* convert it to grey"),
        "4d": (save(folder / "4d.nii", np.stack([VALUES] * 60, -1)), "4D: 60 volumes; extract one volume first"),
        "4d nrrd": (folder / "4d.nrrd", "4D: 3 volumes"),
        "complex": (save(folder / "complex.nii", VALUES.astype(np.complex64)), "not real numbers"),
        "constant": (save(folder / "constant.nii", np.full((4, 4, 4), 7, np.int16)), "every voxel has the value 7"),
        "nan": (save(folder / "nan.nii", broken), r"2 of 5670 voxels are NaN or infinite; replace them .* mask"),
        "no dicom": (folder / "folder", "no DICOM files"),
        "singular": (folder / "singular.nii", "affine is singular"),
    }


def test_every_bad_file_gets_one_line_with_a_remedy(tmp_path: Path) -> None:
    for name, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            read_image(path)
        assert "\n" not in str(caught.value), name
        assert path.name in str(caught.value), name
        assert len(str(caught.value)) < 500, name


def test_a_check_sum_that_fails_is_refused(tmp_path: Path) -> None:
    plain = save(tmp_path / "scan.nii", VALUES)
    whole = gzip.compress(plain.read_bytes())
    for n, content in enumerate((whole[:-8] + bytes(4) + whole[-4:], whole[:-4] + bytes(4), whole[:-3])):
        path = tmp_path / f"{n}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            read_image(path)
        mgh = nibabel.MGHImage(VALUES.astype(np.int32), GRID.affine)
        zipped = gzip.compress(mgh.to_bytes())
        (tmp_path / "scan.mgz").write_bytes(zipped[:-8] + bytes(8))
        with pytest.raises(UserError, match="cannot be read"):
            read_image(tmp_path / "scan.mgz")
    (tmp_path / "more.nii.gz").write_bytes(whole + b"bytes after it")
    np.testing.assert_array_equal(read_image(tmp_path / "more.nii.gz").data[0], VALUES)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_compressed_voxels_that_are_damaged_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(to_simpleitk(textured_image(GRID, np.int16)), str(path), useCompression=True)
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_image(path).data[0], VALUES)
    for content in (whole[:-6] + bytes(6), whole[:-3]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged|end early"):
            read_image(path)


def test_a_quaternion_that_is_none_is_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, GRID.affine)
    image.header["qform_code"], image.header["quatern_b"], image.header["quatern_c"] = 1, 3, 3
    content = bytearray(image.to_bytes())
    path = tmp_path / "scan.nii"
    content[252:254] = np.int16(1).tobytes()
    content[256:264] = np.full(2, 3, "<f4").tobytes()
    path.write_bytes(bytes(content))
    assert read_image(path).grid.matches(GRID, 1e-3)
    assert "no rotation" in header_notes(path)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masks_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    values = np.ones(GRID.shape, np.float32)
    values[0, 0, 0] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        read_mask(save(tmp_path / "mask.nii", values))


def test_labels_and_masks(tmp_path: Path) -> None:
    values = (VALUES > 250).astype(np.float32)
    labels = read_labels(save(tmp_path / "labels.nii", values * 3))
    assert isinstance(labels, Labels)
    assert labels.present() == [3]
    with pytest.raises(UserError, match="whole numbers"):
        read_labels(save(tmp_path / "image.nii", values + 0.25))
    with pytest.raises(UserError, match="background only"):
        read_labels(save(tmp_path / "none.nii", values * 0))
    weights = read_mask(save(tmp_path / "weights.nii", values * 0.5))
    assert weights.data.max() == 0.5
    np.testing.assert_array_equal(read_mask(save(tmp_path / "255.nii", values * 255)).data[0], values)
    assert read_mask(save(tmp_path / "ones.nii", values * 0 + 1)).data.min() == 1
    with pytest.raises(UserError, match="empty"):
        read_mask(save(tmp_path / "zeros.nii", values * 0))
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        read_mask(save(tmp_path / "scan.nii", VALUES))


def test_a_dicom_folder_is_one_volume(tmp_path: Path) -> None:
    values = classic_series(tmp_path / "scan", ramp(5, 7, 6))
    image = read_image(tmp_path / "scan")
    np.testing.assert_array_equal(image.data[0], values)
    assert image.name == "scan"
    np.testing.assert_allclose(image.grid.spacing_mm, [2, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(image.grid.voxel_to_world([1, 1, 1]), [-12, -23, -26], atol=1e-4)


def test_several_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    classic_series(tmp_path / "scan", ramp(3), SeriesDescription="arterial")
    portal = classic_series(tmp_path / "scan", ramp(4, seed=1), series="8", SeriesDescription="portal")
    with pytest.raises(UserError, match="2 DICOM series") as caught:
        read_image(tmp_path / "scan")
    for word in (UID + "7", "arterial", "3 files", UID + "8", "portal", "4 files", f"scan::{UID}"):
        assert word in str(caught.value)
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'scan'}::{UID}8").data[0], portal)
    with pytest.raises(UserError, match=r"no DICOM series 1\.2\.3"):
        read_image(f"{tmp_path / 'scan'}::1.2.3")


def test_a_tilted_gantry_gives_a_sheared_grid(tmp_path: Path) -> None:
    classic_series(tmp_path / "scan", ramp(5), positions=[(0, 1.0 * n, 4.0 * n) for n in range(5)])
    grid = read_image(tmp_path / "scan").grid
    assert grid.is_sheared
    np.testing.assert_allclose(grid.voxel_to_world([0, 0, 4]), [0, -4, 16], atol=1e-4)


def test_missing_slices_are_refused(tmp_path: Path) -> None:
    classic_series(tmp_path / "scan", ramp(5), positions=[(0, 0, 4.0 * n) for n in (0, 1, 2, 4, 5)])
    with pytest.raises(UserError, match=r"missing or unevenly spaced \(4 to 8 mm\)"):
        read_image(tmp_path / "scan")


def test_oblique_grids_agree_with_simpleitk(tmp_path: Path) -> None:
    grid = Grid((6, 5, 4), affine_of(rotation((10, 20, 30)), (1, 2, 3), (7, 8, 9)))
    path = save(tmp_path / "scan.nii.gz", textured_image(grid).data[0], grid.affine)
    itk = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (5, 4, 3), (2, 1, 3)]:
        world = itk.TransformIndexToPhysicalPoint(index)
        ours = read_image(path).grid.voxel_to_world(index)
        np.testing.assert_allclose(ours, np.multiply(world, (-1, -1, 1)), atol=1e-4)


def test_a_large_stream_with_bytes_behind_it_is_read_to_its_check_sum(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (40, 41, 42)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
    whole = path.read_bytes()
    assert len(whole) > 1 << 16
    path.write_bytes(whole + b"bytes after it")
    np.testing.assert_array_equal(read_image(path).data[0], noise)
    path.write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    with pytest.raises(UserError, match="cannot be read"):
        read_image(path)
