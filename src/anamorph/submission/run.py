"""A method over a list of pairs: one after the other, resumed where it stopped, stopped by no single failure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anamorph
from anamorph.api import failure_line, make_plan, mask_on, run_plan
from anamorph.data import Case, Pair
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.scale import patient_mm
from anamorph.image import Image
from anamorph.image.read import read_image
from anamorph.memory import check_memory, predicted_peak_bytes
from anamorph.methods import DEFAULT_METHOD, METHODS, base
from anamorph.methods.base import Device, Outcome, Progress, Run
from anamorph.methods.device import resolve_device
from anamorph.provenance import current_hash, model_hashes
from anamorph.settings import make_config
from anamorph.submission.store import FieldStore


@dataclass(frozen=True)
class RunSettings:
    """What to run on every pair; ``masks`` gives the method the masks of the data set."""

    method: str = DEFAULT_METHOD
    preset: str = "auto"
    settings: tuple[str, ...] = ()
    device: Device = "auto"
    seed: int = 0
    masks: bool = False

    def described(self) -> dict[str, Any]:
        """Everything the result depends on apart from the scans, as plain values; models by what is in them.

        Raises:
            UserError: there is no such method, preset, setting, model or device.
        """
        method: Any = METHODS.find(self.method)
        auto = self.preset == "auto"
        config = make_config(method, "default" if auto else self.preset, self.settings)
        described = {
            "anamorph": anamorph.__version__,
            "method": self.method,
            "preset": self.preset,
            "given": list(self.settings),
            "settings": method(config).settings(),
            "presets": method.presets if auto else {},
            "device": resolve_device(self.device),
            "seed": self.seed,
            "models": {
                name: told
                for values in (method(config).settings(), *(method.presets.values() if auto else ()))
                for name, told in model_hashes(values).items()
            },
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Predicted peak of a registration of scans on these grids, without the interpreter itself."""
        method: Any = METHODS.find(self.method)
        preset = "default" if self.preset == "auto" else self.preset
        config = make_config(method, preset, self.settings, patient_mm(fixed))
        return int(method(config).peak_memory_bytes(fixed, moving))


@dataclass(frozen=True)
class PairRun:
    """What became of a pair: the seconds and warnings of its run, or the reason why there is no field."""

    pair: Pair
    seconds: float = 0.0
    warnings: tuple[str, ...] = field(default=())
    reused: bool = False
    error: str | None = None


def register_pairs(
    pairs: tuple[Pair, ...],
    wanted: RunSettings,
    store: FieldStore,
    *,
    progress: Progress | None = None,
    on_pair: Callable[[PairRun], None] | None = None,
) -> list[PairRun]:
    """Register every pair that the store does not hold yet with these settings and these scans.

    Args:
        pairs: to register.
        wanted: method and settings.
        store: keeps the fields.
        progress: called with the pair, the remaining time and the fraction of all pairs that is done.
        on_pair: called after each pair.

    Returns:
        one entry per pair, in order; a failure is one of them.

    Raises:
        UserError: the settings are wrong.
    """
    described = wanted.described()
    clock = _Clock(len(pairs), progress)
    runs = []
    for number, pair in enumerate(pairs):
        clock.begin(number, pair)
        start = time.perf_counter()
        try:
            run = _run_pair(pair, wanted, described, store, clock.tell)
        except Exception as error:  # whatever a method stumbles over, the other pairs go on
            run = PairRun(pair, time.perf_counter() - start, error=failure_line(error))
        if not run.reused:
            clock.took(time.perf_counter() - start)
        runs.append(run)
        if on_pair is not None:
            on_pair(run)
    return runs


def register_scans(
    fixed: Image, moving: Image, pair: Pair, wanted: RunSettings, progress: Progress | None = None
) -> Outcome:
    """Register the scans of a pair, which have been read.

    Raises:
        UserError: the pair or its masks cannot be used.
        RegistrationFailure: memory does not suffice, or the run failed.
    """
    sources: dict[str, Path | None] = {"fixed": pair.fixed.image, "moving": pair.moving.image}
    if wanted.masks:
        sources |= {"fixed mask": pair.fixed.mask, "moving mask": pair.moving.mask}
    plan = make_plan(
        fixed, moving, method=wanted.method, preset=wanted.preset, settings=wanted.settings, sources=sources
    )
    check_memory(predicted_peak_bytes(plan.method, fixed, moving))
    masks = (mask_on(fixed, pair.fixed.mask), mask_on(moving, pair.moving.mask)) if wanted.masks else (None, None)
    return run_plan(plan, base.Pair(fixed, moving, *masks), Run(wanted.device, wanted.seed, progress))


def _run_pair(
    pair: Pair, wanted: RunSettings, described: dict[str, Any], store: FieldStore, progress: Progress
) -> PairRun:
    origin = described | {"inputs": _input_hashes(pair, wanted.masks)}
    told = store.find(pair, origin)
    if told is not None:
        return PairRun(pair, told["seconds"], tuple(told["warnings"]), reused=True)
    fixed, moving = read_image(pair.fixed.image), read_image(pair.moving.image)
    if fixed.grid.shape != moving.grid.shape:
        raise UserError(
            f"Learn2Reg fields need two scans of one shape, not {_times(fixed)} and {_times(moving)} voxels; "
            "bring them to one with `anamorph preprocess --shape`"
        )
    start = time.perf_counter()
    result = register_scans(fixed, moving, pair, wanted, progress)
    seconds = time.perf_counter() - start
    told = {"seconds": round(seconds, 3), "warnings": result.warnings}
    store.keep(pair, origin, told, result.fixed_to_moving, fixed.grid, moving.grid)
    return PairRun(pair, seconds, tuple(result.warnings))


def _input_hashes(pair: Pair, masks: bool) -> dict[str, str | None]:
    def hashes(role: str, case: Case) -> dict[str, str | None]:
        mask = None if case.mask is None or not masks else _hash_of(case.mask)
        return {role: _hash_of(case.image), f"{role}_mask": mask}

    return hashes("fixed", pair.fixed) | hashes("moving", pair.moving)


def _hash_of(path: Path) -> str:
    try:
        return current_hash(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the data set with `anamorph dataset check`") from error


def _times(image: Image) -> str:
    return " x ".join(map(str, image.grid.shape))


class _Clock:
    """Tells how far the list is, and from the pairs that had to be computed how long the rest will take."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress = total, progress
        self.seconds: list[float] = []
        self.number, self.stage = 0, ""

    def begin(self, number: int, pair: Pair) -> None:
        self.number = number
        remaining = ""
        if self.seconds:
            mean = sum(self.seconds) / len(self.seconds)
            remaining = f", about {remaining_time(mean * (self.total - number))} left"
        self.stage = f"pair {number + 1} of {self.total}, {pair.key}{remaining}"
        self.tell("", 0.0)

    def tell(self, stage: str, fraction: float) -> None:
        if self.progress is not None:
            self.progress(self.stage, (self.number + fraction) / self.total)

    def took(self, seconds: float) -> None:
        self.seconds.append(seconds)


def remaining_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
