"""One round: register, average shapes and intensities, move the template to the mean shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anamorph.batch.registration import RegistrationSettings, register_scans
from anamorph.batch.run import Ran, run_jobs
from anamorph.batch.store import Contents, Kept, origin_of
from anamorph.data.dataset import Case
from anamorph.errors import UserError
from anamorph.features.intensity import body_centre_mm, body_share
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import remove
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image
from anamorph.image.read import read_grid, read_image, read_mask
from anamorph.image.write import write_image
from anamorph.registration.folder import RESULT
from anamorph.registration.request import Request, mask_on
from anamorph.registration.result import Result
from anamorph.registration.run import run_to_folder
from anamorph.transforms.files import read_transform, write_transform
from anamorph.transforms.maps import Affine, Composite, Displacement
from anamorph.types import Progress
from anamorph.workflows.template.mean import MeanImage, mean_shape, template_grid
from anamorph.workflows.template.scans import FEWEST, TemplateSettings

NAME, SUPPORT = "template.nii.gz", "template_support.nii.gz"
RECORD = "iteration.json"
NUMBERS = ("mean_field_rms_mm", "spread_mm", "change", "failed")
FIELDS = "fields"
REMEDY = "the others are kept: mend it and pass --resume, or --leave-out-failed as well"
ORIGIN = "template"
"""Key of ``result.json`` under which a delivered scan tells what it was made of."""


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


@dataclass(frozen=True)
class ScanJob:
    """Register a scan to the template.

    Args:
        case: the moving scan.
        template: the fixed one.
        support: its weights; None where all are 1.
        wanted: how.
        folder: of the results of all scans.
        origin: all that the result depends on.
    """

    case: Case
    template: Path
    support: Path | None
    wanted: RegistrationSettings
    folder: Path
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The key of the scan."""
        return self.case.key

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.wanted.peak_bytes(read_grid(self.template), read_grid(self.case.image))


class FieldJob(ScanJob):
    """The map of the template to a scan, on the grid of the template: what the next mean is made of."""

    @property
    def field(self) -> Path:
        """The file of the map."""
        return self.folder / f"{self.case.key}.h5"

    def find(self) -> dict[str, Any] | None:
        """The record of a field of the same files and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the field, and last its record."""
        template, scan = read_image(self.template), read_image(self.case.image)
        start = time.perf_counter()
        result = register_scans(
            self.wanted,
            template,
            scan,
            fixed_mask=mask_on(template, self.support),
            moving_mask=mask_on(scan, self.case.mask) if self.wanted.masks else None,
            progress=progress,
        )
        write_transform(result.fixed_to_moving.displacement_on(template.grid), self.field, "itk-h5", template.grid)
        return self._kept().keep([self.field], {"seconds": round(time.perf_counter() - start, 2)})

    def _kept(self) -> Kept:
        return Kept(self.field.with_suffix(".json"), self.folder, self.origin)


class ResultJob(ScanJob):
    """What ``anamorph register`` writes of a scan and the final template: what is handed out."""

    @property
    def result(self) -> Path:
        """The folder."""
        return self.folder / self.case.key

    def find(self) -> dict[str, Any] | None:
        """The ``result.json`` of the same files and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the folder, with check sums in ``result.json``."""

        def stamp(folder: Path, result: Result) -> dict[str, Any]:
            files = [path for path in sorted(folder.iterdir()) if path.is_file()]
            return {ORIGIN: Kept(folder / RESULT, folder, self.origin).stamp(files)}

        case, wanted = self.case, self.wanted
        request = Request(
            fixed=str(self.template),
            moving=str(case.image),
            fixed_mask=None if self.support is None else str(self.support),
            moving_labels=None if case.label is None else str(case.label),
            moving_mask=str(case.mask) if wanted.masks and case.mask is not None else None,
            method=wanted.method,
            preset=wanted.preset,
            settings=wanted.settings,
            device=wanted.device,
            seed=wanted.seed,
        )
        run_to_folder(request, self.result, overwrite=True, extras=stamp, viewer=False)
        return self._kept().find() or {}

    def _kept(self) -> Kept:
        return Kept(self.result / RESULT, self.result, self.origin, under=ORIGIN)


JobT = TypeVar("JobT", bound=ScanJob)


