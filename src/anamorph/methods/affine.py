"""``affine``: the linear start alone, which may turn, scale and shear; deforms nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.linear_start import linear_start_bytes
from anamorph.methods.presets import STARTS
from anamorph.methods.recipe import prepared, prepared_bytes, search_start
from anamorph.methods.start.remarks import little_warning
from anamorph.methods.start.settings import StartConfig
from anamorph.methods.working_frame import Scan
from anamorph.transforms.maps import Affine as AffineMap
from anamorph.transforms.maps import Composite, Transform


class Affine(Method):
    """The affine map that every method that deforms starts from; a given start is where the search goes on."""

    name = "affine"
    summary = "the linear start alone, an affine map; deforms nothing"
    Config = StartConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        kind: {key: value for key, value in values.items() if key != "init"} for kind, values in STARTS.items()
    }
    fields_at_voxels = False
    config: StartConfig

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.stage("initialise", 0.0):
            here, there = prepared(pair)
            start = search_start(self.config, (here, _seen(there, pair.start, pair.fixed.grid)), run)
            found = start.transform if pair.start is None else Composite.of(start.transform, pair.start)
        if start.is_given and pair.start is None and start.explained is not None:
            little = little_warning(start.explained, start.comparison.kind)
            run.warnings += [] if little is None else [little]
        run.start = found
        run.provenance["intensities"] = start.comparison.kind
        return run.outcome(found, found.inverse())

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return prepared_bytes(fixed, moving) + linear_start_bytes(fixed, moving, self.config.init)


def _seen(moving: Scan, init: Transform | None, fixed: Grid) -> Scan:
    """The moving scan where a given start puts it in the world of the fixed one, from where the search goes on."""
    if init is None:
        return moving
    if isinstance(init, AffineMap):
        matrix = init.inverse().matrix @ moving.grid.affine
        return dataclasses.replace(moving, grid=Grid(moving.grid.shape, matrix))
    return moving.onto(fixed, init)


class Linear(Affine):
    """The linear map that every other method starts from."""

    name = "linear"
    summary = "the linear start alone: a shift, a rigid or an affine map; deforms nothing"
    presets: ClassVar[dict[str, dict[str, Any]]] = STARTS
    same_patient: ClassVar[dict[str, Any]] = {"init": "rigid"}
