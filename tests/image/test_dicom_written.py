"""Series, structure sets and segmentations that are written: what other programs read, and references that hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.dicom.source import new_series, read_source
from anamorph.image.dicom.write_scan import write_scan
from anamorph.image.dicom.write_structures import write_segmentation, write_structure_set
from anamorph.image.image import Image, Labels, Structure
from anamorph.image.read import read_image, read_labels
from dicom_files import UID, enhanced_file, ramp
from geometries import rotation
from radiotherapy_files import ct_series, faults, sphere, with_private_tags

TILTED = rotation((12, -8, 25))
DIRECTIONS = (*TILTED[:, 0], *TILTED[:, 1])


def source_in(folder: Path, **options):
    ct_series(folder, ramp(20, 30, 36), **{"orientation": DIRECTIONS, **options})
    return read_source(folder)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.float32])
def test_a_series_is_read_as_it_was_written(tmp_path: Path, kind: type) -> None:
    source = source_in(tmp_path / "ct")
    grid = read_image(tmp_path / "ct").grid
    values = np.random.default_rng(3).integers(0, 60000 if kind is np.uint16 else 3000, grid.shape)
    image = Image(
        (values - (1000 if kind is np.int16 else 0)).astype(kind) * (kind(0.37) if kind is np.float32 else 1), grid
    )
    paths = write_scan(image, tmp_path / "out", source, source, new_series(900, "warped"), "resampled by a test")
    ours = read_image(tmp_path / "out")
    tolerance = 0 if kind is not np.float32 else image.data.max() / 32767
    assert np.abs(ours.data - image.data.astype(float)).max() <= tolerance
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    itk = reader.Execute()
    assert np.abs(sitk.GetArrayFromImage(itk).transpose(2, 1, 0) - image.data[0].astype(float)).max() <= tolerance
    for corner in np.ndindex(2, 2, 2):
        index = (np.array(grid.shape) - 1) * corner
        there = np.array(itk.TransformIndexToPhysicalPoint(index.tolist()))
        assert np.linalg.norm(flip_ras_lps(there) - grid.voxel_to_world(index)) < 0.01
    first = dcmread(paths[0])
    assert first.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert first.DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    assert (first.StudyInstanceUID, first.FrameOfReferenceUID) == (source.study_uid, source.frame_uid)
    assert first.SeriesInstanceUID != source.series_uid
    assert {one.ReferencedSOPInstanceUID for one in first.SourceImageSequence} == {uid for _, uid in source.instances()}
    assert len({dcmread(path).SOPInstanceUID for path in paths}) == 20
    assert faults(paths[0]) == []


@pytest.mark.parametrize("modality", ["MR", "PT", "US"])
def test_series_of_other_modalities_are_sound(tmp_path: Path, modality: str) -> None:
    classes = {"MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
    source = source_in(
        tmp_path / "in", Modality=modality, SOPClassUID=classes.get(modality, "1.2.840.10008.5.1.4.1.1.6.1")
    )
    image = read_image(tmp_path / "in")
    paths = write_scan(image, tmp_path / "out", source, source, new_series(900, "warped"), "resampled by a test")
    np.testing.assert_allclose(read_image(tmp_path / "out").data, image.data, atol=1e-3)
    # What a PET series must say of its counts is the scanner's to say, and these slices of a test say nothing.
    assert modality == "PT" or faults(paths[0]) == []


def test_nothing_of_the_patient_is_made_up_and_private_tags_stay_behind(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", ramp(3), PatientName=None, PatientSex=None, PatientID="secret-7")
    for path in (tmp_path / "ct").glob("*.dcm"):
        with_private_tags(dcmread(path)).save_as(path)
    source = read_source(tmp_path / "ct")
    image = read_image(tmp_path / "ct")
    path = write_scan(image, tmp_path / "out", source, source, new_series(900, "warped"), "resampled")[0]
    written = dcmread(path)
    assert not written.PatientName
    assert not written.PatientSex
    assert written.PatientID == "secret-7"
    assert not any(element.tag.is_private for element in written)


def test_what_others_cannot_refer_to_is_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", ramp(3), FrameOfReferenceUID=None)
    with pytest.raises(UserError, match="no frame of reference"):
        read_source(tmp_path / "ct")
    with pytest.raises(UserError, match="the fixed scan is no DICOM"):
        read_source(tmp_path / "none.nii.gz", "fixed scan")


def shapes(grid) -> dict[str, np.ndarray]:
    middles = {"Liver": (9, 14, 9), "Spleen": (25, 14, 10)}
    return {name: sphere(grid, grid.voxel_to_world(middle), 13.7) for name, middle in middles.items()}


def test_a_structure_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    source = source_in(tmp_path / "ct")
    image = read_image(tmp_path / "ct")
    depths = shapes(image.grid)
    colours = {"Liver": (200, 100, 0), "Spleen": None}
    shares = [
        (Structure(n, name, colours[name]), np.clip(depth / 4 + 0.5, 0, 1).astype(np.float32))
        for n, (name, depth) in enumerate(depths.items(), 4)
    ]
    shares.append((Structure(9, "Nothing"), np.zeros(image.grid.shape, np.float32)))
    path = write_structure_set(shares, tmp_path / "rs.dcm", source, new_series(901, "contours"), "WARPED", "by a test")
    labels = read_labels(path, scan=image)
    assert [(one.name, one.colour) for one in labels.structures] == [("Liver", (200, 100, 0)), ("Spleen", None)]
    expected = (depths["Liver"] > 0) + 2 * (depths["Spleen"] > 0)
    assert np.count_nonzero(labels.data[0] != expected) <= 2
    # Contours run within a tenth of a millimetre of the spheres.
    dataset = dcmread(path)
    middle = flip_ras_lps(image.grid.voxel_to_world([9, 14, 9]))
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        places = np.reshape([float(v) for v in contour.ContourData], (-1, 3))
        assert np.abs(np.linalg.norm(places - middle, axis=1) - 13.7).max() < 0.35
        number = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        position = next(one for one in source.slices if one.SOPInstanceUID == number).ImagePositionPatient
        normal = np.cross(DIRECTIONS[:3], DIRECTIONS[3:])
        assert abs((places - [float(v) for v in position]) @ normal).max() < 0.01
    assert dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == source.frame_uid
    assert faults(path) == []


def test_labels_with_holes_come_back_voxel_by_voxel(tmp_path: Path) -> None:
    source = source_in(tmp_path / "ct")
    image = read_image(tmp_path / "ct")
    mask = np.random.default_rng(0).random(image.grid.shape) > 0.7
    share = mask.astype(np.float32)
    path = write_structure_set(
        [(Structure(1, "Sponge"), share)], tmp_path / "rs.dcm", source, new_series(901, "contours"), "WARPED", "test"
    )
    np.testing.assert_array_equal(read_labels(path, scan=image).data[0] == 1, mask)


def test_a_segmentation_is_read_as_it_was_written(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    source = source_in(tmp_path / "ct")
    image = read_image(tmp_path / "ct")
    depths = shapes(image.grid)
    values = 3 * (depths["Liver"] > 0) + 7 * (depths["Spleen"] > 0)
    labels = Labels(values, image.grid, structures=(Structure(3, "Liver", (200, 100, 0)), Structure(7, "Spleen")))
    path = write_segmentation(labels, tmp_path / "seg.dcm", source, new_series(902, "segments"), "WARPED")
    read = read_labels(path, scan=image)
    np.testing.assert_array_equal(read.data[0], (values == 3) + 2 * (values == 7))
    assert [one.name for one in read.structures] == ["Liver", "Spleen"]
    assert np.abs(np.subtract(read.structures[0].colour, (200, 100, 0))).max() <= 3
    dataset = dcmread(path)
    assert dataset.FrameOfReferenceUID == source.frame_uid
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    assert faults(path) == []


def test_frames_of_an_enhanced_file_are_referred_to_in_any_order(tmp_path: Path) -> None:
    order = [3, 0, 5, 1, 4, 2]
    places = [(10.0, 20.0, 4.0 * n) for n in order]
    enhanced_file(tmp_path / "mr.dcm", ramp(6, 20, 20), positions=places, FrameOfReferenceUID=UID + "55",
                  PatientName="", PatientSex="", PatientBirthDate="")  # fmt: skip
    source = read_source(tmp_path / "mr.dcm")
    image = read_image(tmp_path / "mr.dcm")
    share = (sphere(image.grid, image.grid.voxel_to_world(np.array([10, 9, 1.4])), 9.0) > 0).astype(np.float32)
    path = write_structure_set(
        [(Structure(1, "Ball"), share)], tmp_path / "rs.dcm", source, new_series(901, "contours"), "WARPED", "test"
    )
    np.testing.assert_array_equal(read_labels(path, scan=image).data[0], share)
    drawn = dcmread(path).ROIContourSequence[0].ContourSequence
    assert len(drawn) > 2
    for contour in drawn:
        frame = contour.ContourImageSequence[0].ReferencedFrameNumber
        assert float(contour.ContourData[2]) == places[frame - 1][2]
    pytest.importorskip("highdicom")
    labels = Labels(share.astype(np.uint8), image.grid)
    path = write_segmentation(labels, tmp_path / "seg.dcm", source, new_series(902, "segments"), "WARPED")
    np.testing.assert_array_equal(read_labels(path, scan=image).data[0], share)
