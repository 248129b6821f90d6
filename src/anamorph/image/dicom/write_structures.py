"""Structures on the grid of a scan as an RT structure set or as a segmentation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.headers import STRUCTURE_SET
from anamorph.image.dicom.polygons import trace
from anamorph.image.dicom.segmentation import highdicom
from anamorph.image.dicom.source import (
    MAKER,
    DicomSource,
    NewSeries,
    new_object,
    reference,
    save,
    sequence_item,
)
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
    one_file_each = len(source.slices) == grid.shape[2]
    found = []
    for k in np.flatnonzero(share.any(axis=(0, 1))):
        for line in trace(share[:, :, k]):
            places = flip_ras_lps(grid.voxel_to_world(np.column_stack([line, np.full(len(line), k)])))
            item = sequence_item(
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(places),
                ContourData=[f"{value:.{_DIGITS}f}" for value in places.ravel()],
            )
            image = source.slices[k if one_file_each else 0]
            item.ContourImageSequence = [reference(str(image.SOPClassUID), str(image.SOPInstanceUID))]
            if not one_file_each:
                item.ContourImageSequence[0].ReferencedFrameNumber = int(k) + 1
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
        UserError: highdicom is not installed.
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
    with quiet_libraries():
        new = package.seg.Segmentation(
            list(source.slices),
            np.ascontiguousarray(voxels),
            "BINARY",
            told,
            series.uid,
            series.number,
            package.UID(),
            1,
            MAKER,
            MAKER,
            __version__,
            "0",
            content_label=label[:16],
            content_description=series.description[:64],
            series_description=series.description[:64],
        )
    return save(new, path)


def _coded(package: Any, value: str, meaning: str) -> Any:
    return package.sr.CodedConcept(value, "DCM", meaning)
