"""Damaged and hostile DICOM: one line, no memory, no noise, no link followed."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from anamorph.errors import UserError
from anamorph.image import bounds
from anamorph.image.header_notes import header_notes
from anamorph.image.read import read_grid, read_image
from dicom_files import classic_series, enhanced_file, ramp, save

DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "text for numbers": ({"PixelSpacing": b"abc\\def "}, r"PixelSpacing \(0028,0030\)"),
    "one number for two": ({"PixelSpacing": b"1.0 "}, r"PixelSpacing \(0028,0030\) is 1.0, not 2 numbers"),
    "infinite spacing": ({"PixelSpacing": b"inf\\inf "}, r"PixelSpacing \(0028,0030\) is"),
    "negative spacing": ({"PixelSpacing": b"-1\\-1 "}, r"PixelSpacing \(0028,0030\) is \(-1"),
    "text for a place": ({"ImagePositionPatient": b"here"}, r"ImagePositionPatient \(0020,0032\)"),
    "text for a slope": ({"RescaleSlope": b"abc "}, r"RescaleSlope \(0028,1053\)"),
    "two intercepts": ({"RescaleIntercept": b"1\\2 "}, r"RescaleIntercept \(0028,1052\) is .* not 1 numbers"),
    "text for a count": ({"NumberOfFrames": b"many"}, r"NumberOfFrames \(0028,0008\)"),
    "five cosines": ({"ImageOrientationPatient": b"1\\0\\0\\0\\1 "}, r"ImageOrientationPatient .* not 6 numbers"),
    "parallel axes": ({"ImageOrientationPatient": b"1\\0\\0\\1\\0\\0 "}, "no two directions at right"),
    "no rows": ({"Rows": None}, r"Rows \(0028,0010\) is missing"),
    "zero columns": ({"Columns": 0}, r"Columns \(0028,0011\) is 0"),
    "13 bits": ({"BitsAllocated": 13}, "voxels of 13 bits are not read"),
    "more bits than there are": ({"BitsStored": 30, "HighBit": 29}, "30 bits stored"),
    "no voxels": ({"PixelData": None}, "without pixel data"),
    "fewer voxels": ({"PixelData": bytes(100)}, "its 100 bytes of voxels do not hold the 128"),
    "more rows": ({"Rows": 65535, "Columns": 65535}, "its 128 bytes of voxels do not hold the 8589672450"),
}


def overwritten(path: Path, tags: dict[str, Any]) -> None:
    """Set elements as raw bytes, so that nothing checks them on the way."""
    dataset = dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        elif isinstance(value, bytes) and keyword != "PixelData":
            tag = Tag(keyword)
            dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_headers_get_one_line_that_names_the_element(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tags, message = DAMAGE[damage]
    classic_series(tmp_path / "scan")
    overwritten(tmp_path / "scan" / "7_002.dcm", tags)
    for source in (tmp_path / "scan", tmp_path / "scan" / "7_002.dcm"):
        with pytest.raises(UserError, match=message) as caught:
            read_image(source)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert capfd.readouterr() == ("", "")


def test_damage_that_does_not_matter_does_not_matter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = classic_series(tmp_path)
    for n in range(4):
        overwritten(
            tmp_path / f"7_{n:03d}.dcm",
            {
                "EchoTime": b"abc ",
                "InstanceNumber": b"1.5 ",
                "FlipAngle": b"1\\2\\3 ",
                "KVP": b"\xff\xfe",
            },
        )
    np.testing.assert_array_equal(read_image(tmp_path).data[0], values)
    assert capfd.readouterr() == ("", "")


def test_slices_that_were_cut_short_are_named(tmp_path: Path) -> None:
    classic_series(tmp_path)
    path = tmp_path / "7_001.dcm"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"7_001.dcm: its 118 bytes of voxels do not hold the 128"):
        read_image(tmp_path)
    path.write_bytes(whole[:300])
    with pytest.raises(UserError, match=r"7_001.dcm"):
        read_image(tmp_path)


def peak_of(source: Path, message: str) -> int:
    """Most bytes that Python and numpy held while a source was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message):
            read_image(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_deflated_traps_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HARMLESS_VALUES", 3 << 20)
    classic_series(tmp_path / "scan", ramp(1))
    (path,) = (tmp_path / "scan").iterdir()
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(dataset, path)
    assert read_image(path).grid.shape == (8, 8, 1)
    content = path.read_bytes()
    start = 132 + 12 + struct.unpack("<L", content[140:144])[0]
    inflated = zlib.decompress(content[start:], -15)
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    packed = packing.compress(inflated) + b"".join(packing.compress(zeros) for _ in range(16)) + packing.flush()
    path.write_bytes(content[:start] + packed)
    assert peak_of(path, "would unpack to") < 8e6


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1])
def test_compressed_traps_are_not_unpacked(tmp_path: Path, syntax: str) -> None:
    classic_series(tmp_path / "scan", ramp(1))
    (path,) = (tmp_path / "scan").iterdir()
    dataset = dcmread(path)
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([bytes(2000)]), syntax
    dataset["PixelData"].is_undefined_length = True
    dataset.Rows = dataset.Columns = 60000
    save(dataset, path)
    assert peak_of(path, r"0\.0 MB would unpack to 36000 MB") < 20e6
    dataset.Rows = dataset.Columns = 8
    frame = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 16, 60000, 60000, 1) + bytes(100)
    dataset.PixelData = encapsulate([frame])
    save(dataset, path)
    assert peak_of(path, r"compressed voxels are \(60000, 60000\)|cannot be (read|unpacked)") < 20e6


