"""An image on the grid of a scan as a DICOM series of its patient: a file per slice, flagged as derived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.sampling import native
from anamorph.image.dicom.frames import text
from anamorph.image.dicom.source import DicomSource, NewSeries, code, new_object, reference, save
from anamorph.image.image import Image

_SOP = "1.2.840.10008.5.1.4.1.1."
_WINDOW = ("WindowCenter", "WindowWidth", "BodyPartExamined")
# SOP class, and what its slices must say of how the values were measured, by modality.
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CT": (_SOP + "2", ("KVP", "AcquisitionNumber")),
    "MR": (
        _SOP + "4",
        (
            *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime"),
            *("EchoTrainLength", "InversionTime", "MagneticFieldStrength", "FlipAngle"),
        ),
    ),
    "PT": (
        _SOP + "128",
        (
            *("Units", "CountsSource", "SeriesType", "CorrectedImage", "DecayCorrection", "CollimatorType"),
            *("ReprojectionMethod", "FrameReferenceTime", "ActualFrameDuration", "AcquisitionDate", "AcquisitionTime"),
            *("DecayFactor", "RadiopharmaceuticalInformationSequence", "PatientOrientationCodeSequence"),
            *("PatientGantryRelationshipCodeSequence", "AttenuationCorrectionMethod"),
        ),
    ),
}
_OTHER = _SOP + "7"  # secondary capture
# What must be there, where the scan does not say it.
_EMPTY = {
    **{
        "KVP": None,
        "AcquisitionNumber": None,
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": None,
    },
    **{"MRAcquisitionType": None, "RepetitionTime": None, "EchoTime": None, "EchoTrainLength": None},
}
_MOST_16_BIT = 32767


def write_scan(
    image: Image,
    folder: Path,
    source: DicomSource,
    values_of: DicomSource,
    series: NewSeries,
    derivation: str | None = None,
) -> list[Path]:
    """Write an image on the grid of a scan.

    Args:
        image: one channel; values beyond 16 bits, and fractions, are scaled.
        folder: gets a file per slice.
        source: the scan whose patient, study and frame of reference the series belongs to.
        values_of: the scan that the values were taken from.
        series: that is written.
        derivation: how the values were made of those of another scan, in words; None for an original.
    """
    sop_class, kept = _KINDS.get(values_of.modality, (_OTHER, ()))
    stored, slope = _stored(image.data[0])
    grid = image.grid
    purpose = [code("121322", "DCM", "Source image for image processing operation")]
    origin = (
        []
        if derivation is None
        else [reference(*one, PurposeOfReferenceCodeSequence=purpose) for one in values_of.instances()]
    )
    directions = flip_ras_lps(grid.directions.T)
    paths = []
    for k in range(grid.shape[2]):
        new = new_object(source, sop_class, values_of.modality, series)
        new.InstanceNumber = k + 1
        origins = ["ORIGINAL", "PRIMARY"] if derivation is None else ["DERIVED", "SECONDARY"]
        new.ImageType = [*origins, "AXIAL" if values_of.modality == "CT" else "OTHER"]
        if derivation is not None:
            new.DerivationDescription = derivation
            new.DerivationCodeSequence = [code("113085", "DCM", "Spatial resampling")]
            new.SourceImageSequence = origin
        for keyword in (*kept, *_WINDOW):
            if keyword in values_of.first:
                setattr(new, keyword, values_of.first.get(keyword))
            elif keyword in _EMPTY:
                setattr(new, keyword, _EMPTY[keyword])
        new.PatientPosition = source.first.get("PatientPosition")
        _place(new, flip_ras_lps(grid.voxel_to_world(np.array([0, 0, k]))), directions, grid.spacing_mm)
        _pixels(new, stored[:, :, k], slope)
        if sop_class == _OTHER:
            new.ConversionType, new.PatientOrientation = "WSD", None
        if values_of.modality == "PT":
            new.NumberOfSlices, new.ImageIndex = grid.shape[2], k + 1
        paths.append(save(new, folder / f"{k + 1:04d}.dcm"))
    return paths


def _stored(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Values as 16-bit integers, and the slope that makes them what they were."""
    values = native(values)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "bui":
        if low >= -_MOST_16_BIT - 1 and high <= _MOST_16_BIT:
            return values.astype(np.int16), 1.0
        if low >= 0 and high <= 2 * _MOST_16_BIT + 1:
            return values.astype(np.uint16), 1.0
    slope = float(f"{max(abs(low), abs(high)) / _MOST_16_BIT or 1.0:.9e}")
    return np.rint(values / slope).astype(np.int16), slope


def _place(new: Any, position: np.ndarray, directions: np.ndarray, spacing_mm: np.ndarray) -> None:
    new.ImagePositionPatient = [decimal(value) for value in position]
    new.ImageOrientationPatient = [decimal(value) for value in (*directions[0], *directions[1])]
    new.PixelSpacing = [decimal(spacing_mm[1]), decimal(spacing_mm[0])]
    new.SliceThickness = decimal(spacing_mm[2])


def decimal(value: float) -> str:
    """A number as the text of at most 16 characters that DICOM allows."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value)))


def _pixels(new: Any, values: np.ndarray, slope: float) -> None:
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.Columns, new.Rows = values.shape
    new.BitsAllocated, new.BitsStored, new.HighBit = 16, 16, 15
    new.PixelRepresentation = int(values.dtype.kind == "i")
    if slope != 1 or text(new, "Modality") in ("CT", "PT"):
        new.RescaleIntercept, new.RescaleSlope = "0", decimal(slope)
        if text(new, "Modality") == "CT":
            new.RescaleType = "HU"
    new.PixelData = np.ascontiguousarray(values.T).tobytes()
    new["PixelData"].VR = "OW"
