"""A dose on any grid as an RTDOSE of the patient of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.headers import read_whole
from anamorph.image.dicom.source import DicomSource, NewSeries, new_object, reference, save
from anamorph.image.dicom.write_scan import decimal
from anamorph.image.image import Image

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.3"
_KEPT = ("DoseType", "DoseSummationType", "ReferencedRTPlanSequence", "TissueHeterogeneityCorrection")
_LEAST_GRAY, _LARGEST = 1e-6, 2e9
"""The largest dose that is written for none at all, and the stored value of the largest dose: within 31 bits."""


def write_dose(
    dose: Image,
    path: Path,
    source: DicomSource,
    series: NewSeries,
    comment: str,
    planned: Path | None = None,
    registrations: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a dose that was carried from one anatomy to another.

    Args:
        dose: Gy, on a grid with axes at right angles.
        path: of the file.
        source: the scan whose patient, study and frame of reference it belongs to.
        series: that is written.
        comment: how it was made, in at most 64 characters.
        planned: the RTDOSE that it was made of, whose kind and plan it names; None for a dose of its own.
        registrations: SOP class and instance UIDs of the registrations that carried it.

    Raises:
        UserError: the axes of the grid are not at right angles.
    """
    if dose.grid.is_sheared:
        raise UserError(f"{dose.name}: a dose on a sheared grid cannot be written as RTDOSE; use a scan without tilt")
    grid, values = _right_handed(dose.grid, dose.data[0])
    like: Any = {} if planned is None else read_whole(planned, stop_before_pixels=True)
    new = new_object(source, RT_DOSE, "RTDOSE", series)
    new.OperatorsName = None
    scaling = f"{max(float(values.max()), _LEAST_GRAY) / _LARGEST:.9e}"
    stored = np.rint(np.clip(values.astype(np.float64), 0, None) / float(scaling)).astype("<u4")
    new.DoseUnits, new.DoseGridScaling = "GY", scaling
    new.DoseType, new.DoseSummationType = "PHYSICAL", "PLAN"
    for keyword in _KEPT:
        if keyword in like:
            setattr(new, keyword, like.get(keyword))
    new.DoseComment = comment[:64]
    deforms = any(sop_class == _DEFORMABLE for sop_class, _ in registrations)
    new.SpatialTransformOfDose = "NON_RIGID" if deforms else "RIGID" if registrations else "NONE"
    if registrations:
        new.ReferencedSpatialRegistrationSequence = [reference(*one) for one in registrations]
    directions = flip_ras_lps(grid.directions.T)
    new.ImagePositionPatient = [decimal(v) for v in flip_ras_lps(grid.origin_mm)]
    new.ImageOrientationPatient = [decimal(v) for v in (*directions[0], *directions[1])]
    new.PixelSpacing = [decimal(grid.spacing_mm[1]), decimal(grid.spacing_mm[0])]
    new.SliceThickness = decimal(grid.spacing_mm[2])
    new.GridFrameOffsetVector = [decimal(n * grid.spacing_mm[2]) for n in range(grid.shape[2])]
    new.FrameIncrementPointer = 0x3004000C
    _pixels(new, stored)
    return save(new, path)


def _right_handed(grid: Grid, values: np.ndarray) -> tuple[Grid, np.ndarray]:
    """The same voxels with a third axis along the cross product of the others."""
    if np.linalg.det(grid.directions) > 0:
        return grid, values
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world(np.array([0, 0, grid.shape[2] - 1]))
    affine[:3, 2] *= -1
    return Grid(grid.shape, affine), values[:, :, ::-1]


def _pixels(new: Any, stored: np.ndarray) -> None:
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.Columns, new.Rows, new.NumberOfFrames = stored.shape
    new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation = 32, 32, 31, 0
    new.PixelData = np.ascontiguousarray(stored.transpose(2, 1, 0)).tobytes()
    new["PixelData"].VR = "OW"
