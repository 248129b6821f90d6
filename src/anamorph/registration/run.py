"""``anamorph.register`` and the command: a request is read, planned, run and, if asked for, written to a folder."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from anamorph.errors import AnamorphError, UserError, out_of_memory_failure
from anamorph.image.atomic import check_writable_folder
from anamorph.image.label_names import LabelNamesLike
from anamorph.image.types import ImageLike, PathLike, PointsLike
from anamorph.methods import DEFAULT_METHOD
from anamorph.methods.base import Run
from anamorph.registration.folder import RESULT, Extras, Saved, check_space, write_failure
from anamorph.registration.plan import RegistrationPlan, make_plan, output_bytes, run_plan
from anamorph.registration.pulling import LabelChoice, OutlinesLike
from anamorph.registration.request import Inputs, MethodLike, Request
from anamorph.registration.result import Result
from anamorph.registration.stopwatch import Stopwatch, part_of
from anamorph.registration.tissue import KeepLike
from anamorph.runtime.device import resolve_device
from anamorph.runtime.memory import check_memory, freed_memory_kept, gigabytes
from anamorph.runtime.threads import limited_threads
from anamorph.settings import GivenSettings
from anamorph.transforms.maps import Transform
from anamorph.types import Device, Progress

log = logging.getLogger(__name__)
READ, REGISTERED = 0.05, 0.75
"""Share of a registration that is reading, and share of the whole command that is done when it is registered."""


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    method: MethodLike = DEFAULT_METHOD,
    preset: str = "auto",
    settings: GivenSettings = None,
    fixed_labels: ImageLike | None = None,
    moving_labels: ImageLike | None = None,
    label_names: LabelNamesLike | None = None,
    fixed_points: PointsLike | None = None,
    moving_points: PointsLike | None = None,
    fixed_outlines: OutlinesLike | None = None,
    moving_outlines: OutlinesLike | None = None,
    use_points: float | None = None,
    use_labels: LabelChoice | None = None,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    no_partner: ImageLike | None = None,
    moving_no_partner: ImageLike | None = None,
    keep_rigid: KeepLike | None = None,
    keep_volume: KeepLike | None = None,
    stiffness: ImageLike | None = None,
    sliding: ImageLike | None = None,
    moving_keep_rigid: KeepLike | None = None,
    moving_keep_volume: KeepLike | None = None,
    moving_stiffness: ImageLike | None = None,
    moving_sliding: ImageLike | None = None,
    same_patient: bool = False,
    init: Transform | PathLike | None = None,
    device: Device = "auto",
    seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
    resample: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Register a pair of scans.

    Args:
        fixed: stays where it is: a file, a DICOM folder, an :class:`Image`, or an image of nibabel, SimpleITK, ITK,
            ANTs or TorchIO.
        moving: is brought to the fixed scan; any grid.
        method: one of ``anamorph.METHODS``, its class, or an instance with its settings.
        preset: one of the method's presets, ``"default"``, or ``"auto"``: chosen by what the scans look like.
        settings: of the method, as a mapping or as ``"key=value"`` strings; they go before the preset's.
        fixed_labels: label map of the fixed scan, to measure the result by.
        moving_labels: label map of the moving scan, which is warped too.
        label_names: names of labels for the report: ``"1=liver,2=spleen"``, a mapping, or a table of 3D Slicer,
            FreeSurfer, ITK-SNAP or BIDS, which gives colours too.
        fixed_points: landmarks in the fixed scan: a file, :class:`Points`, or ``(N, 3)`` RAS millimetres.
        moving_points: the same landmarks in the moving scan.
        fixed_outlines: curves and surfaces of the fixed scan: a file of curves or a mesh, or several.
        moving_outlines: those of the moving scan, by name or in the same order.
        use_points: how exactly landmarks and outlines are known, in mm: they pull then, and measure nothing.
        use_labels: labels that pull, ``"all"`` or values, and then measure nothing.
        fixed_mask: weights in [0, 1] on the fixed grid: where the scan takes part.
        moving_mask: weights in [0, 1] on the moving grid.
        no_partner: mask of what the fixed scan alone shows, such as a resection: it is left out of every comparison.
        moving_no_partner: mask of what the moving scan alone shows.
        keep_rigid: masks of the fixed scan whose connected pieces move rigidly, such as bones: one or several, each
            alone (exactly) or as a pair with a weight (about so).
        keep_volume: masks of the fixed scan whose connected pieces keep their volume, such as lesions.
        stiffness: factors of the smoothness of the deformation on the fixed grid, 1 for ordinary tissue.
        sliding: mask of the fixed scan of what slides along what is around it, such as lungs along the chest wall; or
            ``lungs``, which are found in both scans, if these are CT.
        moving_keep_rigid: as ``keep_rigid``, of the moving scan.
        moving_keep_volume: as ``keep_volume``, of the moving scan.
        moving_stiffness: as ``stiffness``, of the moving scan.
        moving_sliding: as ``sliding``, of the moving scan.
        same_patient: whether the scans are two dates of one patient: the start is rigid, the deformation stiff, and
            what changed is looked for.
        init: fixed-to-moving transform (or its file) to start from, or the name of hypotheses such as ``"world"``.
        device: ``"cuda"`` asks for a GPU; ``"auto"`` leaves the choice to the method.
        seed: of every random choice.
        threads: CPU threads during the call; all by default.
        max_memory: upper bound of memory in bytes, or a size such as ``"8 GB"``.
        resample: bring masks and labels on another grid to the grid of their scan instead of refusing them.
        progress: called as ``progress(stage, fraction)``.

    Returns:
        Both directions of the transform; numbers, verdict, warped scans, files and a report when they are asked for.

    Raises:
        UserError: the input or the settings are wrong.
        RegistrationFailure: the run failed, or memory does not suffice.
    """
    request = Request(
        fixed,
        moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        label_names=label_names,
        fixed_points=fixed_points,
        moving_points=moving_points,
        fixed_outlines=fixed_outlines,
        moving_outlines=moving_outlines,
        use_points=use_points,
        use_labels=use_labels,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        no_partner=no_partner,
        moving_no_partner=moving_no_partner,
        keep_rigid=keep_rigid,
        keep_volume=keep_volume,
        stiffness=stiffness,
        sliding=sliding,
        moving_keep_rigid=moving_keep_rigid,
        moving_keep_volume=moving_keep_volume,
        moving_stiffness=moving_stiffness,
        moving_sliding=moving_sliding,
        same_patient=same_patient,
        init=init,
        method=method,
        preset=preset,
        settings=settings,
        device=device,
        seed=seed,
        resample=resample,
        threads=threads,
        max_memory=max_memory,
    )
    with freed_memory_kept():
        return run(request, progress=progress)


