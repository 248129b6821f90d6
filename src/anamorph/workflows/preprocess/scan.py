"""One scan with everything that belongs to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.store import Kept
from anamorph.data import Case
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Mask, Points
from anamorph.image.atomic import atomic_path
from anamorph.image.read import read_grid, read_image, read_labels, read_points
from anamorph.image.write import write_image
from anamorph.methods.base import Progress
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan
from anamorph.registration.request import check_grid, mask_on
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.transforms import Affine
from anamorph.transforms.files import write_transform
from anamorph.workflows.preprocess.record import ScanRecord, Target, record_path, targets, transform_path
from anamorph.workflows.preprocess.steps import (
    PreprocessSettings,
    apply_steps,
    intensity_steps,
    is_ct,
    resample,
    wanted_grid,
)

Reference = tuple[Scan, Grid]
BYTES_PER_VOXEL = (24, 40)
"""Peak per voxel of an original and of a preprocessed scan: values, averages, labels; positions, channels, labels."""


@dataclass(frozen=True)
class ScanJob:
    """What one scan needs: itself, its modality by name, the reference, and where the new data set is made."""

    case: Case
    modality: str
    settings: PreprocessSettings
    reference: Case | None
    reference_modality: str
    root: Path
    folder: Path
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The key of the scan."""
        return self.case.key

    @property
    def outputs(self) -> list[Path]:
        """All files that are written before the record, relative to the new data set."""
        return [*(target.path for target in targets(self.case, self.root)), transform_path(self.case)]

    def find(self) -> dict[str, Any] | None:
        """The record of a scan that was made of the same files with the same settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the new files of the scan, its record last.

        Raises:
            UserError: a file cannot be read, or the scan cannot be treated as asked.
        """
        case, settings = self.case, self.settings
        image = read_image(case.image)
        mask = mask_on(image, case.mask)
        ct = is_ct(image, self.modality)
        alignment: dict[str, Any] = {}
        if self.reference is None or self.reference.image == case.image:
            to_original, grid = Affine.identity(), wanted_grid(image, settings, ct)
        else:
            reference, grid = _prepared_reference(
                self.reference.image, self.reference.mask, self.reference_modality, settings
            )
            found, _ = linear_start(reference, Scan.prepare(image, mask), settings.align)  # type: ignore[arg-type]
            to_original = found.transform
            alignment = {
                "model": settings.align,
                "reference": self.reference.key,
                "steps": found.steps,
                "costs": [round(float(cost), 6) for cost in found.costs],
            }
        record = ScanRecord(case.key, image.grid, grid, to_original)
        steps = intensity_steps(image, mask, settings, ct)
        outside = _write_files(self, record, image, mask, steps)
        content = record.as_json() | {
            "source": str(case.image),
            "alignment": alignment,
            "intensity": steps,
            "points_outside": outside,
        }
        write_transform(to_original.inverse(), self.folder / transform_path(case), "itk-tfm", image.grid)
        return self._kept().keep([self.folder / path for path in self.outputs], content)

    def peak_bytes(self) -> int:
        """Predicted memory, from the headers."""
        grid, wanted = read_grid(self.case.image), self.settings.spacing_mm
        original = math.prod(grid.shape)
        original += 0 if self.reference is None else math.prod(read_grid(self.reference.image).shape)
        new = grid if wanted is None else grid.resampled(wanted)
        voxels = max(math.prod(new.shape), math.prod(self.settings.shape or (0,)))
        return INTERPRETER_BYTES + BYTES_PER_VOXEL[0] * original + BYTES_PER_VOXEL[1] * voxels

    def _kept(self) -> Kept:
        return Kept(self.folder / record_path(self.case), self.folder, self.origin)


def _write_files(
    job: ScanJob, record: ScanRecord, image: Image, mask: Mask | None, steps: dict[str, Any]
) -> dict[str, int]:
    """Write everything but the record; how many points of each kind lie outside the new scan."""
    outside = {}
    for target in targets(job.case, job.root):
        path = job.folder / target.path
        if target.is_points:
            outside[target.kind] = _write_points(target, path, record)
        elif target.kind == "image":
            write_image(apply_steps(resample(image, record.to_original, record.preprocessed), steps), path)
        elif target.kind == "mask" and mask is not None:
            write_image(record.to_original.warp_image(mask, record.preprocessed, background=0), path)
        elif target.kind == "label":
            labels = read_labels(target.source)
            check_grid(labels, image, False, "labels")
            placed = Labels(labels.data, image.grid, labels.name)
            write_image(record.to_original.warp_labels(placed, record.preprocessed), path)
    return outside


def _write_points(target: Target, path: Path, record: ScanRecord) -> int:
    """Write points as Learn2Reg does: voxel indices of the new scan without a header, all of them, in their order."""
    points = read_points(target.source, grid=record.original)
    mapped = Points(record.to_original.inverse().map_world(points.positions_mm))
    with atomic_path(path) as temporary:
        np.savetxt(temporary, mapped.to_voxel(record.preprocessed), fmt="%.6f", delimiter=",")
    return int((~record.preprocessed.contains(mapped.positions_mm)).sum())


@lru_cache(maxsize=1)
def _prepared_reference(image: Path, mask: Path | None, modality: str, settings: PreprocessSettings) -> Reference:
    read = read_image(image)
    scan = Scan.prepare(read, mask_on(read, mask))
    return scan, wanted_grid(read, settings, is_ct(read, modality))