def start_template(
    cases: Sequence[Case], chosen: Case | None, folder: Path, hashes: dict[str, Any], settings: TemplateSettings
) -> Iteration:
    """The start: one scan, or the mean of all scans with aligned centres.

    Raises:
        UserError: a scan cannot be read, or is of another kind than the others, and must not be left out.
    """
    origin = origin_of(start=chosen and chosen.key, sharpening=settings.sharpening, scans=hashes)
    earlier = _earlier(0, folder, origin, settings)
    if earlier is not None:
        return earlier
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
    workers: int | str,
    progress: Progress,
    on_failure: Callable[[str, str], None] | None = None,
    remedy: str = REMEDY,
) -> Iteration:
    """The next template.

    With maps ``f_i`` of the template before to the scans and their mean ``m`` (poses taken out), the new template is
    the mean of the scans pulled through ``f_i o m^-1``: each is read once from its own voxels, and the mean of the maps
    of the new template is the identity (Guimond et al. 2000; Avants et al., NeuroImage 2010, shape update of SyGN).

    Raises:
        UserError: a file cannot be read.
        RegistrationFailure: scans failed; the fields of the others are kept.
    """
    number = before.number + 1
    origin = origin_of(
        before=template_hashes(before.template),
        how=wanted.described(),
        sharpening=settings.sharpening,
        scans=hashes,
    )
    earlier = _earlier(number, folder, origin, settings)
    if earlier is not None:
        return earlier
    jobs = scan_jobs(FieldJob, before.template, cases, hashes, folder / FIELDS, wanted)
    failed = run_scans(jobs, workers, settings, progress, on_failure, remedy).failed
    used = [job for job in jobs if job.name not in failed]
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
    kind: type[JobT],
    template: Path,
    cases: Sequence[Case],
    hashes: dict[str, Any],
    folder: Path,
    wanted: RegistrationSettings,
) -> list[JobT]:
    """A job for each scan, with all that its result depends on."""
    template = template.absolute()
    about = {"template": template_hashes(template), "how": wanted.described()}
    # Where every scan reaches every voxel there is nothing to mask.
    whole = read_mask(template.with_name(SUPPORT)).data.min() == 1
    support = None if whole else template.with_name(SUPPORT)
    return [kind(case, template, support, wanted, folder, origin_of(**about, scan=hashes[case.key])) for case in cases]


def run_scans(
    jobs: Sequence[FieldJob] | Sequence[ResultJob],
    workers: int | str,
    settings: TemplateSettings,
    progress: Progress,
    on_failure: Callable[[str, str], None] | None,
    remedy: str = REMEDY,
) -> Ran:
    """Do jobs; enough scans for a template are left if some may be left out.

    Raises:
        RegistrationFailure: scans failed, and may not; or a worker was stopped from outside.
    """
    ran = run_jobs(jobs, workers, progress=progress, on_failure=on_failure)
    ran.check("scans", remedy, fewest=FEWEST if settings.leave_out_failed else None)
    return ran


def template_hashes(template: Path) -> dict[str, str | None]:
    """Of a template and its support."""
    return Contents().of({path.name: path for path in (template, template.with_name(SUPPORT))})


def weight_of(template: Image, path: Path) -> np.ndarray:
    """``(I, J, K)`` how much a voxel of the template counts for poses and lengths: anatomy that the scans reach."""
    return body_share(template, looks_like_ct(template)) * read_mask(path.with_name(SUPPORT)).data[0]


def field_on(path: Path, grid: Grid) -> Displacement:
    """A field that was sampled on a grid: headers of files round it, and it is not to be interpolated for that."""
    read = read_transform(path)
    if isinstance(read, Displacement) and read.grid.matches(grid):
        return Displacement(read.disp_vox, grid)
    return read.displacement_on(grid)


def _fields(jobs: Sequence[FieldJob], grid: Grid) -> Iterator[Displacement]:
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
    record = {"iteration": told.number, **{name: getattr(told, name) for name in NUMBERS}}
    files = [told.template, told.template.with_name(SUPPORT)]
    Kept(told.template.with_name(RECORD), told.template.parent, origin).keep(files, record)
    return told


def _earlier(number: int, folder: Path, origin: dict[str, Any], settings: TemplateSettings) -> Iteration | None:
    """The same iteration as an earlier run left it."""
    told = Kept(folder / RECORD, folder, origin).find()
    if told is None or not told.keys() >= {*NUMBERS} or (told["failed"] and not settings.leave_out_failed):
        return None
    return Iteration(number, folder / NAME, *(told[name] for name in NUMBERS))


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
