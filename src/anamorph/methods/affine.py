"""``affine``: the linear start alone, which may turn, scale and shear; deforms nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.foreseen import NETWORK_S, start_seconds
from anamorph.methods.guide import NONE, Guide, guide_bytes, label_bytes
from anamorph.methods.guided_start import PULLING_LABELS, SEEN_BY_GUIDE, guide_of, moved_start
from anamorph.methods.linear_start import compared_at, linear_start_bytes, started_by_marks
from anamorph.methods.presets import STARTS
from anamorph.methods.pyramid import DESCRIPTOR_VOXELS, working_grid
from anamorph.methods.recipe import prepared, prepared_bytes, search_start
from anamorph.methods.start.remarks import little_warning
from anamorph.methods.start.search import Start
from anamorph.methods.start.settings import AS_NAMED, StartConfig
from anamorph.methods.working_frame import Scan
from anamorph.transforms.maps import Affine as AffineMap
from anamorph.transforms.maps import Composite, Transform

SEARCHED = 0.8
"""Fraction of a run that is done when the start is found by the images."""
NOT_REFINED = (
    "what was given to pull corrects a start that it finds clearly wrong, and nothing else: no field is refined"
)


class Affine(Method):
    """The affine map that every method that deforms starts from; a given start is where the search goes on."""

    name = "affine"
    summary = "the linear start alone, an affine map; deforms nothing"
    Config = StartConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        kind: {key: value for key, value in values.items() if key != "init"} for kind, values in STARTS.items()
    }
    same_patient: ClassVar[dict[str, Any]] = {"guide": NONE}
    fields_at_voxels = False
    config: StartConfig

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.stage("initialise", 0.0):
            here, there = scans = prepared(pair)
            start = search_start(self.config, (here, _seen(there, pair.start, pair.fixed.grid)), run)
        run.provenance["intensities"] = start.comparison.kind
        found: Transform = start.transform
        if pair.start is not None:
            found = Composite.of(start.transform, pair.start)
        elif self.config.init not in AS_NAMED:
            found = self._corrected(started_by_marks(self.config, pair, scans, start, run), pair, scans, run)
        elif start.explained is not None:
            # Before a deformation it may be corrected; alone it is what was asked for.
            little = little_warning(start.explained, start.comparison.kind)
            run.warnings += [] if little is None else [little]
        run.start = found
        return run.outcome(found, found.inverse())

    def _corrected(self, start: Start, pair: Pair, scans: tuple[Scan, Scan], run: Run) -> Transform:
        """The start that was looked for, corrected by a guide and by labels that pull."""
        found: Transform = start.transform
        with run.stage("guide", SEARCHED):
            guide = guide_of(self.config, pair, found, start.explained, run)
        if guide is not None:
            run.provenance["guide"], run.seen = guide.model, guide.label_maps()
            found = moved_start(self.config, guide, pair, found, run, SEEN_BY_GUIDE)
        if pair.labels is not None:
            given, spacing_mm = pair.labels, _shares_grid(pair.fixed.grid).finest_mm
            labels = Guide.of_labels(given.fixed, given.moving, given.values, spacing_mm)
            found = moved_start(self.config, labels, pair, found, run, PULLING_LABELS)
        if pair.labels or pair.marks:
            run.pulled = True
            run.provenance["start"].append(NOT_REFINED)
        if found is not start.transform:
            run.provenance["intensities"] = compared_at(*scans, found).kind
        return found

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        start = linear_start_bytes(fixed, moving, self.config.init)
        return prepared_bytes(fixed, moving) + max(start, self._guide_bytes(fixed, moving))

    def one_core_seconds(self, fixed: Grid, moving: Grid) -> float:
        return start_seconds(self.config) + NETWORK_S * self._guide_bytes(fixed, moving)

    def known_bytes(self, fixed: Grid, moving: Grid, labels: int = 0, slides: bool = False) -> int:
        return label_bytes(labels, fixed, moving, _shares_grid(fixed)) if labels else 0

    def _guide_bytes(self, fixed: Grid, moving: Grid) -> int:
        return 0 if self.config.init in AS_NAMED else guide_bytes(self.config.guide, fixed, moving)


def _shares_grid(fixed: Grid) -> Grid:
    """Fine enough for the middles and the sizes of labels, and no larger than what methods compare at their finest."""
    return working_grid(fixed, 0.0, DESCRIPTOR_VOXELS)


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
    same_patient: ClassVar[dict[str, Any]] = {"init": "rigid"} | Affine.same_patient