@pytest.mark.parametrize(("place", "value"), [(6, 232), (6, 0), (11, 9)], ids=["bits", "no bits", "components"])
def test_jpegs_that_contradict_their_header_never_reach_the_codec(tmp_path: Path, place: int, value: int) -> None:
    classic_series(tmp_path, ramp(1), names="scan.dcm")
    dataset = dcmread(tmp_path / "scan.dcm")
    frame = bytearray(b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 16, 8, 8, 1) + bytes(100))
    frame[place] = value
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([bytes(frame)]), JPEGLosslessSV1
    dataset["PixelData"].is_undefined_length = True
    save(dataset, tmp_path / "scan.dcm")
    with pytest.raises(UserError, match=r"compressed voxels are \(8, 8\) of \d+ bits and its header says"):
        read_image(tmp_path / "scan.dcm")


def test_lengths_that_lie_ask_for_no_memory(tmp_path: Path) -> None:
    classic_series(tmp_path / "scan", ramp(1))
    (path,) = (tmp_path / "scan").iterdir()
    content = path.read_bytes()
    place = content.index(b"\x08\x00\x60\x00CS")
    path.write_bytes(content[:place] + b"\x08\x00\x60\x00UN\x00\x00" + struct.pack("<L", 0xFFFFFFF0) + content[place:])
    assert peak_of(path, ".") < 20e6


def test_headers_of_many_small_pieces_are_not_parsed_for_minutes(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(1), names="scan.dcm")
    path = tmp_path / "scan.dcm"
    content = path.read_bytes()
    place = content.index(b"\x08\x00\x60\x00CS")
    item, end = b"\xfe\xff\x00\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
    endless = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4 + item * 70_000 + end
    path.write_bytes(content[:place] + endless + content[place:])
    with pytest.raises(UserError, match="far too many elements"):
        read_image(path)
    place = content.index(b"\xe0\x7f\x10\x00")
    counted = b"\x00\x52\x30\x92SQ\0\0" + struct.pack("<L", 8 * 30_000) + item * 30_000
    path.write_bytes(content[:place] + counted + content[place:])
    with pytest.raises(UserError, match="a sequence of 30000 items"):
        read_image(path)
    path.write_bytes(content)
    overwritten(path, {"NumberOfFrames": 2_000_000})
    with pytest.raises(UserError, match=r"announces 2000000 frames \(0028,0008\) in"):
        read_image(path)


@pytest.mark.posix
def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    classic_series(tmp_path / "elsewhere", ramp(3))
    values = classic_series(tmp_path / "scan", ramp(2))
    given_ = tmp_path / "given"
    given_.symlink_to(tmp_path / "scan")  # the user's own link
    np.testing.assert_array_equal(read_image(given_).data[0], values)
    (tmp_path / "scan" / "2.dcm").symlink_to(tmp_path / "elsewhere" / "7_002.dcm")
    with pytest.raises(UserError, match="link out of the folder"):
        read_image(tmp_path / "scan")
    (tmp_path / "scan" / "2.dcm").unlink()
    os.mkfifo(tmp_path / "scan" / "pipe.dcm")
    with pytest.raises(UserError, match="neither file nor folder"):
        read_image(tmp_path / "scan")


def read_or_refuse(source: Path) -> None:
    """A source is read, or refused in one line."""
    for read in (read_image, read_grid, header_notes):
        line = ""
        try:
            read(source)
        except UserError as error:
            line = str(error)
        assert "\n" not in line


BYTES = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12)


@settings(max_examples=30, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BYTES, st.floats(0.1, 1), st.sampled_from(["classic", "enhanced", "compressed"]))
def test_damaged_bytes_are_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: list[tuple[float, int]], kept: float, kind: str
) -> None:
    seed = tmp_path / f"{kind}.seed"
    if not seed.exists():
        path = tmp_path / "seed.dcm"
        if kind == "enhanced":
            enhanced_file(path)
        else:
            classic_series(tmp_path, ramp(1, 16, 16), names="seed.dcm")
        dataset: Dataset = dcmread(path)
        if kind == "compressed":
            dataset.compress(RLELossless)
        dataset.save_as(seed)
        path.unlink()
    content = bytearray(seed.read_bytes())
    for place, value in changes:
        content[132 + int(place * (len(content) - 132))] = value
    path = tmp_path / "scan.dcm"
    path.write_bytes(content[: max(132, int(kept * len(content)))] if kept < 0.5 else content)
    read_or_refuse(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_what_c_libraries_say_of_a_damaged_jpeg_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], place: float
) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "scan.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    writer.Execute(sitk.GetImageFromArray(ramp(1, 64, 64).astype(np.uint16)))
    content = bytearray((tmp_path / "scan.dcm").read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")
    cut = start + int(place * (len(content) - start))
    content[cut : cut + 40] = bytes(40)
    content[start + 44 : start + 50] = b"\xff" * 6
    (tmp_path / "scan.dcm").write_bytes(content)
    with pytest.raises(UserError, match="cannot be unpacked"):
        read_image(tmp_path / "scan.dcm")
    assert capfd.readouterr() == ("", "")
