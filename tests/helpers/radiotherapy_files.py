"""Small DICOM files of radiotherapy with known shapes: CT series, structure sets, doses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread

from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.polygons import trace
from dicom_files import AXIAL, UID, classic_series, item, save, stored, update

CT = "1.2.840.10008.5.1.4.1.1.2"
RT_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
FRAME = UID + "55"


def ct_series(folder: Path, values: np.ndarray, *, series: str = "7", frame: str = FRAME, **options: Any) -> np.ndarray:
    """A CT as scanners write it: Hounsfield units (slices, rows, columns), a file per slice; as (i, j, k)."""
    tags = {
        **{"SOPClassUID": CT, "Modality": "CT", "FrameOfReferenceUID": frame, "RescaleSlope": 1, "RescaleIntercept": 0},
        **{"PatientName": "Phantom^", "PatientSex": "O", "PatientBirthDate": "", "StudyID": "1"},
        **{"StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "", "ReferringPhysicianName": ""},
        **{"Manufacturer": "anamorph", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SeriesNumber": int(series)},
        **{"KVP": 120, "SliceThickness": 4.0, "PatientPosition": "HFS", "PositionReferenceIndicator": ""},
        **{"AcquisitionNumber": 1, "SeriesDescription": f"series {series}"},
    }
    return classic_series(folder, values.astype(np.int16), series=series, **{**tags, **options})


def sphere(grid: Grid, centre_mm: Sequence[float], radius_mm: float) -> np.ndarray:
    """``(I, J, K)`` signed depth below the surface of a sphere, in mm: positive inside."""
    places = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    away = np.linalg.norm(grid.voxel_to_world(places) - np.asarray(centre_mm), axis=1)
    return (radius_mm - away).reshape(grid.shape)


def outlines(grid: Grid, depth: np.ndarray) -> list[np.ndarray]:
    """``(N, 3)`` RAS mm: the contours of a shape of known depth, on every slice."""
    found = []
    for k in range(grid.shape[2]):
        for line in trace(depth[:, :, k] - depth.min(), -depth.min()):
            found.append(grid.voxel_to_world(np.column_stack([line, np.full(len(line), k)])))
    return found


def structure_set(
    path: Path,
    regions: Mapping[str, Sequence[np.ndarray]],
    *,
    series: str = UID + "7",
    frame: str = FRAME,
    frames: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    numbers: Mapping[str, int] | None = None,
    **tags: Any,
) -> Path:
    """Write an RT structure set.

    Args:
        path: its folder is made.
        regions: contours (RAS mm) by name.
        series: that it refers to.
        frame: its frame of reference.
        frames: of single regions.
        kinds: geometric type of the contours of single regions.
        numbers: of single regions; 1, 2, 3 by default.
        **tags: attributes of the file; None removes one.
    """
    dataset = stored(np.zeros((1, 1), np.int16), UID + "81.1", RT_STRUCTURES, Modality="RTSTRUCT")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
                    "PhotometricInterpretation", "PixelRepresentation"):  # fmt: skip
        delattr(dataset, keyword)
    dataset.SeriesInstanceUID, dataset.StructureSetLabel, dataset.SeriesNumber = UID + "81", "PLAN", 81
    referenced = item(SeriesInstanceUID=series, ContourImageSequence=[])
    study = item(ReferencedSOPInstanceUID=UID + "1", RTReferencedSeriesSequence=referenced)
    dataset.ReferencedFrameOfReferenceSequence = item(FrameOfReferenceUID=frame, RTReferencedStudySequence=study)
    listed, drawn = [], []
    for rank, (name, contours) in enumerate(regions.items(), 1):
        number = (numbers or {}).get(name, rank)
        where = (frames or {}).get(name, frame)
        listed += item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=where)
        lines = []
        for contour in contours:
            kind = (kinds or {}).get(name, "CLOSED_PLANAR")
            values = [f"{value:.4f}" for value in flip_ras_lps(np.asarray(contour)).ravel()]
            lines += item(ContourGeometricType=kind, NumberOfContourPoints=len(contour), ContourData=values)
        drawn += item(ReferencedROINumber=number, ROIDisplayColor=[255, 10 * rank, 0], ContourSequence=lines)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = listed, drawn
    update(dataset, tags)
    return save(dataset, path)


def dose_file(
    path: Path, gray: np.ndarray, grid: Grid, *, scaling: float = 1e-3, frame: str = FRAME, **tags: Any
) -> Path:
    """Write an RT dose: gray ``(I, J, K)`` on an axial grid of LPS axes."""
    values = np.rint(gray.transpose(2, 1, 0) / scaling).astype(np.uint32)
    dataset = stored(values, UID + "91.1", RT_DOSE, Modality="RTDOSE", DoseGridScaling=scaling)
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.FrameOfReferenceUID = UID + "91", 91, frame
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    dataset.ImageOrientationPatient, dataset.NumberOfFrames = list(AXIAL), len(values)
    dataset.ImagePositionPatient = [round(v, 6) for v in flip_ras_lps(grid.origin_mm)]
    dataset.PixelSpacing = [grid.spacing_mm[1], grid.spacing_mm[0]]
    dataset.GridFrameOffsetVector = [n * grid.spacing_mm[2] for n in range(len(values))]
    dataset.FrameIncrementPointer = 0x3004000C
    update(dataset, tags)
    return save(dataset, path)


def segmentation(path: Path, folder: Path, masks: Mapping[str, np.ndarray], kind: str) -> Path:
    """Write a segmentation of the scan of a folder by highdicom: masks (I, J, K) by name."""
    import highdicom
    from highdicom.sr.coding import Code

    slices = [dcmread(file) for file in sorted(folder.glob("*.dcm"))]
    slices = [one for one in slices if one.Modality == "CT"]
    told = [
        highdicom.seg.SegmentDescription(
            number, name, Code("85756007", "SCT", "Tissue"), Code("85756007", "SCT", "Tissue"), "MANUAL",
            display_color=highdicom.color.CIELabColor.from_rgb(10, 100 * number, 30),
        )
        for number, name in enumerate(masks, 1)
    ]  # fmt: skip
    voxels = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1).astype(np.uint8)
    if kind == "FRACTIONAL":
        voxels = voxels.astype(np.float32)
    written = highdicom.seg.Segmentation(
        slices, voxels, kind, told, highdicom.UID(), 82, highdicom.UID(), 1, "anamorph", "phantom", "1", "1",
        fractional_type="OCCUPANCY", omit_empty_frames=True,
    )  # fmt: skip
    written.save_as(path)
    return path


def with_private_tags(dataset: Dataset) -> Dataset:
    """The data set with a private block of a vendor."""
    block = dataset.private_block(0x3287, "SOME VENDOR", create=True)
    block.add_new(1, "LO", "secret")
    return dataset


def faults(path: Path) -> list[str]:
    """What dciodvfy (Debian package dicom3tools) finds wrong with a file; nothing where it is not installed."""
    if shutil.which("dciodvfy") is None:
        return []
    ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("Error")]


def contradictions(paths: Sequence[Path]) -> list[str]:
    """What dcentvfy finds different among files of one patient, study, series or frame of reference."""
    if shutil.which("dcentvfy") is None:
        return []
    ran = subprocess.run(["dcentvfy", *map(str, paths)], capture_output=True, text=True, check=False)
    return [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("Error")]
