"""The folder of a result: the names of its files, their writing, and what ``result.json`` and the report say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.errors import AnamorphError, RegistrationFailure
from anamorph.evaluation.measure import RegisteredPair
from anamorph.evaluation.no_partner import NOT_LOOKED_FOR, NOTHING_FOUND
from anamorph.evaluation.numbers import plain
from anamorph.evaluation.seen_labels import NOT_GUIDED
from anamorph.evaluation.uncertainty import NOT_ESTIMATED
from anamorph.evaluation.verdict import failed
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_directory, write_text
from anamorph.image.dicom.headers import SEPARATOR
from anamorph.image.dicom.volumes import split_choice
from anamorph.image.image import Image
from anamorph.image.write import SCANNER, write_image
from anamorph.registration.page import report_of, report_of_failure
from anamorph.registration.plan import RegistrationPlan, describe_plan
from anamorph.registration.request import Inputs
from anamorph.registration.stopwatch import Stopwatch
from anamorph.report.page import drawn
from anamorph.runtime.machine import peak_memory_mb
from anamorph.transforms.files import write_transform
from anamorph.transforms.files.itk_field import on_own_grid
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from anamorph.types import Progress

if TYPE_CHECKING:
    from anamorph.registration.result import Result

WARPED = "warped.nii.gz"
WARPED_LABELS = "warped_labels.nii.gz"
FIXED_TO_MOVING = "fixed_to_moving.nii.gz"
MOVING_TO_FIXED = "moving_to_fixed.nii.gz"
FIXED_TO_MOVING_COMPOSITE = "fixed_to_moving.h5"
MOVING_TO_FIXED_COMPOSITE = "moving_to_fixed.h5"
LINEAR_FILES = {".tfm": "itk-tfm", ".mat": "itk-mat"}
"""Further files of a transform that does not deform, beside its field: suffix and format."""
JACOBIAN = "jacobian.nii.gz"
INVERSE_CONSISTENCY = "inverse_consistency_mm.nii.gz"
UNCERTAINTY = "uncertainty_mm.nii.gz"
NO_PARTNER = "no_partner.nii.gz"
MOVING_NO_PARTNER = "moving_no_partner.nii.gz"
CHANGE = "change.nii.gz"
RESULT = "result.json"
REPORT = "report.html"

DESCRIPTIONS = {
    WARPED: "the moving scan on the fixed grid, from its original voxels",
    WARPED_LABELS: "the moving labels on the fixed grid",
    FIXED_TO_MOVING: "ITK displacement field (LPS mm) on its own grid: pulls moving images, maps fixed points",
    MOVING_TO_FIXED: "ITK displacement field (LPS mm) on its own grid: pulls fixed images, maps moving points",
    FIXED_TO_MOVING_COMPOSITE: "the same as an ITK composite transform, affine and field apart",
    MOVING_TO_FIXED_COMPOSITE: "the same as an ITK composite transform, affine and field apart",
    **{
        name.replace(".nii.gz", suffix): f"the same as an ITK affine ({suffix}), where nothing deforms"
        for name in (FIXED_TO_MOVING, MOVING_TO_FIXED)
        for suffix in LINEAR_FILES
    },
    JACOBIAN: "local change of volume at every so many-th voxel of the fixed scan; <= 0 is folded",
    INVERSE_CONSISTENCY: "at the same voxels, mm after going to the moving scan and back; NaN outside it",
    UNCERTAINTY: "mm within which the right place lies in about two of three cases, on its own grid; NaN: not compared",
    NO_PARTNER: "1 where the fixed scan shows what the moving one does not, else 0, on a grid of its own",
    MOVING_NO_PARTNER: "1 where the moving scan shows what the fixed one does not, else 0, in its frame",
    CHANGE: "how the moving scan differs, in standard deviations of the pair's noise; 0 outside the body",
    "dicom/": "with --dicom: the warped scan, its structures and segments, and both transforms",
    RESULT: "metrics, timings, settings, versions, input hashes, verdict",
    REPORT: "the report",
}


Extras = Callable[[Path, "Result"], dict[str, Any]]
"""Writes more files into the folder of a result and returns more for ``result.json``."""


@dataclass(frozen=True)
class Saved:
    """The folder of a result, the content of its ``result.json``, and why there is no report, in one line."""

    folder: Path
    record: dict[str, Any]
    report_failure: str | None = None
    report_name: str = REPORT


def save_result(
    result: Result,
    out: Path,
    overwrite: bool = False,
    composite: bool = False,
    dense_fields: bool = False,
    progress: Progress | None = None,
    extras: Extras | None = None,
    viewer: bool = True,
) -> Saved:
    """Write a result to a folder; arguments and errors as of :meth:`Result.save`."""
    from anamorph.report.pair import write_report

    watch = Stopwatch(progress, result.seconds)
    result.measure(progress)
    with (
        atomic_directory(out, overwrite, marker=RESULT, inputs=result.inputs.files) as folder,
        watch.stage("writing", 0.4),
        _told_of(out, folder),
    ):
        write_scans(folder, result.pair, result.inputs.world)
        write_maps(folder, result, dense_fields)
        if composite:
            write_composites(folder, result)
        write_linear(folder, result)
        more = {} if extras is None else extras(folder, result)
        record = describe_success(result) | given_files(result.inputs, out) | more
        write_result(folder, record | {"report": "not drawn: the run was stopped before"})
    # From here on nothing that goes wrong, the end of the process included, costs more than the report.
    with watch.stage("report", 0.8), _told_if_interrupted(out):
        report = replace(report_of(result, more, files_in(out)), viewer=viewer)
        reason = drawn(out / REPORT, lambda: write_report(out / REPORT, report))
    record |= {"timings_s": stage_timings(result), "report": REPORT if reason is None else f"failed: {reason}"}
    with suppress(OSError, AnamorphError):
        write_result(out, record)
    return Saved(out, record, reason)


def write_failure(
    out: Path,
    inputs: Inputs,
    plan: RegistrationPlan,
    failure: Exception,
    seed: int,
    device: str,
    seconds: dict[str, float],
) -> Path:
    """Leave a record and, if it can be drawn, a report of a run that failed; returns the file that tells most."""
    from anamorph.report.pair import write_report

    judged = failed(str(failure) if isinstance(failure, AnamorphError) else f"{type(failure).__name__}: {failure}")
    record = {
        "status": "FAILED",
        "verdict": judged.to_dict(),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "timings_s": _rounded(seconds, {}),
        "peak_memory_mb": round(peak_memory_mb()),
        "provenance": describe_plan(plan, inputs.pair, seed=seed, device=device),
    }
    with atomic_directory(out, overwrite=True, marker=RESULT, inputs=inputs.files) as folder:
        write_result(folder, record)
        reason = drawn(
            folder / REPORT, lambda: write_report(folder / REPORT, report_of_failure(inputs, plan, judged, seconds))
        )
    return out / (REPORT if reason is None else RESULT)


def given_files(inputs: Inputs, out: Path) -> dict[str, Any]:
    """Where the scans, labels and landmarks lie as seen from the folder of a result, and what its labels are called."""
    files = {}
    for role, source in inputs.sources.items():
        path = split_choice(source)[0]
        choice = source.split(SEPARATOR)[len(str(path).split(SEPARATOR)) :]
        files[role] = SEPARATOR.join([os.path.relpath(path, out), *choice])
    names = inputs.label_names
    return {"given": files, "label_names": dict(names.names), "label_colours": dict(names.colours)}


def files_in(folder: Path) -> list[tuple[str, str]]:
    """Names of the files of a result that are in a folder, and what each is."""
    return [(name, told) for name, told in DESCRIPTIONS.items() if name != REPORT and (folder / name).is_file()]


def describe_success(result: Result) -> dict[str, Any]:
    """The record of a finished run."""
    return {
        "status": result.verdict.status,
        "verdict": result.verdict.to_dict(),
        "metrics": result.metrics.to_dict(),
        "warnings": result.warnings,
        "notes": list(result.plan.notes),
        "direction_check": direction_check(result.fixed_to_moving, result.fixed.grid),
        "kept": [piece.as_dict() for piece in result.pair.kept],
        "uncertainty": NOT_ESTIMATED if result.uncertainty is None else result.uncertainty.as_dict(),
        "seen_by_guide": NOT_GUIDED if result.seen is None else result.seen.as_dict(),
        "no_partner": _no_partner(result),
        "change": _change(result),
        "timings_s": stage_timings(result),
        "peak_memory_mb": round(peak_memory_mb()),
        "provenance": result.provenance,
        "trace": result.trace,
    }


def _change(result: Result) -> dict[str, Any] | str:
    """Regions that changed between two dates, or why there are none."""
    if result.change is not None:
        return result.change.as_dict()
    return result.changes_unseen if result.inputs.same_patient else NOT_LOOKED_FOR


def _no_partner(result: Result) -> dict[str, Any] | str:
    """The regions that have no partner, or why there are none."""
    if result.no_partner is not None:
        return result.no_partner.as_dict()
    return NOTHING_FOUND if result.plan.method.settings().get("find_no_partner") else NOT_LOOKED_FOR


def stage_timings(result: Result) -> dict[str, Any]:
    """Seconds of the stages, and of the method's own inside ``registration``."""
    return _rounded(result.seconds, result.timings)


