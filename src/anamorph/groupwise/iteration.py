"""One round: register, average shapes and intensities, move the template to the mean shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Case
from anamorph.errors import UserError
from anamorph.features.body import body_centre_mm, body_share
from anamorph.geometry import Grid
from anamorph.groupwise.jobs import ScanJob, has_field, keep_field, run_jobs
from anamorph.groupwise.kept import intact, read_record, sums, write_record
from anamorph.groupwise.mean_image import MeanImage
from anamorph.groupwise.mean_shape import mean_shape
from anamorph.groupwise.scans import FEWEST
from anamorph.groupwise.settings import TemplateSettings
from anamorph.groupwise.space import template_grid
from anamorph.image import Image
from anamorph.image.background import looks_like_ct
from anamorph.image.leftovers import remove
from anamorph.image.read import read_grid, read_image, read_mask
from anamorph.image.write import write_image
from anamorph.methods.base import Progress
from anamorph.transforms import Affine, Composite, Displacement
from anamorph.transforms.files import read_transform

NAME, SUPPORT = "template.nii.gz", "template_support.nii.gz"
RECORD = "iteration.json"
FIELDS = "fields"


@dataclass(frozen=True)
class Iteration:
    """A template on disk and how far it was from the one before.

    Args:
        number: 0 is the start.
        template: the file; its support, the share of the scans that reach a voxel, is beside it.
        mean_field_rms_mm: length of the mean of the maps of the template before to the scans, their poses taken out;
            None for the start.
        spread_mm: length of the maps themselves, the scans' distance from the template before; None for the start.
        change: root mean square change of the intensities, as a share of their standard deviation; None for the start.
        failed: why scans had to be left out.
    """

    number: int
    template: Path
    mean_field_rms_mm: float | None
    spread_mm: float | None
    change: float | None
    failed: dict[str, str]


def start_template(
    cases: Sequence[Case], chosen: Case | None, folder: Path, hashes: dict[str, Any], settings: TemplateSettings
) -> Iteration:
    """The start: one scan, or the mean of all scans with aligned centres.

    Raises:
        UserError: a scan cannot be read, or is of another kind than the others, and must not be left out.
    """
    origin = {"start": chosen and chosen.key, "sharpening": settings.sharpening, "scans": hashes}
    kept = _kept(0, folder, origin, settings)
    if kept is not None:
        return kept
    failed: dict[str, str] = {}
    grids = {}
    for case in cases:
        with _left_out(case, failed, settings.leave_out_failed and case != chosen):
            grids[case.key] = read_grid(case.image)
    mean = MeanImage(template_grid([*grids.values()], None if chosen is None else grids[chosen.key]))
    for case in cases if chosen is None else (chosen,):
        if case.key in grids:
            with _left_out(case, failed, settings.leave_out_failed and case != chosen):
                image = read_image(case.image)
                mean.add(image, _centred(image, mean.grid) if chosen is None else Affine.identity())
    if len(cases) - len(failed) < FEWEST:
        key, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(cases)} scans cannot be used, the first ({key}): {reason}")
    _write(folder, mean, settings.sharpening if chosen is None else 0.0)
    return _keep(Iteration(0, folder / NAME, None, None, None, failed), origin)


def iterate(
    before: Iteration,
    cases: Sequence[Case],
    hashes: dict[str, Any],
    folder: Path,
    wanted: RegistrationSettings,
    settings: TemplateSettings,
    workers: int,
    progress: Progress,
) -> Iteration:
    """The next template.

    With maps ``f_i`` of the template before to the scans and their mean ``m`` (poses taken out), the new template is
    the mean of the scans pulled through ``f_i o m^-1``: each is read once from its own voxels, and the mean of the maps
    of the new template is the identity (Guimond et al. 2000; Avants et al., NeuroImage 2010, shape update of SyGN).

    Raises:
        UserError: a file cannot be read.
        RegistrationFailure: scans failed; the fields of the others are kept.
    """
    number, described = before.number + 1, wanted.described()
    origin = {
        "before": template_hashes(before.template),
        "how": described,
        "sharpening": settings.sharpening,
        "scans": hashes,
    }
    kept = _kept(number, folder, origin, settings)
    if kept is not None:
        return kept
    jobs = scan_jobs(before.template, cases, hashes, folder / FIELDS, wanted)
    failed = run_jobs(keep_field, has_field, jobs, workers, progress, settings.leave_out_failed)
    used = [job for job in jobs if job.case.key not in failed]
    progress("averaging", 1.0)
    old = read_image(before.template)
    grid, weight = old.grid, weight_of(old, before.template)
    mean = mean_shape(_fields(used, grid), weight)
    update, image = mean.to_template(), MeanImage(grid)
    for job, field in zip(used, _fields(used, grid), strict=True):
        image.add(read_image(job.case.image), Composite.of(update, field))
    new = _write(folder, image, settings.sharpening)
    told = Iteration(number, folder / NAME, mean.rms_mm, mean.spread_mm, _change(old, new), failed)
    _keep(told, origin)
    remove(folder / FIELDS)  # they are large, and what they were needed for is done
    return told


def scan_jobs(
    template: Path,
    cases: Sequence[Case],
    hashes: dict[str, Any],
    folder: Path,
    wanted: RegistrationSettings,
) -> list[ScanJob]:
    """A job for each scan, with all that its result depends on."""
    origin = {"template": template_hashes(template), "how": wanted.described()}
    mask = template.with_name(SUPPORT)
    # Where every scan reaches every voxel there is nothing to mask.
    support = None if read_mask(mask).data.min() == 1 else mask
    return [ScanJob(case, template, support, wanted, folder, origin | {"scan": hashes[case.key]}) for case in cases]


def template_hashes(template: Path) -> dict[str, str]:
    """Of a template and its support."""
    return sums([template, template.with_name(SUPPORT)])


def weight_of(template: Image, path: Path) -> np.ndarray:
    """``(I, J, K)`` how much a voxel of the template counts for poses and lengths: anatomy that the scans reach."""
    return body_share(template, looks_like_ct(template)) * read_mask(path.with_name(SUPPORT)).data[0]


def field_on(path: Path, grid: Grid) -> Displacement:
    """A field that was sampled on a grid: headers of files round it, and it is not to be interpolated for that."""
    read = read_transform(path)
    if isinstance(read, Displacement) and read.grid.matches(grid):
        return Displacement(read.disp_vox, grid)
    return read.displacement_on(grid)


def _fields(jobs: Sequence[ScanJob], grid: Grid) -> Iterator[Displacement]:
    return (field_on(job.field, grid) for job in jobs)


def _write(folder: Path, mean: MeanImage, sharpening: float) -> Image:
    image = mean.image(NAME, sharpening)
    write_image(image, folder / NAME)
    write_image(mean.support(SUPPORT), folder / SUPPORT)
    return image


def _change(old: Image, new: Image) -> float:
    difference = new.data.astype(np.float64) - old.data
    return float(np.sqrt((difference**2).mean()) / max(float(new.data.std(dtype=np.float64)), 1e-12))


def _keep(told: Iteration, origin: dict[str, Any]) -> Iteration:
    record = {
        "iteration": told.number,
        "origin": origin,
        "files": template_hashes(told.template),
        "mean_field_rms_mm": told.mean_field_rms_mm,
        "spread_mm": told.spread_mm,
        "change": told.change,
        "failed": told.failed,
    }
    write_record(told.template.with_name(RECORD), record)
    return told


def _kept(number: int, folder: Path, origin: dict[str, Any], settings: TemplateSettings) -> Iteration | None:
    told = read_record(folder / RECORD)
    numbers = "mean_field_rms_mm", "spread_mm", "change", "failed"
    if told.get("origin") != origin or not intact(folder, told.get("files")) or not told.keys() >= {*numbers}:
        return None
    if told["failed"] and not settings.leave_out_failed:
        return None
    return Iteration(number, folder / NAME, *(told[name] for name in numbers))


def _centred(image: Image, grid: Grid) -> Affine:
    """The translation of the middle of a grid to the middle of the body in a scan."""
    return Affine.translation(body_centre_mm(image, looks_like_ct(image)) - grid.centre_mm)


@contextmanager
def _left_out(case: Case, failed: dict[str, str], allowed: bool) -> Iterator[None]:
    """Note why a scan cannot be used, if it may be left out."""
    try:
        yield
    except UserError as error:
        if not allowed:
            raise
        failed[case.key] = str(error)
