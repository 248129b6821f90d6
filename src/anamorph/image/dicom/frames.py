"""The frames of a DICOM file: where each lies, how its values are scaled, and what tells it from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image.convert import GREY_REMEDY
from anamorph.image.dicom.headers import COLOUR, Header, reason

# Keys of the selector in order of preference, the elements that give their value (the first present counts), the unit.
TRAITS: dict[str, tuple[tuple[str, ...], str]] = {
    "stack": (("StackID",), ""),
    "echo": (("EchoNumbers",), ""),
    "b": (("DiffusionBValue",), "s/mm2"),
    "direction": (("DiffusionGradientOrientation",), ""),
    "time": (("TemporalPositionIndex", "TemporalPositionIdentifier"), ""),
    "phase": (("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase"), "%"),
    "trigger": (("NominalCardiacTriggerDelayTime", "TriggerTime"), "ms"),
    "reference": (("FrameReferenceTime",), "ms"),
    "image": (("FrameType", "ImageType"), ""),
    "component": (("ComplexImageComponent",), ""),
    "inversion": (("InversionTimes", "InversionTime"), "ms"),
    "flip": (("FlipAngle",), "degrees"),
    "kv": (("KVP",), "kV"),
    "acquisition": (("FrameAcquisitionNumber", "AcquisitionNumber"), ""),
    "acquired": (("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"), ""),
    "dimension": (("DimensionIndexValues",), ""),
    "instance": (("InstanceNumber",), ""),
}
ECHO_TIME = ("EffectiveEchoTime", "EchoTime")
_TAGS = {
    "ImagePositionPatient": "(0020,0032)",
    "ImageOrientationPatient": "(0020,0037)",
    "PixelSpacing": "(0028,0030)",
    "Rows": "(0028,0010)",
    "Columns": "(0028,0011)",
    "BitsAllocated": "(0028,0100)",
    "NumberOfFrames": "(0028,0008)",
    "RescaleSlope": "(0028,1053)",
    "RescaleIntercept": "(0028,1052)",
    "DoseGridScaling": "(3004,000E)",
}
_RIGHT_ANGLE, _SHORTEST = 1e-2, 0.5  # cosine between rows and columns, and length of such a direction
_MOST_FRAMES, _BYTES_PER_FRAME = 1000, 500
_ALONG_STACK = ((0x0020, 0x9057), (0x0020, 0x0032))  # dimensions that count the slices themselves


@dataclass(frozen=True)
class Storage:
    """How the values of the frames of one file are stored."""

    header: Header
    frames: int
    rows: int
    columns: int
    allocated: int
    bits: int
    high_bit: int
    signed: bool
    inverted: bool

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame without compression."""
        return self.rows * self.columns * self.allocated // 8


@dataclass(frozen=True)
class Frame:
    """One frame of a file, or the only one.

    Args:
        storage: of the file.
        index: of the frame in it.
        position: LPS mm of the centre of its first voxel; None if the header does not say.
        orientation: direction cosines of its rows and of its columns, LPS; None if the header does not say.
        spacing_mm: along i (from column to column) and along j; None if the header does not say.
        depth_mm: from slice to slice, as the header has it; positions count where there are several.
        slope: of the scaling of its values.
        intercept: of the scaling of its values.
        table: data set with the look-up table that takes the place of slope and intercept.
        traits: what tells its volume from others, by key of :data:`TRAITS`.
        echo_ms: echo time.
        instance: number of the file, for the order.
    """

    storage: Storage
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    depth_mm: float | None
    slope: float
    intercept: float
    table: Any = None
    traits: dict[str, str] = field(default_factory=dict)
    echo_ms: float | None = None
    instance: float = 0.0

    def with_traits(self, **traits: str) -> Frame:
        """The frame with further traits."""
        return replace(self, traits=self.traits | traits)


