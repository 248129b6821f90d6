"""Values and geometry of DICOM slices, with SimpleITK as the oracle where it reads them right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image import Image
from anamorph.image.dicom import frames, headers
from anamorph.image.header_notes import header_notes
from anamorph.image.read import read_image
from anamorph.registration.preflight import inspect_image
from dicom_files import AXIAL, classic_series, enhanced_file, item, ramp, save, stored
from geometries import rotation

CT = "1.2.840.10008.5.1.4.1.1.2"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
NUCLEAR = "1.2.840.10008.5.1.4.1.1.20"


def itk_of(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_same(ours: Image, itk: sitk.Image) -> None:
    """Values, their type, and the place of every corner."""
    expected = sitk.GetArrayFromImage(itk)
    assert ours.data.dtype == expected.dtype
    np.testing.assert_array_equal(ours.data[0], expected.transpose(2, 1, 0))
    last = np.array(itk.GetSize()) - 1
    for corner in np.ndindex(2, 2, 2):
        index = last * corner
        world = itk.TransformIndexToPhysicalPoint(index.tolist())
        np.testing.assert_allclose(ours.grid.voxel_to_world(index), flip_ras_lps(np.array(world)), atol=1e-4)


# ---- values ----

UNSIGNED = ramp().astype(np.uint16)
SCALINGS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "as stored": (ramp(), {}),
    "12 of 16 bits, HU": (UNSIGNED, {"RescaleIntercept": -1024, "RescaleSlope": 1, "BitsStored": 12, "HighBit": 11}),
    "16 bits, HU": (UNSIGNED, {"RescaleIntercept": -1024, "RescaleSlope": 1}),
    "signed, HU": (ramp() - 1000, {"RescaleIntercept": -1024, "RescaleSlope": 1}),
    "12 bits with their sign": ((ramp() - 1000) & 0xFFF, {"BitsStored": 12, "HighBit": 11}),
    "overlay in the upper bits": (UNSIGNED | 0xF000, {"BitsStored": 12, "HighBit": 11}),
    "negative slope": (UNSIGNED, {"RescaleSlope": -1, "RescaleIntercept": 0, "BitsStored": 12, "HighBit": 11}),
    "fractions": (ramp(), {"RescaleSlope": 0.5, "RescaleIntercept": 0.25}),
    "slope alone": (ramp(), {"RescaleSlope": 2}),
    "slope 0": (ramp(), {"RescaleSlope": 0, "RescaleIntercept": 0}),
    "large intercept": (ramp(), {"RescaleSlope": 2, "RescaleIntercept": 1e6}),
    "8 bits": ((ramp() // 10).astype(np.uint8), {}),
    "8 bits, shifted": ((ramp() // 10).astype(np.uint8), {"RescaleIntercept": -10, "RescaleSlope": 1}),
    "32 bits, shifted": (ramp().astype(np.int32), {"RescaleIntercept": -1024, "RescaleSlope": 1}),
    "dark is high": (UNSIGNED, {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}),
    "dark is high, signed, HU": (
        ramp(),
        {"PhotometricInterpretation": "MONOCHROME1", "RescaleIntercept": -1024, "RescaleSlope": 1},
    ),
    "padding": (ramp(), {"PixelPaddingValue": 5, "RescaleIntercept": -1024, "RescaleSlope": 1}),
}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_values_and_types_are_those_of_itk_where_all_slices_are_scaled_alike(tmp_path: Path, scaling: str) -> None:
    values, tags = SCALINGS[scaling]
    classic_series(tmp_path / "scan", values, SOPClassUID=CT, **tags)
    assert_same(read_image(tmp_path / "scan"), itk_of(tmp_path / "scan"))


def test_each_slice_is_scaled_by_its_own_slope_and_intercept(tmp_path: Path) -> None:
    slopes, intercepts = (1.0, 0.25, 3.0, 0.001), (0.0, -1024.0, 0.5, 7.0)
    values = classic_series(
        tmp_path / "scan", each=lambda n: {"RescaleSlope": slopes[n], "RescaleIntercept": intercepts[n]}
    )
    image = read_image(tmp_path / "scan")
    assert image.data.dtype == np.float32
    np.testing.assert_allclose(image.data[0], values * slopes + np.array(intercepts), rtol=1e-6)
    assert "each is scaled by its own" in header_notes(tmp_path / "scan")[0]
    told = [found.severity for found in inspect_image(image, tmp_path / "scan").findings if "scaled" in found.message]
    assert told == ["note"], "nothing to warn of: PET does so in every scan"


def test_slices_may_differ_in_sign_and_bits(tmp_path: Path) -> None:
    hounsfield = ramp() - 1000

    def each(n: int) -> dict[str, Any]:
        if n % 2:
            return {"PixelRepresentation": 0, "PixelData": (hounsfield[n] + 1024).tobytes(), "RescaleIntercept": -1024,
                    "RescaleSlope": 1, "BitsStored": 12, "HighBit": 11}  # fmt: skip
        return {}

    classic_series(tmp_path / "scan", hounsfield, each=each)
    image = read_image(tmp_path / "scan")
    assert image.data.dtype == np.float32
    np.testing.assert_array_equal(image.data[0], hounsfield.transpose(2, 1, 0))


def test_more_bits_than_float32_holds_keep_their_values(tmp_path: Path) -> None:
    values = ramp().astype(np.int32) + (1 << 25) + 1
    classic_series(tmp_path / "scan", values, each=lambda n: {"RescaleIntercept": n, "RescaleSlope": 1})
    expected = values.transpose(2, 1, 0) + np.arange(4)
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], expected)


def test_values_in_the_upper_bits_come_down(tmp_path: Path) -> None:
    values = ramp().astype(np.uint16)
    classic_series(tmp_path / "scan", values << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values.transpose(2, 1, 0))


def test_a_look_up_table_is_applied(tmp_path: Path) -> None:
    table = item(LUTDescriptor=[2000, 0, 16], LUTData=(np.arange(2000, dtype=np.uint16) * 3).tobytes())
    table[0]["LUTDescriptor"].VR, table[0]["LUTData"].VR = "US", "OW"
    values = classic_series(tmp_path / "scan", ramp().astype(np.uint16), ModalityLUTSequence=table)
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values * 3.0)


def test_floating_point_voxels(tmp_path: Path) -> None:
    values = (ramp() / 7).astype(np.float32)

    def each(n: int) -> dict[str, Any]:
        return {"PixelData": None, "FloatPixelData": values[n].tobytes(), "BitsStored": None, "HighBit": None}

    classic_series(tmp_path / "scan", values, each=each)
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_transfer_syntaxes_without_compression(tmp_path: Path, syntax: str) -> None:
    values = ramp()
    classic_series(tmp_path / "plain", values)
    for path in (tmp_path / "plain").iterdir():
        dataset = dcmread(path)
        little = syntax != ExplicitVRBigEndian
        if not little:
            dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
        again = Dataset(dict(dataset.items()))
        again.file_meta = dataset.file_meta
        again.file_meta.TransferSyntaxUID = syntax
        save(again, tmp_path / "scan" / path.name)
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values.transpose(2, 1, 0))


def compressed(folder: Path, syntax: str, **tags: Any) -> np.ndarray:
    """A series as GDCM compresses it."""
    values = classic_series(folder / "plain", ramp(3, 32, 40).astype(np.uint16), RescaleSlope=1,
                            RescaleIntercept=-1024, BitsStored=12, HighBit=11, **tags)  # fmt: skip
    for n, path in enumerate(sorted((folder / "plain").iterdir())):
        one = dcmread(path)
        if syntax == RLELossless:
            one.compress(RLELossless)
        else:
            one = recompressed(one, syntax, folder)
        save(one, folder / "scan" / f"{n}.dcm")
    return values


def recompressed(dataset: Dataset, syntax: str, folder: Path) -> Dataset:
    writer = sitk.ImageFileWriter()
    plane = sitk.GetImageFromArray(dataset.pixel_array.astype(np.uint16))
    plane.SetMetaData("0028|0101", "12")
    plane.SetMetaData("0028|0102", "11")
    writer.SetFileName(str(folder / "frame.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor({JPEG2000Lossless: "JPEG2000", JPEGLosslessSV1: "JPEG"}[syntax])
    writer.Execute(plane)
    frame = dcmread(folder / "frame.dcm")
    for keyword in ("PixelData", "BitsStored", "HighBit", "BitsAllocated"):
        dataset[keyword] = frame[keyword]
    dataset.file_meta.TransferSyntaxUID = frame.file_meta.TransferSyntaxUID
    return dataset


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEG2000Lossless])
def test_compressed_slices(tmp_path: Path, syntax: str) -> None:
    values = compressed(tmp_path, syntax)
    assert dcmread(tmp_path / "scan" / "0.dcm").file_meta.TransferSyntaxUID.is_compressed
    image = read_image(tmp_path / "scan")
    np.testing.assert_array_equal(image.data[0], values.astype(int) - 1024)
    assert_same(image, itk_of(tmp_path / "scan"))


def test_compressed_slices_that_differ_in_scale(tmp_path: Path) -> None:
    values = compressed(tmp_path, RLELossless, each=lambda n: {"RescaleSlope": n + 0.5})
    expected = values * np.array([0.5, 1.5, 2.5]) - 1024
    np.testing.assert_allclose(read_image(tmp_path / "scan").data[0], expected)


def test_every_element_that_is_asked_for_exists() -> None:
    traits = [keyword for keywords, _ in frames.TRAITS.values() for keyword in keywords]
    asked = {*headers._KEYWORDS, *frames.ECHO_TIME, *traits}
    assert [keyword for keyword in asked if tag_for_keyword(keyword) is None] == []


# ---- places ----


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 20, 30), (90, 0, 0), (0, 90, 180)])
def test_geometry_is_that_of_itk(tmp_path: Path, angles: tuple[float, float, float], reverse: bool) -> None:
    axes = rotation(angles)
    positions = [tuple(axes @ (3, -7, 2.5 * n) + (100, -50, 20)) for n in range(4)][:: -1 if reverse else 1]
    classic_series(tmp_path / "scan", positions=positions, orientation=[*axes[:, 0], *axes[:, 1]])
    image = read_image(tmp_path / "scan")
    assert_same(image, itk_of(tmp_path / "scan"))
    np.testing.assert_allclose(image.grid.spacing_mm, (2, 3, 2.5), rtol=1e-6)


@pytest.mark.parametrize("tags", [{}, {"SpacingBetweenSlices": 6.0}, {"SliceThickness": 5.0}])
def test_a_single_slice_lies_where_itk_puts_it(tmp_path: Path, tags: dict[str, float]) -> None:
    classic_series(tmp_path / "scan", ramp(1), **tags)
    (path,) = (tmp_path / "scan").iterdir()
    for source in (path, tmp_path / "scan"):
        assert_same(read_image(source), sitk.ReadImage(str(path)))


def test_a_spacing_or_place_that_is_assumed_is_told(tmp_path: Path) -> None:
    classic_series(
        tmp_path / "scan", ramp(1), PixelSpacing=None, ImagePositionPatient=None, ImageOrientationPatient=None
    )
    np.testing.assert_array_equal(read_image(tmp_path / "scan").grid.spacing_mm, (1, 1, 1))
    spacing, place = header_notes(tmp_path / "scan")
    assert "1 mm is assumed" in spacing
    assert "guesses" in place


@pytest.mark.parametrize("element", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_slices_that_do_not_say_where_they_lie_are_refused(tmp_path: Path, element: str) -> None:
    classic_series(tmp_path / "scan", **{element: None})
    with pytest.raises(UserError, match=rf"{element} \(00\d\d,00\d\d\) is missing"):
        read_image(tmp_path / "scan")


def test_a_tilted_gantry_is_told(tmp_path: Path) -> None:
    classic_series(tmp_path / "scan", positions=[(0, 1.0 * n, 4.0 * n) for n in range(5)], values=ramp(5))
    assert "14.0 degrees" in header_notes(tmp_path / "scan")[0]


def test_names_and_places_of_files_do_not_matter(tmp_path: Path) -> None:
    values = classic_series(tmp_path / "scan", names="{n}", each=lambda n: {"InstanceNumber": 9 - n})
    (tmp_path / "scan" / "notes.txt").write_text("08" * 200)
    (tmp_path / "scan" / "empty").touch()
    (tmp_path / "scan" / "folder").mkdir()
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values)


def test_files_without_preamble(tmp_path: Path) -> None:
    values = classic_series(tmp_path / "scan")
    for path in (tmp_path / "scan").iterdir():
        dataset = dcmread(path)
        bare = Dataset(dict(dataset.items()))
        bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_image(tmp_path / "scan").data[0], values)


# ---- many frames in one file ----


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 20, 30)])
def test_frames_lie_at_their_own_positions(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    axes = rotation(angles)
    places = [tuple(axes @ (0, 0, 5.0 * n) + (7, 8, 9)) for n in range(6)]
    order = [0, 2, 4, 5, 1, 3]
    values = enhanced_file(
        tmp_path / "scan.dcm", ramp(6), positions=[places[n] for n in order], orientation=[*axes[:, 0], *axes[:, 1]]
    )
    for source in (tmp_path / "scan.dcm", tmp_path):
        image = read_image(source)
        np.testing.assert_array_equal(image.data[0], values[:, :, np.argsort(order)])
        np.testing.assert_allclose(image.grid.spacing_mm, (2, 3, 5))
        for index in ([0, 0, 0], [7, 7, 5], [1, 2, 3]):
            expected = axes @ (index * np.array([2, 3, 5.0])) + (7, 8, 9)
            np.testing.assert_allclose(image.grid.voxel_to_world(index), flip_ras_lps(expected), atol=1e-6)


def test_an_ordered_enhanced_file_is_what_itk_reads(tmp_path: Path) -> None:
    scaling = {"PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1000, RescaleType="HU")}
    enhanced_file(tmp_path / "scan.dcm", shared=scaling)
    assert_same(read_image(tmp_path / "scan.dcm"), sitk.ReadImage(str(tmp_path / "scan.dcm")))


def test_each_frame_is_scaled_by_its_own_group(tmp_path: Path) -> None:
    values = enhanced_file(
        tmp_path / "scan.dcm",
        each=lambda n: {
            "PixelValueTransformationSequence": item(RescaleSlope=n + 0.5, RescaleIntercept=-n, RescaleType="US")
        },
    )
    expected = values * (np.arange(4) + 0.5) - np.arange(4)
    np.testing.assert_allclose(read_image(tmp_path / "scan.dcm").data[0], expected)


def test_compressed_frames(tmp_path: Path) -> None:
    places = [(0.0, 0.0, 4.0 * n) for n in (2, 0, 3, 1)]
    values = enhanced_file(tmp_path / "plain.dcm", positions=places)
    dataset = dcmread(tmp_path / "plain.dcm")
    dataset.compress(RLELossless)
    save(dataset, tmp_path / "scan.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "scan.dcm").data[0], values[:, :, [1, 3, 0, 2]])


def test_frames_are_checked_like_slices(tmp_path: Path) -> None:
    enhanced_file(tmp_path / "gap.dcm", positions=[(0, 0, 4.0 * n) for n in (0, 1, 2, 4)])
    with pytest.raises(UserError, match=r"missing or unevenly spaced \(4 to 8 mm\)"):
        read_image(tmp_path / "gap.dcm")
    enhanced_file(tmp_path / "twice.dcm", positions=[(0, 0, 4.0 * n) for n in (0, 1, 1, 2)])
    with pytest.raises(UserError, match="several slices at one position"):
        read_image(tmp_path / "twice.dcm")
    enhanced_file(tmp_path / "fewer.dcm", NumberOfFrames=3)
    with pytest.raises(UserError, match=r"announces 3 frames .* and describes 4"):
        read_image(tmp_path / "fewer.dcm")


def dose(path: Path, **tags: Any) -> np.ndarray:
    values = ramp().astype(np.uint32) * 100
    dataset = stored(values, "1.2.3", RT_DOSE, Modality="RTDOSE", NumberOfFrames=4, DoseGridScaling=0.25,
                     GridFrameOffsetVector=[0, 5, 10, 15], ImagePositionPatient=[1, 2, 3], PixelSpacing=[3, 2],
                     ImageOrientationPatient=list(AXIAL), SeriesInstanceUID="1.2.9", **tags)  # fmt: skip
    save(dataset, path)
    return values.transpose(2, 1, 0)


def test_a_dose_is_scaled_and_lies_at_its_offsets(tmp_path: Path) -> None:
    values = dose(tmp_path / "dose.dcm")
    image = read_image(tmp_path / "dose.dcm")
    np.testing.assert_allclose(image.data[0], values * 0.25)
    np.testing.assert_allclose(image.grid.spacing_mm, (2, 3, 5))
    itk = sitk.ReadImage(str(tmp_path / "dose.dcm"))
    for index in ([0, 0, 0], [7, 0, 3], [0, 7, 1]):
        world = np.array(itk.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(image.grid.voxel_to_world(index), flip_ras_lps(world), atol=1e-6)


def test_nuclear_medicine_lies_where_its_detector_says(tmp_path: Path) -> None:
    place = item(ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=list(AXIAL))
    dataset = stored(ramp(), "1.2.3", NUCLEAR, Modality="NM", NumberOfFrames=4, SpacingBetweenSlices=5,
                     DetectorInformationSequence=place, PixelSpacing=[3, 2], SeriesInstanceUID="1.2.9")  # fmt: skip
    save(dataset, tmp_path / "scan.dcm")
    assert_same(read_image(tmp_path / "scan.dcm"), sitk.ReadImage(str(tmp_path / "scan.dcm")))


def test_frames_without_places_are_refused(tmp_path: Path) -> None:
    save(stored(ramp(), "1.2.3", "1.2.840.10008.5.1.4.1.1.3.1", Modality="US", NumberOfFrames=4), tmp_path / "us.dcm")
    with pytest.raises(UserError, match=r"4 frames without positions .* slices or times"):
        read_image(tmp_path / "us.dcm")
