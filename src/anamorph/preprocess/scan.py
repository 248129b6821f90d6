"""One scan with everything that belongs to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.data import Case
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Mask, Points
from anamorph.image.atomic import atomic_path, write_text
from anamorph.image.read import read_image, read_labels, read_points
from anamorph.image.write import write_image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan
from anamorph.preprocess.frame import wanted_grid
from anamorph.preprocess.intensity import apply_steps, intensity_steps, is_ct
from anamorph.preprocess.layout import Target, record_path, targets, transform_path
from anamorph.preprocess.record import ScanRecord
from anamorph.preprocess.resample import resample
from anamorph.preprocess.settings import PreprocessSettings
from anamorph.registration.api import check_grid, mask_on
from anamorph.transforms import Affine
from anamorph.transforms.files import write_transform

Reference = tuple[Scan, Grid]


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


def preprocess_scan(job: ScanJob) -> dict[str, Any]:
    """Write the new files of a scan, its record last.

    Returns:
        the content of the record.

    Raises:
        UserError: a file cannot be read, or the scan cannot be treated as asked.
    """
    case, settings = job.case, job.settings
    image = read_image(case.image)
    mask = mask_on(image, case.mask)
    ct = is_ct(image, job.modality)
    alignment: dict[str, Any] = {}
    if job.reference is None or job.reference.image == case.image:
        to_original, grid = Affine.identity(), wanted_grid(image, settings, ct)
    else:
        reference, grid = _prepared_reference(job.reference.image, job.reference.mask, job.reference_modality, settings)
        found, _ = linear_start(reference, Scan.prepare(image, mask), settings.align)  # type: ignore[arg-type]
        to_original = found.transform
        alignment = {
            "model": settings.align,
            "reference": job.reference.key,
            "steps": found.steps,
            "costs": [round(float(cost), 6) for cost in found.costs],
        }
    record = ScanRecord(case.key, image.grid, grid, to_original)
    steps = intensity_steps(image, mask, settings, ct)
    outside = _write_files(job, record, image, mask, steps)
    content = record.as_json() | {
        "source": str(case.image),
        "alignment": alignment,
        "intensity": steps,
        "points_outside": outside,
        "origin": job.origin,
    }
    write_transform(to_original.inverse(), job.folder / transform_path(case), "itk-tfm", image.grid)
    write_text(job.folder / record_path(case), json.dumps(content, indent=2) + "\n")
    return content


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
