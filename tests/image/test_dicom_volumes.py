"""Which volume of a DICOM folder or file is read, and what is said when there are several, or none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from anamorph.errors import UserError
from anamorph.image.header_notes import header_notes
from anamorph.image.read import read_image, read_labels, read_mask
from dicom_files import AXIAL, UID, classic_series, enhanced_file, item, ramp, save, stored

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PLACES = [(0.0, 0.0, 4.0 * n) for n in range(4)]
TWICE = PLACES + PLACES
INTERLEAVED = [place for place in PLACES for _ in range(2)]


def refused(source: object) -> str:
    """The message, which must be one line."""
    with pytest.raises(UserError) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def remedy_of(line: str) -> str:
    found = re.search(r"choose one (?:with|as) '([^']*)'$", line)
    assert found is not None, line
    return found[1]


# ---- several volumes, one file per slice ----


@pytest.mark.parametrize("places", [TWICE, INTERLEAVED, TWICE[::-1]], ids=["after", "between", "backwards"])
def test_echoes_are_listed_and_one_can_be_chosen(tmp_path: Path, places: list[tuple[float, float, float]]) -> None:
    echo = [1 + sum(one == place for one in places[:n]) for n, place in enumerate(places)]
    folder = tmp_path / "scan"
    values = classic_series(
        folder, ramp(8), positions=places, each=lambda n: {"EchoNumbers": echo[n], "EchoTime": 20.0 * echo[n] - 10}
    )
    line = refused(folder)
    assert "two volumes (echo 1: 10 ms, 4 slices; echo 2: 30 ms, 4 slices); choose one with" in line
    assert remedy_of(line) == f"{folder}::echo=1"
    for n in (1, 2):
        mine = [index for index in range(8) if echo[index] == n]
        mine.sort(key=lambda index: places[index][2])
        np.testing.assert_array_equal(read_image(f"{folder}::echo={n}").data[0], values[:, :, mine])
        np.testing.assert_array_equal(read_image(f"{folder}::{UID}7::echo={n}").data[0], values[:, :, mine])
    assert "no slices with echo=3; there is 1, 2" in refused(f"{folder}::echo=3")
    assert "the header has no b" in refused(f"{folder}::b=3")


def test_echoes_without_numbers_are_numbered_by_their_times(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(8), positions=TWICE, each=lambda n: {"EchoTime": 30.0 if n < 4 else 10.0})
    assert "two volumes (echo 1: 10 ms, 4 slices; echo 2: 30 ms, 4 slices)" in refused(tmp_path)


TRAITS: dict[str, tuple[Callable[[int], dict[str, Any]], str, str]] = {
    "b-values": (lambda v: {"DiffusionBValue": 500.0 * v}, "b 0 s/mm2, 4 slices; b 500 s/mm2, 4 slices", "b=0"),
    "times": (lambda v: {"TemporalPositionIdentifier": v + 1}, "time 1, 4 slices; time 2, 4 slices", "time=1"),
    "heart": (lambda v: {"TriggerTime": 300.5 * v}, "trigger 0 ms, 4 slices; trigger 300.5 ms, 4 slices", "trigger=0"),
    "phase": (
        lambda v: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[v], "ND"]},
        "image ORIGINAL/PRIMARY/M/ND, 4 slices; image ORIGINAL/PRIMARY/P/ND, 4 slices",
        "image=ORIGINAL/PRIMARY/M/ND",
    ),
    "acquisitions": (
        lambda v: {"AcquisitionNumber": v + 3},
        "acquisition 3, 4 slices; acquisition 4, 4 s",
        "acquisition=3",
    ),
    "energies": (lambda v: {"KVP": 80.0 + 60 * v}, "kv 80 kV, 4 slices; kv 140 kV, 4 slices", "kv=80"),
}


@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize("between", [False, True])
def test_what_tells_volumes_apart_is_named(tmp_path: Path, trait: str, between: bool) -> None:
    tags, listed, key = TRAITS[trait]
    volume = (lambda n: n % 2) if between else (lambda n: n // 4)
    values = classic_series(
        tmp_path, ramp(8), positions=INTERLEAVED if between else TWICE, each=lambda n: tags(volume(n))
    )
    line = refused(tmp_path)
    assert listed in line
    assert remedy_of(line) == f"{tmp_path}::{key}"
    first = [n for n in range(8) if volume(n) == 0]
    np.testing.assert_array_equal(read_image(remedy_of(line)).data[0], values[:, :, first])


def test_a_part_of_the_image_type_chooses(tmp_path: Path) -> None:
    values = classic_series(
        tmp_path, ramp(8), positions=TWICE, each=lambda n: {"ImageType": ["DERIVED", "PRIMARY", "WF"[n // 4]]}
    )
    np.testing.assert_array_equal(read_image(f"{tmp_path}::image=F").data[0], values[:, :, 4:])


def test_two_traits_together_tell_four_volumes_apart(tmp_path: Path) -> None:
    values = classic_series(
        tmp_path, ramp(16), positions=TWICE + TWICE,
        each=lambda n: {"EchoNumbers": 1 + n // 4 % 2, "ImageType": ["ORIGINAL", "PRIMARY", "MP"[n // 8]]},
    )  # fmt: skip
    line = refused(tmp_path)
    assert "four volumes (echo 1, image ORIGINAL/PRIMARY/M, 4 slices; " in line
    assert remedy_of(line) == f"{tmp_path}::echo=1::image=ORIGINAL/PRIMARY/M"
    np.testing.assert_array_equal(read_image(f"{tmp_path}::echo=2::image=P").data[0], values[:, :, 12:])
    assert "two volumes (image" in refused(f"{tmp_path}::echo=2")


def test_volumes_that_nothing_names_are_said_to_be_so(tmp_path: Path) -> None:
    values = classic_series(tmp_path, ramp(8), positions=TWICE)
    line = refused(tmp_path)
    assert "two volumes (volume 1, from instance 1, 4 slices; volume 2, from instance 5, 4 slices), which" in line
    assert "do not name" in line
    np.testing.assert_array_equal(read_image(f"{tmp_path}::volume=2").data[0], values[:, :, 4:])
    assert "volume=3 is not there; there are 1 to 2" in refused(f"{tmp_path}::volume=3")


def test_slabs_that_do_not_meet_are_told_apart(tmp_path: Path) -> None:
    places = PLACES + [(0.0, 0.0, 100 + 4.0 * n) for n in range(4)]
    values = classic_series(tmp_path, ramp(8), positions=places, each=lambda n: {"AcquisitionNumber": 1 + n // 4})
    assert "two volumes (acquisition 1, 4 slices; acquisition 2, 4 slices)" in refused(tmp_path)
    np.testing.assert_array_equal(read_image(f"{tmp_path}::acquisition=2").data[0], values[:, :, 4:])


def test_the_same_image_twice_is_named(tmp_path: Path) -> None:
    classic_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "7_001.dcm").read_bytes())
    line = refused(tmp_path)
    assert "the same image as" in line
    assert "7_001.dcm" in line
    assert "copy.dcm" in line


def test_several_series_and_volumes_within_them(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(8), positions=TWICE, each=lambda n: {"EchoNumbers": 1 + n // 4})
    classic_series(tmp_path, ramp(3), series="8")
    assert "2 DICOM series" in refused(tmp_path)
    line = refused(f"{tmp_path}::{UID}7")
    assert remedy_of(line) == f"{tmp_path}::{UID}7::echo=1"
    assert read_image(remedy_of(line)).grid.shape == (8, 8, 4)


@pytest.mark.parametrize("wrong", ["echos=1", "echo=1::echo=2", "1.2::3.4", "echo="])
def test_selectors_that_choose_nothing_are_refused(tmp_path: Path, wrong: str) -> None:
    classic_series(tmp_path)
    assert "chooses nothing; write PATH::SERIES_UID, or a key" in refused(f"{tmp_path}::{wrong}")


def test_other_files_have_nothing_to_choose_from(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(bytes(400))
    assert "chooses from DICOM" in refused(f"{tmp_path}/scan.nii::echo=1")
    assert "no such file" in refused(f"{tmp_path}/other::echo=1")


# ---- several volumes in one file ----

GROUPS: dict[str, tuple[Callable[[int], dict[str, Any]], Callable[[int], dict[str, Any]], str, str]] = {
    "echoes": (
        lambda v: {"MREchoSequence": item(EffectiveEchoTime=10.0 + 20 * v)},
        lambda v: {"StackID": "1"},
        "two volumes (echo 1: 10 ms, 4 slices; echo 2: 30 ms, 4 slices)",
        "echo=2",
    ),
    "b-values": (
        lambda v: {"MRDiffusionSequence": item(DiffusionBValue=1000.0 * v)},
        lambda v: {"StackID": "1"},
        "two volumes (b 0 s/mm2, 4 slices; b 1000 s/mm2, 4 slices)",
        "b=1000",
    ),
    "times": (
        lambda v: {},
        lambda v: {"StackID": "1", "TemporalPositionIndex": v + 1},
        "two volumes (time 1, 4 slices; time 2, 4 slices)",
        "time=2",
    ),
    "stacks": (
        lambda v: {},
        lambda v: {"StackID": "AB"[v]},
        "two stacks (stack A, 8 x 8 voxels, 4 slices; stack B, 8 x 8 voxels, 4 slices)",
        "stack=B",
    ),
    "heart": (
        lambda v: {"CardiacSynchronizationSequence": item(NominalCardiacTriggerDelayTime=250.0 * v)},
        lambda v: {"StackID": "1"},
        "two volumes (trigger 0 ms, 4 slices; trigger 250 ms, 4 slices)",
        "trigger=250",
    ),
    "kinds": (
        lambda v: {"MRImageFrameTypeSequence": item(FrameType=["DERIVED", "PRIMARY", "DIXON", ("WATER", "FAT")[v]])},
        lambda v: {"StackID": "1"},
        "two volumes (image DERIVED/PRIMARY/DIXON/FAT, 4 slices; image DERIVED/PRIMARY/DIXON/WATER, 4 slices)",
        "image=FAT",
    ),
    "unknown": (
        lambda v: {},
        lambda v: {"StackID": "1", "DimensionIndexValues": [1, v + 1]},
        "two volumes (dimension 1/1, 4 slices; dimension 1/2, 4 slices)",
        "dimension=1/2",
    ),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("between", [False, True])
def test_volumes_of_an_enhanced_file_are_named(tmp_path: Path, group: str, between: bool) -> None:
    each, content, listed, chosen = GROUPS[group]
    volume = (lambda n: n % 2) if between else (lambda n: n // 4)
    pointers = [Dataset(), Dataset()]
    pointers[0].DimensionIndexPointer, pointers[1].DimensionIndexPointer = 0x00209056, 0x00209128
    path = tmp_path / "scan.dcm"
    values = enhanced_file(
        path,
        ramp(8),
        positions=INTERLEAVED if between else TWICE,
        each=lambda n: each(volume(n)),
        content=lambda n: content(volume(n)),
        DimensionIndexSequence=pointers,
    )
    line = refused(path)
    assert listed in line
    assert read_image(remedy_of(line)).grid.shape == (8, 8, 4)
    # The second as listed, apart from fat and water, which are listed by the alphabet.
    mine = [n for n in range(8) if volume(n) == 1]
    np.testing.assert_array_equal(read_image(f"{path}::{chosen}").data[0], values[:, :, mine])


def test_slice_dimensions_tell_nothing_apart(tmp_path: Path) -> None:
    pointers = [Dataset(), Dataset()]
    pointers[0].DimensionIndexPointer, pointers[1].DimensionIndexPointer = 0x00209056, 0x00209057
    enhanced_file(
        tmp_path / "scan.dcm",
        content=lambda n: {"StackID": "1", "InStackPositionNumber": n + 1, "DimensionIndexValues": [1, n + 1]},
        DimensionIndexSequence=pointers,
    )
    assert read_image(tmp_path / "scan.dcm").grid.shape == (8, 8, 4)


def test_an_enhanced_file_per_time_is_a_volume_each(tmp_path: Path) -> None:
    values = [enhanced_file(tmp_path / f"{n}.dcm", ramp(seed=n), InstanceNumber=n + 1, SOPInstanceUID=f"1.2.{n}")
              for n in range(2)]  # fmt: skip
    assert "two volumes (instance 1, 4 slices; instance 2, 4 slices)" in refused(tmp_path)
    np.testing.assert_array_equal(read_image(f"{tmp_path}::instance=2").data[0], values[1])


# ---- scouts ----


@pytest.mark.parametrize("number", [0, 99])
def test_scouts_in_a_series_are_left_out_and_named(tmp_path: Path, number: int) -> None:
    values = classic_series(tmp_path, ramp(6))
    classic_series(tmp_path, ramp(1), names="scout.dcm", orientation=SAGITTAL, InstanceNumber=number,
                   SOPInstanceUID="1.2.1")  # fmt: skip
    classic_series(tmp_path, ramp(1, 16, 16), names="wide.dcm", SOPInstanceUID="1.2.2", InstanceNumber=number)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.data[0], values)
    (note,) = header_notes(tmp_path)
    assert note == "left out slices of another direction, size or kind (localisers?): scout.dcm, wide.dcm"


def test_a_scout_of_the_same_direction_and_size_is_known_by_its_kind(tmp_path: Path) -> None:
    values = classic_series(tmp_path, ramp(6))
    classic_series(tmp_path, ramp(1), names="scout.dcm", positions=[(10, 20, 300)], SOPInstanceUID="1.2.1",
                   ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path).data[0], values)
    assert "scout.dcm" in header_notes(tmp_path)[0]


def test_stacks_of_similar_size_are_listed(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(4))
    sagittal = classic_series(
        tmp_path, ramp(3, 8, 6), names="b{n}", orientation=SAGITTAL, each=lambda n: {"SOPInstanceUID": f"1.2.{n}",
                                                                                    "InstanceNumber": 10 + n}
    )  # fmt: skip
    line = refused(tmp_path)
    assert "two stacks (stack 1, 8 x 8 voxels, 4 slices; stack 2, 6 x 8 voxels, 3 slices)" in line
    assert remedy_of(line) == f"{tmp_path}::stack=1"
    np.testing.assert_array_equal(read_image(f"{tmp_path}::stack=2").data[0], sagittal)


# ---- what is no scan ----

OBJECTS = {
    "RTSTRUCT": ("481.3", "an RT structure set (contours)", "give it as labels"),
    "SEG": ("66.4", "a DICOM segmentation of 2 segments: liver, spleen", "give it as labels"),
    "REG": ("66.1", "a DICOM registration (a transform)", "--init"),
    "RTPLAN": ("481.5", "an RT plan", "the scan itself"),
    "PR": ("11.1", "a presentation state", "the scan itself"),
    "SR": ("88.33", "a structured report", "the scan itself"),
    "KO": ("88.59", "a key object selection", "the scan itself"),
    "ECG": ("9.1.1", "a waveform", "the scan itself"),
    "DOC": ("104.1", "an encapsulated PDF", "convert"),
    "RTRECORD": ("481.4", "a record of radiotherapy", "the scan itself"),
    "MRS": ("4.2", "MR spectroscopy", "the scan itself"),
    "OT": ("78.1", "Lensometry Measurements without pixel data", "the scan itself"),
}


def write_object(path: Path, modality: str) -> Path:
    sop_class = "1.2.840.10008.5.1.4.1.1." + OBJECTS[modality][0]
    dataset = stored(ramp(2).astype(np.uint8), "1.2.77", sop_class, Modality=modality, NumberOfFrames=2)
    dataset.SeriesInstanceUID = UID + "77"
    if modality == "SEG":
        segments = [item(SegmentNumber=n + 1, SegmentLabel=name)[0] for n, name in enumerate(("liver", "spleen"))]
        dataset.SegmentSequence = segments
    else:
        for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"):
            delattr(dataset, keyword)
    return save(dataset, path)


@pytest.mark.parametrize("modality", OBJECTS)
def test_objects_that_are_no_scans_are_named(tmp_path: Path, modality: str) -> None:
    path = write_object(tmp_path / "in" / "object.dcm", modality)
    _, what, remedy = OBJECTS[modality]
    for read in (read_image,) if modality in ("RTSTRUCT", "SEG") else (read_image, read_labels, read_mask):
        with pytest.raises(UserError, match=re.escape(what)) as caught:
            read(path)
        assert remedy in str(caught.value)
        assert "not a scan" in str(caught.value)
    assert f"no scan in this folder but {what}" in refused(path.parent)


def test_other_objects_beside_one_series_are_left_out_and_named(tmp_path: Path) -> None:
    values = classic_series(tmp_path)
    write_object(tmp_path / "rs.dcm", "RTSTRUCT")
    write_object(tmp_path / "report.dcm", "SR")
    colours = stored(ramp(3).transpose(1, 2, 0).astype(np.uint8), "1.2.78", SamplesPerPixel=3, Rows=8, Columns=8,
                     PhotometricInterpretation="RGB", PlanarConfiguration=0, SeriesInstanceUID="1.2.79")  # fmt: skip
    save(colours, tmp_path / "picture.dcm")
    save(stored(ramp(1), "1.2.80", "1.2.840.10008.1.3.10", Rows=None, PixelData=None), tmp_path / "DICOMDIR")
    np.testing.assert_array_equal(read_image(tmp_path).data[0], values)
    assert header_notes(tmp_path) == [
        "left out a colour image: picture.dcm",
        "left out a structured report: report.dcm",
        "left out an RT structure set (contours): rs.dcm",
    ]
    assert "an RT structure set" in refused(f"{tmp_path}::{UID}77")
    assert "a colour image" in refused(tmp_path / "picture.dcm")
    assert "name the folder that holds the slices" in refused(tmp_path / "DICOMDIR")


def test_a_series_that_is_nowhere_is_said_to_be_so(tmp_path: Path) -> None:
    write_object(tmp_path / "rs.dcm", "RTSTRUCT")
    assert "no series 1.2.3 here" in refused(f"{tmp_path}::1.2.3")


def test_palettes_are_colours(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(1).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    assert "a colour image" in refused(tmp_path)


def test_a_label_map_in_slices(tmp_path: Path) -> None:
    values = classic_series(tmp_path, (ramp() // 700).astype(np.uint8), orientation=AXIAL)
    assert read_labels(tmp_path).present() == sorted(set(np.unique(values)) - {0})
