"""What a registration will do and take: the method with its settings, memory, and what is odd about the scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from anamorph.errors import UserError, out_of_memory_failure
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.image.image import Image
from anamorph.methods import DEFAULT_METHOD, find_method
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.registration.preflight import (
    UNIT_REMEDY,
    dates_of_one_patient,
    inspect_image,
    inspect_pair,
    overlap_percent,
    told_of_headers,
    unit_mismatch,
)
from anamorph.registration.provenance import describe_given, describe_input
from anamorph.registration.request import MethodLike
from anamorph.registration.start_map import describe_map
from anamorph.registration.tissue import keep
from anamorph.runtime.compiled import MISSING, kernels
from anamorph.runtime.machine import machine, versions
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.settings import GivenSettings, make_config
from anamorph.transforms.maps import Affine

PREPARED = 12
"""Bytes per voxel of a scan that is prepared for comparison: float32 values, weights, and one of them on its way."""


@dataclass(frozen=True)
class RegistrationPlan:
    """What a registration will do: method and settings, how the preset was found, and what is odd about the input.

    Warnings count in the verdict, notes do not. ``needed_bytes`` is the memory of the whole command at its peak,
    ``one_core_seconds`` what the registration takes on one core, None where the method cannot tell.
    """

    method: Method
    preset: str
    preset_reason: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    needed_bytes: int = 0
    one_core_seconds: float | None = None

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.method.name

    def needed_with(self, pair: Pair) -> int:
        """The memory with that for what is known of a pair: labels that pull, tissue that slides."""
        labels = 0 if pair.labels is None else len(pair.labels.values)
        return self.needed_bytes + self.method.known_bytes(pair.fixed.grid, pair.moving.grid, labels, pair.slides)


def make_plan(
    fixed: Image,
    moving: Image,
    *,
    method: MethodLike = DEFAULT_METHOD,
    preset: str = "auto",
    settings: GivenSettings = None,
    max_memory: int | None = None,
    sources: Mapping[str, Any] | None = None,
    same_patient: bool = False,
) -> RegistrationPlan:
    """Choose the preset and check the settings and the pair.

    Args:
        fixed: stays where it is.
        moving: is brought to the fixed scan.
        method: name, class or instance; an instance is taken with the settings that it has.
        preset: one of the method's, ``"default"`` or ``"auto"``.
        settings: go before the preset's.
        max_memory: bytes of the whole process; what scans and Python leave is the method's.
        same_patient: whether the scans are two dates of one patient.
        sources: files of the scans, labels and masks by what they are ("moving labels"), whose headers are looked at.

    Raises:
        UserError: unknown method, preset or setting, a wrong value, or scans that cannot be a pair.
    """
    method_class = find_method(method)
    if isinstance(method, Method):
        if preset not in ("auto", "default") or settings:
            raise UserError("this method has its settings already; give them to its config, or name the method")
    elif preset != "auto":
        make_config(method_class, preset, settings)  # a typing mistake is an error before the scans are looked at
    if fixed.channels != moving.channels:
        raise UserError(
            f"{fixed.name} has {fixed.channels} channels but {moving.name} has {moving.channels}; "
            "give both the same channels"
        )
    if fixed.grid.is_2d != moving.grid.is_2d:
        raise UserError(f"{fixed.name} and {moving.name}: one is a single slice, the other is not; give two of a kind")
    apart = unit_mismatch(fixed.grid, moving.grid)
    if apart is not None:
        raise UserError(f"{fixed.name} and {moving.name}: {apart}; {UNIT_REMEDY}")
    facts = inspect_image(fixed), inspect_image(moving)
    pair = inspect_pair(fixed, moving, *facts)
    reason = "as asked for"
    if isinstance(method, Method):
        preset, reason, config = "default", "the method came with its settings", method.config
    else:
        if preset == "auto":
            preset, reason = pair.preset, pair.preset_reason
            if preset not in method_class.presets:
                preset, reason = "default", f"the method has no preset {preset}"
        config = make_config(method_class, preset, settings, patient_mm(fixed.grid), same_patient)
    if max_memory is not None:
        config = config.within_memory(max_memory - INTERPRETER_BYTES - fixed.data.nbytes - moving.data.nbytes)
    told = [(finding.severity, finding.message) for finding in told_of_headers(sources or {})]
    told += [(f.severity, f"{one.name}: {f.message}; register {f.action}") for one in facts for f in one.findings]
    told += [(finding.severity, f"{finding.message}: {finding.action}") for finding in pair.findings]
    files = sources or {}
    visits = dates_of_one_patient(files.get("fixed"), files.get("moving"))
    if visits is not None and not same_patient:
        told.append((visits.severity, f"{visits.message}; register {visits.action}"))
    if config.remark:
        told.append(("note", config.remark))
    if kernels is None:
        told.append(("note", MISSING))
    warnings, notes = (tuple(text for severity, text in told if severity == wanted) for wanted in ("warning", "note"))
    chosen = method_class(config)
    needed = predicted_peak_bytes(chosen, fixed, moving)
    seconds = chosen.one_core_seconds(fixed.grid, moving.grid)
    return RegistrationPlan(chosen, preset, reason, warnings, notes, needed, seconds)


def run_plan(plan: RegistrationPlan, pair: Pair, run: Run) -> Outcome:
    """Run a plan on the scans it was made for, and add warnings and provenance.

    Raises:
        UserError: nothing of the fixed scan lies in the moving one and the method may not look for it.
        RegistrationFailure: the run failed, or memory ran out.
    """
    _check_start(plan, pair)
    try:
        result = keep(plan.method(pair, run), pair, run)
    except (MemoryError, RuntimeError) as error:
        failure = out_of_memory_failure(error)
        if failure is None:
            raise
        raise failure from error
    if (pair.marks or pair.labels) and not run.pulled:
        result.warnings.append("no field was refined, so what was given to pull had no say")
    result.warnings[:0] = plan.warnings
    if isinstance(result.start, Affine):
        overlap = overlap_percent(pair.fixed.grid, pair.moving.grid, result.start)
        result.provenance["start_map"] = describe_map(result.start, pair.fixed.grid, overlap)
    described = describe_plan(plan, pair, seed=run.seed, device=run.device)
    result.provenance = described | {k: v for k, v in result.provenance.items() if k not in described}
    return result


def describe_plan(plan: RegistrationPlan, pair: Pair, *, seed: int, device: str) -> dict[str, Any]:
    """The provenance of a run of a plan: everything needed to repeat it, as plain values for ``result.json``."""
    roles = ("fixed", "moving", "fixed_mask", "moving_mask")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "method": plan.name,
        "preset": plan.preset,
        "preset_reason": plan.preset_reason,
        "settings": plan.method.settings(),
        "seed": seed,
        "inputs": {role: describe_input(image) for role in roles if (image := getattr(pair, role)) is not None},
    } | ({"given": given} if (given := describe_given(pair)) else {})


def _check_start(plan: RegistrationPlan, pair: Pair) -> None:
    """A given start, or none, must leave something to compare; otherwise the method looks for the start itself."""
    fixed, moving, init = pair.fixed, pair.moving, pair.start
    if init is None and not plan.method.config.trusts_headers:
        return
    if overlap_percent(fixed.grid, moving.grid, init) == 0:
        start = "the world positions in the headers" if init is None else "the transform of --init"
        raise UserError(
            f"by {start} the fields of view of {fixed.name} and {moving.name} do not overlap; "
            "let the method find the start (drop init=world or --init)"
        )


def predicted_peak_bytes(method: Method, fixed: Image, moving: Image) -> int:
    """Peak of the whole command: the method, or the maps while they are measured and written."""
    scans = fixed.data.nbytes, moving.data.nbytes
    needed = method.peak_memory_bytes(fixed.grid, moving.grid)
    return peak_bytes_on(needed, fixed.grid, moving.grid, scans, method.fields_at_voxels)


def peak_bytes_on(
    method_bytes: int, fixed: Grid, moving: Grid, scan_bytes: tuple[int, int], fields_at_voxels: bool = True
) -> int:
    """Peak memory of a pair that need not be read.

    Args:
        method_bytes: what the method needs.
        fixed: grid.
        moving: grid.
        scan_bytes: of the voxels of each scan.
        fields_at_voxels: whether fields are held at every voxel.
    """
    voxels = _voxels(fixed), _voxels(moving)
    # Both scans prepared for comparison with their weights, or the disagreement of both directions with a copy of it,
    # beside the warped scan; of fields both as found and as stored, and two copies of one on its way to the file.
    measuring = max(PREPARED * sum(voxels), 9 * voxels[0]) + 4 * voxels[0] + scan_bytes[0]
    fields = 24 * (sum(voxels) + max(voxels)) if fields_at_voxels else 0
    return INTERPRETER_BYTES + sum(scan_bytes) + max(method_bytes, measuring + fields)


def output_bytes(fixed: Image, moving: Image, fields_at_voxels: bool = True) -> int:
    """Upper bound of what a run writes: float32 fields hardly shrink when they are compressed."""
    fields = 12 * (_voxels(fixed.grid) + _voxels(moving.grid)) if fields_at_voxels else 1 << 24
    return fields + (10 + moving.data.itemsize) * _voxels(fixed.grid)


def _voxels(grid: Grid) -> int:
    return grid.shape[0] * grid.shape[1] * grid.shape[2]
