"""A method with its settings for many pairs, and one pair registered by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.store import origin_of
from anamorph.data.dataset import KNOWN_KINDS, TISSUE_KINDS, Pair
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.image.image import Image
from anamorph.methods import DEFAULT_METHOD, base, find_method
from anamorph.methods.base import Outcome, Run
from anamorph.registration.plan import make_plan, peak_bytes_on, run_plan
from anamorph.registration.provenance import model_hashes
from anamorph.registration.pulling import MOST_LABELS, chosen_labels
from anamorph.registration.request import Inputs, Request
from anamorph.registration.tissue import given_as, sources_of
from anamorph.runtime.device import resolve_device
from anamorph.runtime.memory import check_memory
from anamorph.settings import make_config
from anamorph.types import Device, Progress

BYTES_PER_VOXEL = 4
"""Of a scan in memory; most take half as much."""


@dataclass(frozen=True)
class RegistrationSettings:
    """What to run on every pair.

    Args:
        method: its name.
        preset: one of the method's, ``"default"``, or ``"auto"``.
        settings: ``"key=value"`` texts; they go before the preset's.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        seed: of every random choice.
        masks: give the method the masks of the data set.
        use_points: how exactly points and outlines are known, in mm; they pull then, and measure nothing.
        use_labels: labels that pull, ``"all"`` or ``"1,2=10"``, and then measure nothing.
    """

    method: str = DEFAULT_METHOD
    preset: str = "auto"
    settings: tuple[str, ...] = ()
    device: Device = "auto"
    seed: int = 0
    masks: bool = False
    use_points: float | None = None
    use_labels: str | None = None

    def described(self) -> dict[str, Any]:
        """Everything the result depends on apart from the scans, as plain values; models by what is in them.

        Raises:
            UserError: there is no such method, preset, setting, model or device.
        """
        method = find_method(self.method)
        auto = self.preset == "auto"
        config = make_config(method, "default" if auto else self.preset, self.settings)
        settings, presets = method(config).settings(), method.presets if auto else {}
        configs = config, *(make_config(method, preset, self.settings) for preset in presets)
        pulls = {"use_points": self.use_points, "use_labels": self.use_labels}
        return origin_of(
            method=self.method,
            preset=self.preset,
            given=self.settings,
            settings=settings,
            presets=presets,
            device=resolve_device(self.device),
            seed=self.seed,
            models={name: told for one in configs for name, told in model_hashes(one).items()},
            **{name: value for name, value in pulls.items() if value is not None},
        )

    def pulling_points(self, pair: Pair) -> str | None:
        """The kind of points of a pair that pull: keypoints, and where there are none landmarks."""
        kinds = ("keypoints", "landmarks") if self.use_points is not None else ()
        return next((kind for kind in kinds if None not in pair.points(kind)), None)

    def known_of(self, pair: Pair) -> dict[str, Any]:
        """What the method is given of a pair beside the scans: files, as arguments of :class:`Request`."""
        known: dict[str, Any] = {}
        for role, case in (("fixed", pair.fixed), ("moving", pair.moving)):
            for kind in KNOWN_KINDS:
                name = kind if role == "fixed" and kind in TISSUE_KINDS else f"{role}_{kind}"
                if kind in case.known:
                    known[name] = given_as(case.known[kind])
            if self.masks:
                known[f"{role}_mask"] = case.mask
            if self.use_labels is not None:
                known[f"{role}_labels"] = case.label
        points = self.pulling_points(pair)
        if points is not None:
            known |= dict(zip(("fixed_points", "moving_points"), pair.points(points), strict=True))
        return {name: files for name, files in known.items() if files is not None}

    def peak_memory_bytes(self, fixed: Grid, moving: Grid, slides: bool = False) -> int:
        """Predicted peak of a registration of scans on these grids, without the interpreter itself."""
        method = find_method(self.method)
        preset = "default" if self.preset == "auto" else self.preset
        config = make_config(method, preset, self.settings, patient_mm(fixed))
        labels = 0
        if self.use_labels is not None:
            values, _ = chosen_labels(self.use_labels)
            labels = MOST_LABELS if values is None else len(values)
        made = method(config)
        return int(made.peak_memory_bytes(fixed, moving) + made.known_bytes(fixed, moving, labels, slides))

    def peak_bytes(self, fixed: Grid, moving: Grid, slides: bool = False) -> int:
        """Predicted peak of a process that registers scans on these grids and writes the results.

        Args:
            fixed: grid.
            moving: grid.
            slides: whether tissue of a scan slides.
        """
        scans = BYTES_PER_VOXEL * math.prod(fixed.shape), BYTES_PER_VOXEL * math.prod(moving.shape)
        return peak_bytes_on(self.peak_memory_bytes(fixed, moving, slides), fixed, moving, scans)


def roles_of(known: Mapping[str, Any]) -> dict[str, Path]:
    """Files that are arguments of :class:`Request`, by their roles, with the weight of those that have one."""
    return {
        f"{name}{number or ''}{'' if weight is None else f'={weight}'}": Path(str(path))
        for name, given in known.items()
        for number, (path, weight) in enumerate(sources_of(given))
    }


def register_scans(
    wanted: RegistrationSettings,
    fixed: Image,
    moving: Image,
    *,
    sources: Mapping[str, Path | None] | None = None,
    progress: Progress | None = None,
    **known: Any,
) -> Outcome:
    """Register two scans that have been read.

    Args:
        wanted: method and settings.
        fixed: stays where it is.
        moving: is brought to it.
        sources: files whose headers are looked at too, by what they are ("moving mask").
        progress: of the method.
        known: of the scans, as arguments of :class:`Request`: masks, tissue, what pulls.

    Raises:
        UserError: the pair cannot be used.
        RegistrationFailure: memory does not suffice, or the run failed.
    """
    return _register(wanted, _read(wanted, fixed, moving, known).pair, sources, progress)


def read_pair_of(pair: Pair, wanted: RegistrationSettings, fixed: Image, moving: Image) -> Inputs:
    """The scans of a pair, which have been read, with all that the settings take of what is known of them.

    Raises:
        UserError: masks, labels or points cannot be used.
    """
    return _read(wanted, fixed, moving, wanted.known_of(pair))


def register_pair_of(
    pair: Pair, wanted: RegistrationSettings, read: base.Pair, progress: Progress | None = None
) -> Outcome:
    """Register a pair of a data set.

    Args:
        pair: its files.
        wanted: method and settings.
        read: the same read.
        progress: of the method.

    Raises:
        UserError: the scans cannot be a pair.
        RegistrationFailure: memory does not suffice, or the run failed.
    """
    sources: dict[str, Path | None] = {"fixed": pair.fixed.image, "moving": pair.moving.image}
    if wanted.masks:
        sources |= {"fixed mask": pair.fixed.mask, "moving mask": pair.moving.mask}
    return _register(wanted, read, sources, progress)


def _read(wanted: RegistrationSettings, fixed: Image, moving: Image, known: Mapping[str, Any]) -> Inputs:
    return Request(fixed, moving, use_points=wanted.use_points, use_labels=wanted.use_labels, **known).read()


def _register(
    wanted: RegistrationSettings,
    pair: base.Pair,
    sources: Mapping[str, Path | None] | None,
    progress: Progress | None,
) -> Outcome:
    plan = make_plan(
        pair.fixed, pair.moving, method=wanted.method, preset=wanted.preset, settings=wanted.settings, sources=sources
    )
    check_memory(plan.needed_with(pair))
    return run_plan(plan, pair, Run(wanted.device, wanted.seed, progress))