def text(dataset: Any, keyword: str) -> str:
    """The text of an element; empty if it is absent or damaged."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts when an element is asked for, and raises anything
        return ""
    return "" if value is None else str(value).strip().replace("\0", "")


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """The numbers of an element; empty if it is absent or damaged."""
    try:
        value = dataset.get(keyword)
        found = tuple(float(v) for v in (value if _several(value) else [value] if value is not None else []))
    except Exception:  # as in `text`
        return ()
    return found if np.isfinite(found).all() else ()


def frame_uid(frame: Frame) -> str:
    """UID of the frame of reference in which the positions of a frame are meant; empty if the header does not say."""
    return text(frame.storage.header.dataset, "FrameOfReferenceUID")


def colour(header: Header) -> bool:
    """Whether the voxels of a file are colours."""
    kind = text(header.dataset, "PhotometricInterpretation")
    samples = numbers(header.dataset, "SamplesPerPixel") or (1.0,)
    return samples[0] > 1 or kind.startswith(("RGB", "YBR", "PALETTE", "ARGB", "CMYK", "HSV"))


def frames_of(header: Header) -> list[Frame]:
    """The frames of an image file, in its own order.

    Raises:
        UserError: the header is damaged; the message names the element.
    """
    try:
        return _frames_of(header)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # as in `text`
        raise UserError(f"{header.path}: a damaged DICOM header ({reason(error)}); export it again") from error


def _frames_of(header: Header) -> list[Frame]:
    if colour(header):
        raise UserError(f"{header.path}: {COLOUR} (RGB); {GREY_REMEDY}")
    storage = _storage(header)
    dataset = header.dataset
    common = list(_groups(_first(dataset.get("SharedFunctionalGroupsSequence"))))
    each = dataset.get("PerFrameFunctionalGroupsSequence")
    if not each:
        whole = _frame(storage, 0, [*common, dataset])
        return [whole] if storage.frames == 1 else _without_groups(storage, whole)
    if len(each) != storage.frames:
        raise UserError(
            f"{header.path}: announces {storage.frames} frames (0028,0008) and describes {len(each)}; export it again"
        )
    return [_frame(storage, n, [*_groups(group), *common, dataset]) for n, group in enumerate(each)]


def _without_groups(storage: Storage, first: Frame) -> list[Frame]:
    """The frames of a file that gives the place of the first alone: doses and nuclear medicine by their offsets.

    Raises:
        UserError: it gives no offsets.
    """
    dataset, orientation, position = storage.header.dataset, first.orientation, first.position
    offsets = np.array(numbers(dataset, "GridFrameOffsetVector"))
    if position is None or orientation is None:
        detector = _first(dataset.get("DetectorInformationSequence"))
        position = position or _known(detector, "ImagePositionPatient", 3)
        orientation = orientation or _known(detector, "ImageOrientationPatient", 6)
    if not len(offsets) and text(dataset, "Modality") in ("NM", "PT") and first.depth_mm:
        offsets = first.depth_mm * np.arange(storage.frames)
    if position is None or orientation is None or len(offsets) != storage.frames:
        raise UserError(
            f"{storage.path}: {storage.frames} frames without positions (0020,0032): the header does not say whether "
            "they are slices or times; convert them to NIfTI with the voxel size you know"
        )
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        replace(
            first,
            index=n,
            position=tuple(position + (offset - offsets[0]) * normal),
            orientation=orientation,
        )
        for n, offset in enumerate(offsets)
    ]


def _storage(header: Header) -> Storage:
    dataset = header.dataset

    def whole(keyword: str, default: int | None, most: int) -> int:
        found = _known(dataset, keyword, 1)
        value = found[0] if found else default
        if value is None or not 0 < value <= most:
            said = "is missing" if not text(dataset, keyword) else f"is {text(dataset, keyword)}"
            raise UserError(f"{header.path}: {keyword} {_TAGS[keyword]} {said}; export it again")
        return int(value)

    allocated = whole("BitsAllocated", None, 64)
    if allocated not in ((32, 64) if header.floating else (8, 16, 32)):
        raise UserError(f"{header.path}: voxels of {allocated} bits are not read; convert it to NIfTI (dcm2niix)")
    bits = int((numbers(dataset, "BitsStored") or (allocated,))[0])
    high = int((numbers(dataset, "HighBit") or (bits - 1,))[0])
    if not 0 < bits <= allocated or not bits - 1 <= high < allocated:
        raise UserError(
            f"{header.path}: {bits} bits stored (0028,0101) up to bit {high} (0028,0102) do not fit into {allocated} "
            "(0028,0100); export it again"
        )
    frames, size = whole("NumberOfFrames", 1, 1 << 31), header.path.stat().st_size
    if frames > max(_MOST_FRAMES, size // _BYTES_PER_FRAME):
        raise UserError(f"{header.path}: announces {frames} frames (0028,0008) in {size} bytes; export it again")
    return Storage(
        header,
        frames,
        whole("Rows", None, 1 << 16),
        whole("Columns", None, 1 << 16),
        allocated,
        bits,
        high,
        (numbers(dataset, "PixelRepresentation") or (0.0,))[0] == 1,
        text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
    )


def _frame(storage: Storage, index: int, places: list[Any]) -> Frame:
    """A frame from the data sets that may describe it, the closest first."""

    def first(*keywords: str) -> Any:
        return next((place for keyword in keywords for place in places if keyword in place), {})

    def known(keyword: str, count: int) -> tuple[float, ...] | None:
        return _known(first(keyword), keyword, count)

    def number(keyword: str) -> float | None:
        return (numbers(first(keyword), keyword) or (None,))[0]

    spacing = known("PixelSpacing", 2) or known("ImagerPixelSpacing", 2) or known("NominalScannedPixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        raise ValueError(f"PixelSpacing (0028,0030) is {spacing}")
    orientation = known("ImageOrientationPatient", 6)
    if orientation is not None:
        rows, columns = np.reshape(orientation, (2, 3))
        lengths = np.linalg.norm([rows, columns], axis=1)
        if lengths.min() < _SHORTEST or abs(rows @ columns) > _RIGHT_ANGLE * lengths.prod():
            raise ValueError(f"ImageOrientationPatient (0020,0037) is {orientation}, no two directions at right angles")
    scaling = "DoseGridScaling" if text(storage.header.dataset, "Modality") == "RTDOSE" else "RescaleSlope"
    (slope,), (intercept,) = known(scaling, 1) or (1.0,), known("RescaleIntercept", 1) or (0.0,)
    found: dict[str, str] = {}
    for key, (keywords, _) in TRAITS.items():
        place = next((keyword for keyword in keywords if keyword in first(keyword)), None)
        if place and (value := _trait(first(place), place)):
            found[key] = value
    if "dimension" in found:
        found["dimension"] = _dimension(storage.header.dataset, found["dimension"])
    return Frame(
        storage,
        index,
        known("ImagePositionPatient", 3),
        orientation,
        None if spacing is None else spacing[::-1],
        number("SpacingBetweenSlices"),
        slope or 1.0,  # ITK too takes a slope of 0 for 1
        intercept,
        _first(first("ModalityLUTSequence").get("ModalityLUTSequence")),
        {key: value for key, value in found.items() if value},
        next((numbers(first(keyword), keyword)[0] for keyword in ECHO_TIME if numbers(first(keyword), keyword)), None),
        number("InstanceNumber") or 0.0,
    )


def _known(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None if the element is absent or empty.

    Raises:
        ValueError: it holds something else.
    """
    if not dataset or keyword not in dataset:
        return None
    try:
        value = dataset.get(keyword)
    except Exception as error:  # as in `text`
        raise ValueError(f"{keyword} {_TAGS.get(keyword, '')}: {reason(error)}") from error
    if value is None or value == "" or (_several(value) and not len(value)):
        return None
    found = numbers(dataset, keyword)
    if len(found) != count:
        raise ValueError(f"{keyword} {_TAGS.get(keyword, '')} is {text(dataset, keyword)[:60]}, not {count} numbers")
    return found


def _trait(dataset: Any, keyword: str) -> str:
    """The value of an element as it stands in a selector: numbers without trailing zeros, parts joined by a slash."""
    try:
        value = dataset.get(keyword)
    except Exception:  # as in `text`
        return ""
    if value is None:
        return ""
    return "/".join(_part(part) for part in (value if _several(value) else [value]))


def _part(value: Any) -> str:
    return f"{float(value):.10g}" if isinstance(value, (int, float)) else str(value).strip().replace("\0", "")


def _several(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))


def _dimension(dataset: Any, value: str) -> str:
    """Dimension indices without those that count slices."""
    pointers = [int(one.get("DimensionIndexPointer", 0)) for one in dataset.get("DimensionIndexSequence") or []]
    slices = {group << 16 | element for group, element in _ALONG_STACK}
    parts = value.split("/")
    if len(pointers) != len(parts):
        return ""
    return "/".join(part for part, pointer in zip(parts, pointers, strict=True) if pointer not in slices)


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _groups(item: Any) -> Iterator[Any]:
    """The data sets of functional groups, with those nested in them."""
    for element in item or ():
        if element.VR == "SQ":
            for inner in element.value[:1]:
                yield inner
                yield from _groups(inner)