def prepare(request: Request) -> tuple[Inputs, RegistrationPlan]:
    """Read the scans of a request and decide what to do with them.

    Raises:
        UserError: the input or the settings are wrong.
    """
    resolve_device(request.device)
    inputs = request.read()
    fixed, moving = inputs.pair.fixed, inputs.pair.moving
    plan = make_plan(
        fixed,
        moving,
        method=request.method,
        preset=request.preset,
        settings=request.settings,
        max_memory=request.most_bytes,
        sources=request.scans(),
        same_patient=request.same_patient,
    )
    warnings = *plan.warnings, *inputs.point_notes
    plan = dataclasses.replace(
        plan,
        warnings=warnings,
        notes=(*plan.notes, *inputs.label_notes),
        needed_bytes=plan.needed_with(inputs.pair),
    )
    return inputs, plan


def run(
    request: Request,
    *,
    progress: Progress | None = None,
    on_prepared: Callable[[Inputs, RegistrationPlan], None] | None = None,
) -> Result:
    """Read, plan and run a request.

    Args:
        request: scans and settings.
        progress: called with the stage and the fraction that is done.
        on_prepared: called before the registration starts.

    Raises:
        UserError: the input or the settings are wrong.
        RegistrationFailure: the run failed, or memory does not suffice.
    """
    watch = Stopwatch(progress)
    with limited_threads(request.threads):
        with watch.stage("reading", 0.0):
            inputs, plan = prepare(request)
        _log(inputs, plan)
        check_memory(plan.needed_bytes, request.most_bytes)
        if on_prepared is not None:
            on_prepared(inputs, plan)
        with watch.stage("registration", READ):
            this_run = Run(request.device, request.seed, part_of(progress, READ, 1.0))
            outcome = run_plan(plan, inputs.pair, this_run)
    return Result(inputs, plan, outcome, seconds=watch.seconds, threads=request.threads)


