"""From scans to an unbiased template with the transforms of all, in one resumable run.

1. Start: one scan, or the mean of all with aligned centres.
2. Rounds of :mod:`anamorph.workflows.template.iteration`, until the mean field is small.
3. Every scan is registered to the last template, as ``anamorph register`` does; labels vote.

Sources: Guimond, Meunier, Thirion, CVIU 77 (2000), the mean of intensities moved by the inverse of the mean field;
Avants et al., NeuroImage 49 (2010), the shape update of SyGN; Gower, Psychometrika 40 (1975), poses taken out before
averaging.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import part
from anamorph.batch.store import Contents, check_sums
from anamorph.data.dataset import Case
from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.image.atomic import atomic_path, write_text
from anamorph.image.read import read_image, read_labels
from anamorph.image.write import write_image
from anamorph.reading import read_own_record
from anamorph.registration.folder import FIXED_TO_MOVING, MOVING_TO_FIXED, REPORT, RESULT, WARPED_LABELS
from anamorph.report.many_scans import (
    ScanLine,
    Stage,
    TemplateReport,
    write_template_page,
)
from anamorph.report.page import drawn
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Composite
from anamorph.types import Progress
from anamorph.workflows.template.iteration import (
    NAME,
    SUPPORT,
    Iteration,
    ResultJob,
    field_on,
    iterate,
    run_scans,
    scan_jobs,
    start_template,
    weight_of,
)
from anamorph.workflows.template.mean import MajorityVote, mean_shape
from anamorph.workflows.template.scans import TemplateSettings, check_cases, find_start

LABELS, AGREEMENT, RECORD, SCANS, ROUNDS = (
    "template_labels.nii.gz",
    "label_agreement.nii.gz",
    "template.json",
    "scans",
    "iterations",
)
TOLERANCE = 0.1
"""Of the spread of the scans: what is left is small beside how they differ."""


@dataclass(frozen=True)
class Template:
    """What came out.

    Args:
        folder: with ``template.nii.gz``, ``scans/KEY`` as ``anamorph register`` writes them, the page and the record.
        iterations: the start and every round.
        tolerance_mm: at which the mean field counts as zero.
        converged: whether the mean field of the last round was within the tolerance.
        residual_rms_mm: mean field of the scans registered to the final template, poses taken out.
        scans: of each delivered scan ``status``, ``headline``, ``reasons``, ``seconds``, and ``dice`` with the
            template's labels.
        failed: why scans were left out.
        page_failure: why the page could not be drawn, if so.
    """

    folder: Path
    iterations: tuple[Iteration, ...]
    tolerance_mm: float
    converged: bool
    residual_rms_mm: float
    scans: dict[str, dict[str, Any]]
    failed: dict[str, str]
    page_failure: str | None = None

    @property
    def image(self) -> Path:
        """The template."""
        return self.folder / NAME

    @property
    def page(self) -> Path:
        """The page a person looks at."""
        return self.folder / REPORT


def build_template(
    cases: Sequence[Case],
    out: Path | str,
    *,
    settings: TemplateSettings | None = None,
    registration: RegistrationSettings | None = None,
    workers: int | str = 1,
    resume: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Template:
    """Build a template.

    Args:
        cases: the scans, of one kind; label maps vote for a label map of the template.
        out: folder to write.
        settings: see :class:`TemplateSettings`.
        registration: method and settings of every registration; the template is the fixed scan.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        resume: go on in ``out``. Whatever was made of the same files with the same settings, and is undamaged, is used
            again; the result is that of an undisturbed run.
        progress: called with the stage and the fraction done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: settings or files that cannot work, or ``out`` holds something and ``resume`` is off.
        RegistrationFailure: scans failed; the others are kept.
    """
    settings, wanted, out = settings or TemplateSettings(), registration or RegistrationSettings(), Path(out)
    described = wanted.described()
    check_cases(cases)
    chosen = find_start(cases, settings.start)
    _check_out(out, resume)
    share = 1 / (settings.iterations + 1)
    registered = ("image", "mask") if wanted.masks else ("image",)
    contents = Contents()
    files = {case.key: contents.of({kind: case.file(kind) for kind in registered}) for case in cases}
    # Labels have no part in the registrations, only in what is handed out.
    delivered = {case.key: files[case.key] | contents.of({"label": case.label}) for case in cases}
    _write_record(out, {"status": "unfinished"})
    rounds = [start_template(cases, chosen, out / ROUNDS / "00", files, settings)]
    failed, converged = dict(rounds[0].failed), False
    while len(rounds) <= settings.iterations and not converged:
        number = len(rounds)
        left = {case.key: case for case in cases if case.key not in failed}
        told = part(progress, (number - 1) * share, number * share, f"iteration {number}")
        folder, inputs = out / ROUNDS / f"{number:02d}", {key: files[key] for key in left}
        rounds.append(
            iterate(rounds[-1], [*left.values()], inputs, folder, wanted, settings, workers, told, on_failure)
        )
        failed |= rounds[-1].failed
        converged = (rounds[-1].mean_field_rms_mm or 0.0) <= _tolerance_mm(settings, rounds[-1])
    jobs = _delivery(rounds[-1].template, [case for case in cases if case.key not in failed], delivered, wanted, out)
    failed |= run_scans(jobs, workers, settings, part(progress, 1 - share, 1.0, "final"), on_failure).failed
    jobs = [job for job in jobs if job.name not in failed]
    residual = _residual_mm(out / NAME, jobs)
    votes = _vote(out, jobs)
    result = Template(out, tuple(rounds), _tolerance_mm(settings, rounds[-1]), converged, residual, votes, failed)
    result = replace(result, page_failure=drawn(result.page, lambda: write_page(result)))
    _write_record(out, _record(result, described, settings, delivered))
    return result


def _check_out(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the output")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise UserError(f"{out} holds files but no {RECORD}; choose another output folder")
    if not resume:
        raise UserError(f"{out} holds a template already; pass --resume to go on there, or choose another folder")


def _tolerance_mm(settings: TemplateSettings, told: Iteration) -> float:
    return TOLERANCE * (told.spread_mm or 0.0) if settings.tolerance_mm is None else settings.tolerance_mm


def _delivery(
    template: Path,
    cases: Sequence[Case],
    files: dict[str, Any],
    wanted: RegistrationSettings,
    out: Path,
) -> list[ResultJob]:
    """Put the final template in its place, with a job for each scan."""
    for name in (NAME, SUPPORT):
        with atomic_path(out / name) as temporary:
            shutil.copyfile(template.with_name(name), temporary)
    return scan_jobs(ResultJob, out / NAME, cases, files, out / SCANS, wanted)


def _residual_mm(template: Path, jobs: Sequence[ResultJob]) -> float:
    image = read_image(template)
    weight = weight_of(image, template)
    return mean_shape((field_on(job.result / FIXED_TO_MOVING, image.grid) for job in jobs), weight).rms_mm


def _vote(out: Path, jobs: Sequence[ResultJob]) -> dict[str, dict[str, Any]]:
    """Write the label map that the scans vote for, and tell how each agrees with it."""
    scans: dict[str, dict[str, Any]] = {}
    for job in jobs:
        told = read_own_record(job.result / RESULT)
        seconds = told.get("timings_s", {}).get("registration")
        scans[job.case.key] = {
            "status": told.get("status"),
            "headline": told.get("verdict", {}).get("headline"),
            "reasons": told.get("verdict", {}).get("reasons", []),
            "seconds": seconds,
            "dice": None,
        }
    labelled = [job for job in jobs if job.case.label is not None]
    if not labelled:
        return scans
    vote = MajorityVote(read_image(out / NAME).grid)
    for job in labelled:
        vote.add(read_labels(job.result / WARPED_LABELS))
    labels, agreement = vote.result(LABELS)
    write_image(labels, out / LABELS)
    write_image(agreement, out / AGREEMENT)
    for job in labelled:
        overlaps = dice(labels, read_labels(job.result / WARPED_LABELS))
        scans[job.case.key]["dice"] = float(np.mean([*overlaps.values()])) if overlaps else None
    return scans


def _record(
    result: Template,
    described: dict[str, Any],
    settings: TemplateSettings,
    files: dict[str, Any],
) -> dict[str, Any]:
    made = [path for name in (NAME, SUPPORT, LABELS, AGREEMENT) if (path := result.folder / name).is_file()]
    return {
        "status": "finished",
        "converged": result.converged,
        "tolerance_mm": result.tolerance_mm,
        "iterations": [
            {"mean_field_rms_mm": told.mean_field_rms_mm, "spread_mm": told.spread_mm, "change": told.change}
            for told in result.iterations
        ],
        "residual_rms_mm": result.residual_rms_mm,
        "scans": result.scans,
        "failed": result.failed,
        "settings": asdict(settings),
        "registration": described,
        "inputs": files,
        "files": check_sums(result.folder, made),
    }


def _write_record(out: Path, content: dict[str, Any]) -> None:
    write_text(out / RECORD, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def pairwise_dice(cases: Sequence[Case], scans: Path) -> dict[tuple[str, str], float]:
    """Mean Dice of every ordered pair of labelled scans, registered by way of the template.

    Args:
        cases: of the template, with label maps.
        scans: the folder ``scans`` of the template.

    Returns:
        by the keys of the fixed and of the moving scan.
    """
    labels = {case.key: read_labels(case.label) for case in cases if case.label is not None}
    there = {key: read_transform(scans / key / MOVING_TO_FIXED) for key in labels}
    back = {key: read_transform(scans / key / FIXED_TO_MOVING) for key in labels}
    found = {}
    for fixed, moving in permutations(labels, 2):
        warped = Composite.of(there[fixed], back[moving]).warp_labels(labels[moving], labels[fixed].grid)
        found[fixed, moving] = float(np.mean([*dice(labels[fixed], warped).values()]))
    return found


def write_page(template: Template) -> None:
    """Write the page: the template round by round, convergence, and a line for each scan."""
    stages = [
        Stage(
            "start" if told.number == 0 else f"iteration {told.number}",
            read_image(told.template),
            told.mean_field_rms_mm,
            told.spread_mm,
            told.change,
        )
        for told in template.iterations
    ]
    lines = [
        ScanLine(
            key,
            told["status"] or "",
            told["dice"],
            told["seconds"],
            ("scans", key, REPORT),
            told.get("headline") or "",
            tuple(told.get("reasons", ())),
        )
        for key, told in template.scans.items()
    ]
    report = TemplateReport(
        f"Template of {len(lines)} scans",
        stages,
        template.tolerance_mm,
        template.converged,
        template.residual_rms_mm,
        lines,
        template.failed,
    )
    write_template_page(template.page, report)
