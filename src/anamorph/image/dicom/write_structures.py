"""Structures on the grid of a scan as an RT structure set or as a segmentation."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps, flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.headers import STRUCTURE_SET, reason
from anamorph.image.dicom.polygons import trace
from anamorph.image.dicom.segmentation import highdicom
from anamorph.image.dicom.source import (
    MAKER,
    REQUIRED,
    DicomSource,
    NewSeries,
    new_object,
    reference,
    save,
    sequence_item,
)
from anamorph.image.dicom.write_scan import decimal
from anamorph.image.image import Labels, Structure
from anamorph.image.quiet import quiet_libraries

_DIGITS = 3
"""Of the millimetres of contours."""
_STUDY = "1.2.840.10008.3.1.2.3.1"  # detached study management, as RT structure sets refer to studies


def write_structure_set(
    shares: Iterable[tuple[Structure, np.ndarray]],
    path: Path,
    source: DicomSource,
    series: NewSeries,
    label: str,
    description: str,
) -> Path:
    """Write structures as contours on the slices of a scan.

    Args:
        shares: structures with ``(I, J, K)`` shares of the voxels of the scan that each covers; contours run where
            interpolation reaches one half. Those without any are left out.
        path: of the file.
        source: the scan.
        series: that is written.
        label: of the structure set, at most 16 characters.
        description: how the contours were made, in words.
    """
    new = new_object(source, STRUCTURE_SET, "RTSTRUCT", series, implicit=True)
    new.StructureSetLabel, new.StructureSetDescription = label[:16], description
    new.StructureSetDate, new.StructureSetTime = new.ContentDate, new.ContentTime
    del new.ContentDate, new.ContentTime
    new.OperatorsName = None
    new.ApprovalStatus = "UNAPPROVED"
    slices = [reference(*one) for one in source.instances()]
    new.ReferencedFrameOfReferenceSequence = [
        sequence_item(
            FrameOfReferenceUID=source.frame_uid,
            RTReferencedStudySequence=[
                reference(
                    _STUDY,
                    source.study_uid,
                    RTReferencedSeriesSequence=[
                        sequence_item(SeriesInstanceUID=source.series_uid, ContourImageSequence=slices)
                    ],
                )
            ],
        )
    ]
    new.StructureSetROISequence, new.ROIContourSequence, new.RTROIObservationsSequence = [], [], []
    for number, (structure, share) in enumerate(shares, 1):
        drawn = _contours(share, source)
        if not drawn:
            continue
        new.StructureSetROISequence.append(
            sequence_item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=source.frame_uid,
                ROIName=structure.name[:64],
                ROIGenerationAlgorithm="AUTOMATIC",
                ROIGenerationDescription=description[:64],
            )
        )
        lines = sequence_item(ReferencedROINumber=number, ContourSequence=drawn)
        if structure.colour is not None:
            lines.ROIDisplayColor = list(structure.colour)
        new.ROIContourSequence.append(lines)
        new.RTROIObservationsSequence.append(
            sequence_item(
                ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter=""
            )
        )
    return save(new, path)


def _contours(share: np.ndarray, source: DicomSource) -> list[Any]:
    grid: Grid = source.grid
    found = []
    for k in np.flatnonzero(share.any(axis=(0, 1))):
        for line in trace(share[:, :, k]):
            places = flip_ras_lps(grid.voxel_to_world(np.column_stack([line, np.full(len(line), k)])))
            item = sequence_item(
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(places),
                ContourData=[f"{value:.{_DIGITS}f}" for value in places.ravel()],
            )
            item.ContourImageSequence = [source.reference_to(int(k))]
            found.append(item)
    return found


def write_segmentation(labels: Labels, path: Path, source: DicomSource, series: NewSeries, label: str) -> Path:
    """Write a label map on the grid of a scan as a segmentation, one segment for each label that occurs.

    Args:
        labels: on the grid of the scan.
        path: of the file.
        source: the scan.
        series: that is written.
        label: of the content, at most 16 capital letters.

    Raises:
        UserError: highdicom is not installed, or refuses the scan.
    """
    from anamorph import __version__

    package = highdicom()
    present = labels.present()
    named = {one.label: one for one in labels.structures}
    method = package.AlgorithmIdentificationSequence(
        MAKER, _coded(package, "113085", "Spatial resampling"), __version__
    )
    tissue = package.sr.CodedConcept("85756007", "SCT", "Tissue")
    told = []
    for number, value in enumerate(present, 1):
        structure = named.get(value) or Structure(value, f"label {value}")
        colour = None if structure.colour is None else package.color.CIELabColor.from_rgb(*structure.colour)
        told.append(
            package.seg.SegmentDescription(
                number, structure.name[:64], tissue, tissue, "AUTOMATIC", method, display_color=colour
            )
        )
    ranks = np.searchsorted(present, labels.data[0]) + 1
    voxels = np.where(labels.data[0] != 0, ranks, 0).astype(np.min_scalar_type(len(present))).transpose(2, 1, 0)
    placed = np.ascontiguousarray(voxels) if source.has_a_file_per_slice else _volume(package, voxels, source)
    given = (series.uid, series.number, package.UID(), 1, MAKER, MAKER, __version__, "0")
    texts = {"content_description": series.description[:64], "series_description": series.description[:64]}
    try:
        with quiet_libraries():
            new = package.seg.Segmentation(
                _complete(source), placed, "BINARY", told, *given, content_label=label[:16], **texts
            )
    except MemoryError:
        raise
    except Exception as error:  # highdicom is strict about the scan that segments refer to
        raise UserError(f"{path.name}: no segmentation of {source.path} can be written ({reason(error)})") from error
    return save(new, path)


def _coded(package: Any, value: str, meaning: str) -> Any:
    return package.sr.CodedConcept(value, "DCM", meaning)


def _volume(package: Any, voxels: np.ndarray, source: DicomSource) -> Any:
    """Voxels (slices, rows, columns) with their place, which the order of frames in a file does not give."""
    affine = flip_affine_ras_lps(source.grid.affine)[:, [2, 1, 0, 3]]
    return package.Volume(np.ascontiguousarray(voxels), affine, "PATIENT", source.frame_uid)


def _complete(source: DicomSource) -> list[Any]:
    """The headers of a scan with empty elements where highdicom wants some that scanners left out."""
    completed = []
    for one in source.slices:
        new = copy.copy(one)
        for keyword in (keyword for keyword in REQUIRED if keyword not in new):
            setattr(new, keyword, None)
        if "SliceThickness" not in new and source.has_a_file_per_slice:
            new.SliceThickness = decimal(source.grid.spacing_mm[2])
        completed.append(new)
    return completed