@freed_memory_kept()
def run_to_folder(
    request: Request,
    out: Path,
    *,
    overwrite: bool = False,
    composite: bool = False,
    dense_fields: bool = False,
    progress: Progress | None = None,
    extras: Extras | None = None,
    viewer: bool = True,
) -> tuple[Result, Saved]:
    """Run a request and write everything into a new folder.

    Args:
        request: scans and settings.
        out: the folder; it appears when all but the report is complete, which is drawn last.
        overwrite: replace an earlier result there once the new one is complete.
        composite: write ITK ``.h5`` composites too.
        dense_fields: sample fields and maps at every voxel.
        progress: called with the stage and the fraction of the whole command that is done.
        extras: writes more files into the folder, and returns more for ``result.json``.
        viewer: whether the report holds the interactive view, and with it the scans in small.

    Raises:
        UserError: the input or the settings are wrong, or ``out`` may not be written; nothing was written.
        RegistrationFailure: the run failed. If the registration itself did, a report of the failure is in ``out``, or
            beside it in ``<out>-failed`` when an earlier result was to be overwritten, which then stays.
    """
    check_writable_folder(out, overwrite, marker=RESULT, inputs=request.files())
    had_result = out.exists()
    at_risk: tuple[Inputs, RegistrationPlan] | None = None
    start = time.perf_counter()

    def begin(inputs: Inputs, plan: RegistrationPlan) -> None:
        nonlocal at_risk
        at_voxels = dense_fields or inputs.pair.slides or plan.method.fields_at_voxels
        check_space(out, output_bytes(inputs.pair.fixed, inputs.pair.moving, at_voxels))
        at_risk = inputs, plan

    try:
        done = part_of(progress, 0.0, REGISTERED)
        result = run(request, progress=done, on_prepared=begin)
        result.measure(part_of(progress, REGISTERED, 1.0))
        at_risk = None
        after = part_of(progress, REGISTERED, 1.0)
        saved = result.save(
            out,
            overwrite=overwrite,
            composite=composite,
            dense_fields=dense_fields,
            progress=after,
            extras=extras,
            viewer=viewer,
        )
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        failure = out_of_memory_failure(error) or error
        if at_risk is not None:
            place = out.with_name(f"{out.name}-failed") if had_result else out
            seconds = {"registration": time.perf_counter() - start}
            with suppress(OSError, AnamorphError):  # the failure itself is what has to be told
                told = write_failure(place, *at_risk, failure, request.seed, request.device, seconds)
                failure.add_note(f"report: {told}")
        if failure is error:
            raise
        raise failure from error
    return result, saved


def _log(inputs: Inputs, plan: RegistrationPlan) -> None:
    pair = inputs.pair
    log.debug("fixed: %r, moving: %r; about %s at the peak", pair.fixed, pair.moving, gigabytes(plan.needed_bytes))
    log.info("method %s, preset %s (%s)", plan.name, plan.preset, plan.preset_reason)
    log.debug("settings: %s", plan.method.settings())
    for text in plan.warnings:
        log.info("warning: %s", text)
    for text in plan.notes:
        log.info("note: %s", text)
