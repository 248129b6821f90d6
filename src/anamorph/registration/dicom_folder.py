"""The results of a registration as DICOM objects of the patient, which planning systems and archives take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.label_regions import label_boxes
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.segmentation import highdicom
from anamorph.image.dicom.source import DicomSource, new_series, read_source
from anamorph.image.dicom.write_scan import write_scan
from anamorph.image.dicom.write_structures import write_segmentation, write_structure_set
from anamorph.image.image import Image, Labels, Structure
from anamorph.registration.request import Request
from anamorph.transforms.files.dicom import write_registration
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.registration.result import Result

FOLDER = "dicom"
WARPED = "warped"
STRUCTURES = "structures.dcm"
SEGMENTATION = "segmentation.dcm"
FIXED_TO_MOVING = "fixed_to_moving.dcm"
MOVING_TO_FIXED = "moving_to_fixed.dcm"
_NUMBERS = {WARPED: 9001, STRUCTURES: 9002, SEGMENTATION: 9003, FIXED_TO_MOVING: 9004, MOVING_TO_FIXED: 9005}
_AROUND = 2
"""Voxels around a warped label within which its outline may run."""


@dataclass(frozen=True)
class DicomFolder:
    """Writes the folder ``dicom`` of a result: call it as one of the extras of a folder.

    Args:
        fixed: headers of the fixed scan.
        moving: headers of the moving scan.
    """

    fixed: DicomSource
    moving: DicomSource

    @classmethod
    def of(cls, request: Request) -> DicomFolder:
        """The writer for a request, which needs two scans of DICOM.

        Raises:
            UserError: a scan is no DICOM, or there are labels and highdicom is not installed.
        """
        if request.moving_labels is not None:
            highdicom()
        return cls(read_source(request.fixed, "fixed scan"), read_source(request.moving, "moving scan"))

    def __call__(self, folder: Path, result: Result) -> dict[str, Any]:
        """Write everything, and return the names of the files for ``result.json``."""
        out, how = folder / FOLDER, how_made(result)
        written = self.write_scan_and_maps(folder, result)
        labels = result.inputs.moving_labels
        if labels is not None:
            series = new_series(_NUMBERS[STRUCTURES], f"structures of {result.moving.name}, {how}")
            shares = warped_shares(result.fixed_to_moving, labels, result.pair.warped_labels)
            write_structure_set(shares, out / STRUCTURES, self.fixed, series, "ANAMORPH", series.description)
            series = new_series(_NUMBERS[SEGMENTATION], f"segments of {result.moving.name}, {how}")
            written.append(f"{FOLDER}/{STRUCTURES}")
            try:
                write_segmentation(result.pair.warped_labels, out / SEGMENTATION, self.fixed, series, "ANAMORPH")
            except UserError as error:  # the registration is not lost for want of one file
                return {"dicom": written, "dicom_not_written": str(error)}
            written.append(f"{FOLDER}/{SEGMENTATION}")
        return {"dicom": written}

    def write_scan_and_maps(self, folder: Path, result: Result) -> list[str]:
        """Write the warped scan and both transforms, and return their names seen from the folder of the result."""
        out, how, moving = folder / FOLDER, how_made(result), result.moving.name
        series = new_series(_NUMBERS[WARPED], f"{moving} {how}")
        write_scan(result.warped, out / WARPED, self.fixed, self.moving, series, f"{moving} {how} and resampled")
        for name, transform, sources in (
            (FIXED_TO_MOVING, result.fixed_to_moving, (self.fixed, self.moving)),
            (MOVING_TO_FIXED, result.moving_to_fixed, (self.moving, self.fixed)),
        ):
            series = new_series(_NUMBERS[name], f"{name.removesuffix('.dcm').replace('_', ' ')}, {how}")
            write_registration(transform, out / name, *sources, series)
        return [f"{FOLDER}/{name}" for name in (f"{WARPED}/", FIXED_TO_MOVING, MOVING_TO_FIXED)]


def how_made(result: Result) -> str:
    """Words for descriptions of what was made by a registration."""
    return f"registered by anamorph ({result.plan.name})"


def warped_shares(transform: Transform, labels: Labels, warped: Labels) -> Iterator[tuple[Structure, np.ndarray]]:
    """Each structure of a label map with the share of each fixed voxel that it covers once it is warped.

    Args:
        transform: maps fixed points to moving points.
        labels: of the moving scan.
        warped: the same labels on the fixed grid.

    Yields:
        structure and ``(I, J, K)`` float32.
    """
    named = {one.label: one for one in labels.structures}
    for label, box in label_boxes(warped.data[0]).items():
        near = tuple(
            slice(max(part.start - _AROUND, 0), min(part.stop + _AROUND, length))
            for part, length in zip(box, warped.grid.shape, strict=True)
        )
        part: Grid = warped.grid.cropped(near)  # type: ignore[arg-type]
        own = Image((labels.data == label).astype(np.float32), labels.grid)
        share = np.zeros(warped.grid.shape, np.float32)
        share[near] = transform.warp_image(own, part, background=0).data[0]
        yield named.get(label) or Structure(label, f"label {label}"), share
