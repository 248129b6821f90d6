"""Small DICOM files as scanners write them: series of one file per slice, and enhanced files of many frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

UID = "1.2.826.0.1.3680043.2.1125."
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Position = tuple[float, float, float]


def ramp(slices: int = 4, rows: int = 8, columns: int = 8, seed: int = 0) -> np.ndarray:
    """Random 12-bit values (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(0, 2000, (slices, rows, columns)).astype(np.int16)


def stored(values: np.ndarray, uid: str, sop_class: str = MRImageStorage, **tags: Any) -> Dataset:
    """A data set with the pixel module for values (frames, rows, columns) or (rows, columns)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.StudyInstanceUID, dataset.PatientID, dataset.Modality = UID + "1", "0", "MR"
    bits = 8 * values.itemsize
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(values).tobytes() + b"\0" * (values.nbytes % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    update(dataset, tags)
    return dataset


def update(dataset: Dataset, tags: Mapping[str, Any]) -> None:
    """Set attributes; None removes one."""
    for keyword, value in tags.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def classic_series(
    folder: Path,
    values: np.ndarray | None = None,
    *,
    series: str = "7",
    positions: Sequence[Position] | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing_mm: Sequence[float] = (2.0, 3.0, 4.0),
    each: Callable[[int], Mapping[str, Any]] = lambda n: {},
    names: str = "{series}_{n:03d}.dcm",
    **tags: Any,
) -> np.ndarray:
    """Write a file per slice.

    Args:
        folder: is made.
        values: stored values (slices, rows, columns); :func:`ramp` by default.
        series: end of its UID.
        positions: LPS mm of the slices; along the normal at ``spacing_mm[2]`` by default.
        orientation: of rows and columns, LPS.
        spacing_mm: along i (columns), j (rows) and k.
        each: attributes of slice n, over those of all.
        names: of the files.
        **tags: attributes of all; None removes one.

    Returns:
        The stored values as (i, j, k).
    """
    values = ramp() if values is None else values
    normal = np.cross(orientation[:3], orientation[3:])
    for n, plane in enumerate(values):
        position = positions[n] if positions else (spacing_mm[2] * n * normal + (10, 20, -30)).tolist()
        dataset = stored(plane, f"{UID}{series}.{n + 1}")
        dataset.SeriesInstanceUID, dataset.InstanceNumber = UID + series, n + 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(orientation)
        dataset.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        update(dataset, tags)
        update(dataset, each(n))
        save(dataset, folder / names.format(series=series, n=n))
    return values.transpose(2, 1, 0)


def item(**tags: Any) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    update(dataset, tags)
    return [dataset]


def enhanced_file(
    path: Path,
    values: np.ndarray | None = None,
    *,
    positions: Sequence[Position] | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing_mm: Sequence[float] = (2.0, 3.0, 4.0),
    each: Callable[[int], Mapping[str, Any]] = lambda n: {},
    content: Callable[[int], Mapping[str, Any]] = lambda n: {"StackID": "1"},
    shared: Mapping[str, Any] | None = None,
    **tags: Any,
) -> np.ndarray:
    """Write an enhanced file of many frames.

    Args:
        path: its folder is made.
        values: stored values (frames, rows, columns); :func:`ramp` by default.
        positions: LPS mm of the frames; along the normal at ``spacing_mm[2]`` by default.
        orientation: of rows and columns, LPS.
        spacing_mm: along i (columns), j (rows) and k.
        each: functional groups of frame n, as keyword and sequence (:func:`item`).
        content: attributes of the frame content of frame n.
        shared: further shared functional groups.
        **tags: attributes of the file; None removes one.

    Returns:
        The stored values as (i, j, k), in the order of the frames.
    """
    values = ramp() if values is None else values
    normal = np.cross(orientation[:3], orientation[3:])
    dataset = stored(values, UID + "9.1", ENHANCED_MR)
    dataset.SeriesInstanceUID, dataset.InstanceNumber, dataset.NumberOfFrames = UID + "9", 1, len(values)
    common, frames = Dataset(), []
    common.PixelMeasuresSequence = item(PixelSpacing=[spacing_mm[1], spacing_mm[0]], SliceThickness=spacing_mm[2])
    common.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
    update(common, shared or {})
    for n in range(len(values)):
        position = positions[n] if positions else (spacing_mm[2] * n * normal + (10, 20, -30)).tolist()
        frame = Dataset()
        frame.FrameContentSequence = item(**content(n))
        frame.PlanePositionSequence = item(ImagePositionPatient=list(position))
        update(frame, each(n))
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [common], frames
    update(dataset, tags)
    save(dataset, path)
    return values.transpose(2, 1, 0)
