"""The header pass: what is said in the DICOM files of a folder before their voxels."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.image.bounds import check_values, most_values

SEPARATOR = "::"
"""Between a path and what is chosen there."""
DICOMDIR = "1.2.840.10008.1.3.10"
_SOP = "1.2.840.10008.5.1.4.1.1."
STRUCTURE_SET = _SOP + "481.3"
SEGMENTATIONS = (_SOP + "66.4", _SOP + "66.7")
_AS_LABELS = "give it as labels (--fixed-labels, --moving-labels) or as a mask"
_LABELS = "convert it to a label map in NIfTI (3D Slicer, {tools}) and name that"
_SCAN = "name the series of the scan itself"
_PICTURE = "print or convert it, and " + _SCAN

# Prefix of the SOP class, what it is, what to do; the longest prefix counts.
_OBJECTS = {
    STRUCTURE_SET: ("an RT structure set (contours)", _AS_LABELS),
    SEGMENTATIONS[0]: ("a DICOM segmentation", _AS_LABELS),
    SEGMENTATIONS[1]: ("a DICOM segmentation (label map)", _AS_LABELS),
    _SOP + "66.5": ("a DICOM surface segmentation", _LABELS.format(tools="dcmqi")),
    _SOP + "66.1": (
        "a DICOM registration (a transform)",
        "convert it to an ITK transform (3D Slicer) and give it as --init",
    ),
    _SOP + "66.3": (
        "a deformable DICOM registration (a transform)",
        "convert it to an ITK transform (3D Slicer) and give it as --init",
    ),
    _SOP + "66.2": ("DICOM fiducials (points)", "convert them to a table of points"),
    _SOP + "66.6": ("DICOM tractography", _SCAN),
    _SOP + "66": ("raw data of a scanner", _SCAN),
    _SOP + "67": ("a mapping of real-world values", _SCAN),
    _SOP + "481.5": ("an RT plan", _SCAN),
    _SOP + "481.8": ("an RT ion plan", _SCAN),
    _SOP + "481": ("a record of radiotherapy", _SCAN),
    _SOP + "88.59": ("a key object selection", _SCAN),
    _SOP + "88": ("a structured report", _SCAN),
    _SOP + "11": ("a presentation state (how another image is shown)", _SCAN),
    _SOP + "9": ("a waveform (an ECG, for example)", _SCAN),
    _SOP + "104.1": ("an encapsulated PDF", _PICTURE),
    _SOP + "104": ("an encapsulated document", _PICTURE),
    _SOP + "4.2": ("MR spectroscopy", _SCAN),
    _SOP + "77.1.1.1": ("a video", _SCAN),
    _SOP + "77.1.2.1": ("a video", _SCAN),
    _SOP + "77.1.4.1": ("a video", _SCAN),
    DICOMDIR: ("a DICOMDIR (the index of a disc)", "name the folder that holds the slices"),
}
COLOUR = "a colour image"
# RT images and doses, beside the plans and records of radiotherapy.
_IMAGES = (_SOP + "481.1", _SOP + "481.2")
WITHOUT_PIXELS = "without pixel data"


def object_of(sop_class: str) -> tuple[str, str] | None:
    """What an object of a SOP class is and what to do with it; None for images and for classes not known."""
    if sop_class in _IMAGES:
        return None
    parts = sop_class.split(".")
    for n in range(len(parts), 0, -1):
        if (found := _OBJECTS.get(".".join(parts[:n]))) is not None:
            return found
    return None


def unknown_object(path: Path, sop_class: str) -> tuple[str, str]:
    """What to say of an object without voxels whose class has no entry of its own.

    Raises:
        UserError: its class is an image's, so that the file has been cut short.
    """
    from pydicom.uid import UID

    name = UID(sop_class).name.removesuffix(" Storage") if sop_class else ""
    if name.endswith("Image"):
        raise UserError(f"{path}: an image ({name}) {WITHOUT_PIXELS}; copy or export it again")
    return f"{name or 'a DICOM object'} {WITHOUT_PIXELS}", _SCAN


_PREAMBLE = 128
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_BIG_ENDIAN = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"
_MOST_PIECES, _BYTES_PER_PIECE = 60_000, 30  # an element is read in two pieces; voxels count too
_MOST_ITEMS, _BYTES_PER_ITEM = 20_000, 60
_COPIES = 3  # of what a deflated file unpacks to: as a whole, with its head, and as values
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONG_LENGTH = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
# Read from each file; the rest is skipped, which makes the pass fast.
_KEYWORDS = [
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SpacingBetweenSlices",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "DetectorInformationSequence",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionIndexSequence",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
    "FrameReferenceTime",
    "ComplexImageComponent",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "PatientID",
    "StudyDate",
]


@dataclass(frozen=True)
class Header:
    """The header of one file, and where its voxels begin.

    Args:
        path: the file.
        dataset: the elements that the reader looks at.
        syntax: UID of the transfer syntax.
        little: its byte order.
        offset: of the value of the pixel data in :func:`contents`; None without pixel data.
        length: bytes of that value that are there; None if it is encapsulated (compressed).
        floating: whether the voxels are floating point.
    """

    path: Path
    dataset: Any
    syntax: str
    little: bool
    offset: int | None
    length: int | None
    floating: bool


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its magic word, or, without a preamble, by its first element."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(_PREAMBLE + 4)
    if start[_PREAMBLE:] == b"DICM":
        return True
    if len(start) < _PREAMBLE + 4:
        return False
    group, element, length = struct.unpack("<HHL", start[:8])
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return group in (2, 8) and element <= 0x20 and (explicit or length <= 64)


@contextmanager
def contents(path: Path) -> Iterator[Any]:
    """A file as a readable buffer that never asks for more memory than it holds; deflated parts are unpacked.

    Raises:
        UserError: the deflated part swells as only a trap does.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        start = _dataset_start(buffer)
        if start is None:
            buffer.seek(0)
            yield buffer
            return
        head, packed = buffer[:start], buffer[start:]
    # As explicit little-endian, which the rest is once unpacked; UIDs are padded with zeros.
    plain = _DEFLATED[: -len(".99")].encode().ljust(len(_DEFLATED), b"\0")
    yield io.BytesIO(head.replace(_DEFLATED.encode(), plain) + _inflated(path, packed))


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file.

    Raises:
        UserError: it is damaged.
    """
    from pydicom import dcmread

    try:
        with contents(path) as buffer:
            dataset = dcmread(_Bounded(buffer), stop_before_pixels=True, force=True, specific_tags=_KEYWORDS)
            syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or _guessed(dataset))
            _check_items(dataset)
            offset, length, floating = _pixel_data(buffer, syntax)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pydicom raises anything from struct.error to RecursionError on a damaged file
        raise UserError(f"{path}: a damaged DICOM header ({reason(error)}); copy or export it again") from error
    return Header(path, dataset, syntax, syntax != _BIG_ENDIAN, offset, length, floating)


def read_whole(path: Path, *, stop_before_pixels: bool = False) -> Any:
    """All elements of a DICOM file, with or without its voxels.

    Raises:
        UserError: its deflated part is damaged or a trap.
        ValueError: there are more elements than a file of its size can need; pydicom raises anything else on damage.
    """
    from pydicom import dcmread

    with contents(path) as buffer:
        dataset = dcmread(_Bounded(buffer), force=True, stop_before_pixels=stop_before_pixels)
    _check_items(dataset)
    return dataset


def reason(error: Exception) -> str:
    """The last line of an exception of a library, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__


