"""A method with its settings for many pairs, and one pair registered by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.store import origin_of
from anamorph.data.dataset import Pair
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.image.image import Image, Mask
from anamorph.methods import DEFAULT_METHOD, base, find_method
from anamorph.methods.base import Outcome, Run
from anamorph.registration.plan import make_plan, peak_bytes_on, run_plan
from anamorph.registration.provenance import model_hashes
from anamorph.registration.request import mask_on
from anamorph.runtime.device import resolve_device
from anamorph.runtime.memory import check_memory
from anamorph.settings import make_config
from anamorph.types import Device, Progress

BYTES_PER_VOXEL = 4
"""Of a scan in memory; most take half as much."""


@dataclass(frozen=True)
class RegistrationSettings:
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
        method = find_method(self.method)
        auto = self.preset == "auto"
        config = make_config(method, "default" if auto else self.preset, self.settings)
        settings, presets = method(config).settings(), method.presets if auto else {}
        configs = config, *(make_config(method, preset, self.settings) for preset in presets)
        return origin_of(
            method=self.method,
            preset=self.preset,
            given=self.settings,
            settings=settings,
            presets=presets,
            device=resolve_device(self.device),
            seed=self.seed,
            models={name: told for one in configs for name, told in model_hashes(one).items()},
        )

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Predicted peak of a registration of scans on these grids, without the interpreter itself."""
        method = find_method(self.method)
        preset = "default" if self.preset == "auto" else self.preset
        config = make_config(method, preset, self.settings, patient_mm(fixed))
        return int(method(config).peak_memory_bytes(fixed, moving))

    def peak_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Predicted peak of a process that registers scans on these grids and writes the results."""
        scans = BYTES_PER_VOXEL * math.prod(fixed.shape), BYTES_PER_VOXEL * math.prod(moving.shape)
        return peak_bytes_on(self.peak_memory_bytes(fixed, moving), fixed, moving, scans)


def register_scans(
    wanted: RegistrationSettings,
    fixed: Image,
    moving: Image,
    *,
    fixed_mask: Mask | None = None,
    moving_mask: Mask | None = None,
    sources: Mapping[str, Path | None] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Register two scans that have been read.

    Args:
        wanted: method and settings.
        fixed: stays where it is.
        moving: is brought to it.
        fixed_mask: weights on the fixed grid.
        moving_mask: weights on the moving grid.
        sources: files whose headers are looked at too, by what they are ("moving mask").
        progress: of the method.

    Raises:
        UserError: the pair cannot be used.
        RegistrationFailure: memory does not suffice, or the run failed.
    """
    plan = make_plan(
        fixed, moving, method=wanted.method, preset=wanted.preset, settings=wanted.settings, sources=sources
    )
    check_memory(plan.needed_bytes)
    pair = base.Pair(fixed, moving, fixed_mask, moving_mask)
    return run_plan(plan, pair, Run(wanted.device, wanted.seed, progress))


def register_pair_of(
    pair: Pair, wanted: RegistrationSettings, fixed: Image, moving: Image, progress: Progress | None = None
) -> Outcome:
    """Register the scans of a pair, which have been read, with the pair's masks if the settings say so.

    Raises:
        UserError: the pair or its masks cannot be used.
        RegistrationFailure: memory does not suffice, or the run failed.
    """
    sources: dict[str, Path | None] = {"fixed": pair.fixed.image, "moving": pair.moving.image}
    if wanted.masks:
        sources |= {"fixed mask": pair.fixed.mask, "moving mask": pair.moving.mask}
    return register_scans(
        wanted,
        fixed,
        moving,
        fixed_mask=mask_on(fixed, pair.fixed.mask) if wanted.masks else None,
        moving_mask=mask_on(moving, pair.moving.mask) if wanted.masks else None,
        sources=sources,
        progress=progress,
    )
