"""``linear``: the linear start alone, for those who want a rigid or affine registration."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.linear_start import linear_start
from anamorph.methods.presets import SHARED
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

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.stage("initialise", 0.0):
            here, there = Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)
            seen = _seen(there, pair.start, pair.fixed.grid)
            start, kind = linear_start(here, seen, self.config.init, self.config.intensity_weight)
            found = start.transform if pair.start is None else Composite.of(start.transform, pair.start)
        run.trace["initialise"] = start.costs
        run.warnings += start.warnings
        run.provenance |= {"start": start.steps, "intensities": kind}
        return run.outcome(found, found.inverse())

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
