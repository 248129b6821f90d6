"""One scan registered to the template, or brought there by a transform that exists."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Case
from anamorph.evaluation.metrics.dice import dice
from anamorph.image import Image, Mask
from anamorph.image.atomic import write_text
from anamorph.image.read import read_image, read_labels
from anamorph.memory import check_memory, predicted_peak_bytes
from anamorph.methods.base import Progress
from anamorph.reading import read_own_record
from anamorph.registration.api import make_plan, mask_on, run_plan
from anamorph.report.cohort import thumbnail, write_thumbnail
from anamorph.report.page import drawn
from anamorph.supervoxels import layer_grid
from anamorph.supervoxels.prepared import transform_path
from anamorph.transforms import Affine, Transform
from anamorph.transforms.files import read_transform, write_transform
from anamorph.workflows.preprocess.record import RECORDS, field_of_view, read_record


@dataclass(frozen=True)
class RegistrationJob:
    """What one scan needs.

    Args:
        case: the scan.
        template: what it is registered to.
        wanted: how.
        given: a transform of the scan to the template, which is taken in place of a registration.
        spacing_mm: of the layers, on whose voxels the transform is kept.
        folder: the prepared folder.
        origin: all that the transform depends on.
    """

    case: Case
    template: Case
    wanted: RegistrationSettings
    given: Path | None
    spacing_mm: float | None
    folder: Path
    origin: dict[str, Any]

    @property
    def transform(self) -> Path:
        """Where the transform goes."""
        return self.folder / transform_path(self.case.key)

    @property
    def record(self) -> Path:
        """Where it is told what became of the scan."""
        return self.transform.with_suffix(".json")

    @property
    def picture(self) -> Path:
        """Where the picture of the scan and the warped template goes."""
        return self.transform.with_suffix(".jpg")


def finished(job: RegistrationJob) -> dict[str, Any] | None:
    """What an earlier run told of a scan that it finished from the same files with the same settings."""
    record = read_own_record(job.record)
    if record.get("origin") != job.origin or not job.transform.is_file():
        return None
    told = record.get("scan")
    return told if isinstance(told, dict) else None


def register_scan(job: RegistrationJob, progress: Progress | None = None) -> dict[str, Any]:
    """Write the transform of a scan to the template with a picture of the two, and what was found, last.

    Args:
        job: which scan, and how.
        progress: of the method.

    Returns:
        ``how``, ``seconds``, ``warnings``, ``folding_percent``, and ``dice`` before (centres aligned) and after if both
        scans have labels.

    Raises:
        UserError: a file cannot be read, or the scans cannot be registered as asked.
        RegistrationFailure: the run failed.
    """
    job.record.unlink(missing_ok=True)
    fixed, moving = read_image(job.case.image), read_image(job.template.image)
    start = time.perf_counter()
    transform, warnings = _scan_to_template(job, fixed, moving, progress)
    seconds = time.perf_counter() - start
    grid = layer_grid(fixed.grid, job.spacing_mm)
    field = transform.displacement_on(grid)
    write_transform(field, job.transform, "itk-h5", grid)
    drawn(job.picture, lambda: write_thumbnail(job.picture, thumbnail(fixed, moving, field)))
    told: dict[str, Any] = {
        "how": job.wanted.method if job.given is None else job.given.name,
        "seconds": round(seconds, 2),
        "warnings": warnings,
        "folding_percent": round(float((field.jacobian_determinant() <= 0).mean() * 100), 4),
        "dice": _overlap(job, fixed, moving, transform),
    }
    write_text(job.record, json.dumps({"origin": job.origin, "scan": told}, indent=2) + "\n")
    return told


def _scan_to_template(
    job: RegistrationJob, fixed: Image, moving: Image, progress: Progress | None
) -> tuple[Transform, list[str]]:
    if job.given is not None:
        return read_transform(job.given, grid=fixed.grid, moving_grid=moving.grid), []
    wanted = job.wanted
    sources = {"fixed": job.case.image, "moving": job.template.image}
    plan = make_plan(
        fixed, moving, method=wanted.method, preset=wanted.preset, settings=wanted.settings, sources=sources
    )
    check_memory(predicted_peak_bytes(plan.method, fixed, moving))
    result = run_plan(
        plan,
        fixed,
        moving,
        fixed_mask=_mask(job, job.case, fixed),
        moving_mask=_mask(job, job.template, moving),
        device=wanted.device,
        seed=wanted.seed,
        progress=progress,
    )
    return result.fixed_to_moving, result.warnings


def _mask(job: RegistrationJob, case: Case, image: Image) -> Mask | None:
    """What of a scan is compared: all but padding, whose edge would be matched with the edge of the other scan."""
    given = mask_on(image, case.mask) if job.wanted.masks else None
    record = job.folder / RECORDS / f"{case.key}.json"
    seen = field_of_view(read_record(record)) if record.is_file() else None
    if given is None or seen is None:
        return given or seen
    return Mask(given.data * seen.data, image.grid, given.name)


def _overlap(job: RegistrationJob, fixed: Image, moving: Image, transform: Transform) -> dict[str, float] | None:
    """Mean Dice over the labels that both scans have."""
    if job.case.label is None or job.template.label is None:
        return None
    here, there = read_labels(job.case.label), read_labels(job.template.label)
    common = sorted({*here.present()} & {*there.present()})
    if not common:
        return None
    centred = Affine.translation(moving.grid.centre_mm - fixed.grid.centre_mm)
    return {
        when: round(float(np.mean([*dice(here, by.warp_labels(there, here.grid), common).values()])), 4)
        for when, by in (("before", centred), ("after", transform))
    }