def _rounded(seconds: dict[str, float], method: dict[str, float]) -> dict[str, Any]:
    rounded = {stage: round(value, 3) for stage, value in seconds.items()}
    return rounded | {
        "total": round(sum(seconds.values()), 3),
        "registration_stages": {stage: round(value, 3) for stage, value in method.items()},
    }


def direction_check(transform: Transform, grid: Grid) -> dict[str, list[float]]:
    """Where the centre of the fixed scan goes, in both frames: a wrong direction or frame shows at once."""
    centre = grid.centre_mm
    positions = {"fixed_centre": centre, "maps_to_moving": transform.map_world(centre[None])[0]}
    described = {}
    for name, position in positions.items():
        described[f"{name}_ras_mm"] = np.round(position, 4).tolist()
        described[f"{name}_lps_mm"] = np.round(flip_ras_lps(position), 4).tolist()
    return described


@contextmanager
def _told_of(out: Path, folder: Path) -> Iterator[None]:
    """Name the output in messages, not the temporary folder it is written to first."""
    try:
        yield
    except RegistrationFailure as failure:
        raise RegistrationFailure(str(failure).replace(str(folder), str(out))) from failure


@contextmanager
def _told_if_interrupted(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted while the report was drawn; everything else is in {out}") from None


def write_scans(folder: Path, pair: RegisteredPair, world: int = SCANNER) -> None:
    """Write the moving scan and its labels on the fixed grid; ``world`` is NIfTI's code of the fixed scan's world."""
    write_image(pair.warped, folder / WARPED, world)
    if pair.moving_labels is not None:
        write_image(pair.warped_labels, folder / WARPED_LABELS, world)


def write_maps(folder: Path, result: Result, dense: bool = False) -> None:
    """Write both transforms, each as one ITK field, and the maps of their determinants and their disagreement.

    Args:
        folder: exists.
        result: what to write.
        dense: sample all at every voxel of the scans, rather than fields on their own grids and maps in proportion.
    """
    pair, world = result.pair, result.inputs.world
    grid, determinants, apart = pair.map_grid, pair.deformation.determinants, pair.inverse_consistency_mm
    if dense:
        grid, determinants = pair.fixed_grid, pair.jacobian
    else:
        apart = np.ascontiguousarray(apart[tuple(slice(None, None, step) for step in pair.map_steps)])
    for name, transform, scan in (
        (FIXED_TO_MOVING, result.fixed_to_moving, pair.fixed_grid),
        (MOVING_TO_FIXED, result.moving_to_fixed, pair.moving_grid),
    ):
        field = on_own_grid(transform, scan, dense)
        write_transform(field, folder / name, "itk", field.grid)
    write_image(Image(determinants, grid, "jacobian"), folder / JACOBIAN, world)
    write_image(Image(apart, grid, "inverse consistency"), folder / INVERSE_CONSISTENCY, world)
    unsure = result.uncertainty_mm
    if unsure is not None:
        if dense:
            unsure = Affine.identity().warp_image(unsure, pair.fixed_grid, background=np.nan)
        write_image(unsure, folder / UNCERTAINTY, world)
    if result.change is not None:
        write_image(result.change.map, folder / CHANGE, world)
    alone = result.no_partner
    if alone is not None:
        for name, found, scan in zip(
            (NO_PARTNER, MOVING_NO_PARTNER), alone.maps, (pair.fixed_grid, pair.moving_grid), strict=True
        ):
            if found is not None:
                shown = Affine.identity().warp_image(found, scan, background=0) if dense else found
                write_image(shown, folder / name, world)


def write_composites(folder: Path, result: Result) -> None:
    """Write both directions as ITK ``.h5`` too, affine and field apart."""
    names = FIXED_TO_MOVING_COMPOSITE, MOVING_TO_FIXED_COMPOSITE
    for name, (transform, grid) in zip(names, composites(result), strict=True):
        write_transform(transform, folder / name, "itk-h5", grid)


def composites(result: Result) -> Iterator[tuple[Transform, Grid]]:
    """Both directions as ITK composites can hold them, fixed to moving first, each with the grid of its points.

    ITK takes a field to be zero outside, so one of the other scan's frame that an affine precedes is sampled.
    """
    for transform, grid in (
        (result.fixed_to_moving, result.fixed.grid),
        (result.moving_to_fixed, result.moving.grid),
    ):
        parts = transform.parts if isinstance(transform, Composite) else (transform,)
        apart = isinstance(parts[0], Displacement) or len(parts) == 1
        yield transform if apart else transform.displacement_on(grid), grid


def write_linear(folder: Path, result: Result) -> None:
    """Write both directions of a result that does not deform as ITK affines too; nothing of one that does."""
    sides = (
        (FIXED_TO_MOVING, result.fixed_to_moving, result.fixed.grid),
        (MOVING_TO_FIXED, result.moving_to_fixed, result.moving.grid),
    )
    for name, transform, grid in sides:
        if isinstance(transform, Affine):
            for suffix, kind in LINEAR_FILES.items():
                write_transform(transform, folder / name.replace(".nii.gz", suffix), kind, grid)


def write_result(folder: Path, content: dict[str, Any]) -> None:
    """Write ``result.json``; numbers that are not finite become null."""
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, default=_plain_numpy)
    write_text(folder / RESULT, text + "\n")


def check_space(out: Path, needed: int) -> None:
    """See that the outputs will fit before anything is computed.

    Raises:
        RegistrationFailure: they may not.
    """
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RegistrationFailure(
            f"the disk is full: writing {out} may take {needed / 1e6:.0f} MB but {free / 1e6:.0f} MB are free; "
            "free some space or write elsewhere"
        )


def _plain_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
