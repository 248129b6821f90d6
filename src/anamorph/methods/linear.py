"""``linear``: the linear start alone, for those who want a rigid or affine registration."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.linear_start import linear_start
from anamorph.methods.presets import SHARED
from anamorph.methods.stages import Stages
from anamorph.methods.start_config import StartConfig
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Affine, Composite, Transform

_OWN = {field.name for field in dataclasses.fields(StartConfig)}


class Linear(Method):
    """The linear map that every other method starts from."""

    name = "linear"
    summary = "the linear start alone: a shift, a rigid or an affine map; deforms nothing"
    Config = StartConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        kind: {key: value for key, value in values.items() if key in _OWN} for kind, values in SHARED.items()
    }
    config: StartConfig

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Mask | None = None,
        moving_mask: Mask | None = None,
        init: Transform | None = None,
        device: Device = "auto",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Result:
        stages = Stages(progress)
        with stages.stage("initialise", 0.0):
            here, there = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
            seen = _seen(there, init, fixed.grid)
            start, kind = linear_start(here, seen, self.config.init, self.config.intensity_weight)
            found = start.transform if init is None else Composite.of(start.transform, init)
        return Result(
            found,
            found.inverse(),
            stages.seconds,
            {"initialise": start.costs},
            start.warnings,
            {"start": start.steps, "intensities": kind},
        )

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        # Channels and weights.
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + self.config.start_bytes(fixed, moving)


def _seen(moving: Scan, init: Transform | None, fixed: Grid) -> Scan:
    """The moving scan where a given start puts it in the world of the fixed one, from where the search goes on."""
    if init is None:
        return moving
    if isinstance(init, Affine):
        matrix = init.inverse().matrix @ moving.grid.affine
        return dataclasses.replace(moving, grid=Grid(moving.grid.shape, matrix))
    return moving.onto(fixed, init)