class _Bounded:
    """A buffer that is read in as many pieces as a header can need, and no more: a trap would be parsed for minutes."""

    def __init__(self, buffer: Any) -> None:
        self.seek, self.tell = buffer.seek, buffer.tell
        self._read = buffer.read
        place = buffer.tell()
        buffer.seek(0, io.SEEK_END)
        self._left = max(_MOST_PIECES, buffer.tell() // _BYTES_PER_PIECE)
        buffer.seek(place)

    def read(self, count: int = -1) -> bytes:
        """The next bytes."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("far too many elements")
        piece: bytes = self._read(count) if count >= 0 else self._read()
        return piece


def _check_items(dataset: Any) -> None:
    """See that sequences, which pydicom parses when they are asked for, have no more items than a header can need."""
    for tag in dataset.keys():  # noqa: SIM118, the values would be parsed
        value = getattr(dataset.get_item(tag), "value", None)
        if isinstance(value, bytes):
            items = max(value.count(_ITEM), value.count(_ITEM_BIG_ENDIAN))
            if items > max(_MOST_ITEMS, len(value) // _BYTES_PER_ITEM):
                raise ValueError(f"a sequence of {items} items")


def _guessed(dataset: Any) -> str:
    """The transfer syntax of a file that does not name it, as pydicom found it out."""
    implicit, little = dataset.original_encoding
    return _IMPLICIT if implicit else "1.2.840.10008.1.2.1" if little else _BIG_ENDIAN


def _dataset_start(buffer: mmap.mmap) -> int | None:
    """Where the deflated part of a file begins; None for files without one."""
    from pydicom.filereader import read_dataset

    if buffer[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return None
    buffer.seek(_PREAMBLE + 4)
    meta = read_dataset(buffer, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)  # type: ignore[arg-type]
    return buffer.tell() if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED else None


def _inflated(path: Path, packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    most = most_values(len(packed)) // _COPIES
    unpacked = unpacking.decompress(packed, most)
    if len(unpacked) >= most and not unpacking.eof:
        check_values(path, most_values(len(packed)) + 1, len(packed))
    if not unpacking.eof:
        raise UserError(f"{path}: its deflated part ends early; copy or export it again")
    return unpacked


def _pixel_data(buffer: Any, syntax: str) -> tuple[int | None, int | None, bool]:
    """Offset and length of the value of the pixel data element at which the header pass stopped, and if it is float."""
    order = ">" if syntax == _BIG_ENDIAN else "<"
    head = buffer.read(12)
    if len(head) < 8:
        return None, None, False
    start = buffer.tell() - len(head)
    group, element = struct.unpack(order + "HH", head[:4])
    if group != 0x7FE0 or element not in (0x0008, 0x0009, 0x0010):
        return None, None, False
    if syntax == _IMPLICIT:
        (length,), size = struct.unpack(order + "L", head[4:8]), 8
    elif head[4:6] in _LONG_LENGTH and len(head) == 12:
        (length,), size = struct.unpack(order + "L", head[8:12]), 12
    else:
        (length,), size = struct.unpack(order + "H", head[6:8]), 8
    buffer.seek(0, io.SEEK_END)
    held = buffer.tell() - start - size
    return start + size, None if length == _UNDEFINED else min(length, held), element != 0x0010
