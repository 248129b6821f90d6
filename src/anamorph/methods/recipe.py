"""The recipe of the methods that deform: a linear start, a field by the method's hook, refinement, both directions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.demands import Demands
from anamorph.methods.foreseen import deformation_seconds, start_seconds
from anamorph.methods.guide import NONE, Guide, label_bytes
from anamorph.methods.guided_start import PULLING_LABELS, SEEN_BY_GUIDE, guide_of, moved_start
from anamorph.methods.linear_start import (
    AS_ASKED_FOR,
    GIVEN,
    compared_at,
    judged_at,
    leads,
    linear_start,
    started_by_marks,
)
from anamorph.methods.no_partner import NOT_LOOKED_FOR, Unmatched
from anamorph.methods.refinement import RefinementConfig, first_velocity, refine
from anamorph.methods.start.search import Start
from anamorph.methods.start.settings import StartConfig
from anamorph.methods.started import Array, Started, both_on
from anamorph.methods.tissue import NOTHING_KNOWN
from anamorph.methods.uncertainty import uncertainty_mm
from anamorph.methods.working_frame import Scan
from anamorph.methods.worth import DOUBTFUL, KEPT_BY, NOT_DEFORMED, UNRELATED
from anamorph.runtime.device import to_numpy
from anamorph.transforms.fields import exponential
from anamorph.transforms.maps import Composite, Displacement, Transform

GUIDED = 0.08
"""Fraction of a run that is done when the labels of a guide are looked for."""
WITHOUT_IMAGES = "deformed by what was given to pull alone: the images would follow no more than noise"
FINISHED = 0.98
"""Fraction of a run that is done when the field is refined."""


class Recipe(Method):
    """Start, field, refinement and both directions; a method adds the hook :meth:`find_field` and its memory."""

    config: RefinementConfig
    same_patient: ClassVar[dict[str, Any]] = {"init": "rigid", "diffusion": 1.0, "guide": NONE}
    refined_from: ClassVar[float] = 0.6
    """Fraction of a run that is done when the refinement begins."""

    @abstractmethod
    def find_field(self, started: Started, run: Run) -> tuple[Array, Grid]:
        """The field ``(3, ...)`` from the fixed to the moving scan after the start, in voxels of a grid, and the grid.

        Announces its own stages, between the fractions 0.1 and ``refined_from`` of the run.
        """

    @abstractmethod
    def led_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Peak memory beside the prepared scans, where the fixed scan is the one in whose frame the field is."""

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.timed("initialise"):
            scans = prepared(pair)
        if leads(*scans):
            return self._register(pair, scans, run)
        return self._register(pair.exchanged(), scans[::-1], run).exchanged(pair.fixed.grid)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return prepared_bytes(fixed, moving) + max(self.led_bytes(fixed, moving), self.led_bytes(moving, fixed))

    def one_core_seconds(self, fixed: Grid, moving: Grid) -> float | None:
        # Which of the two leads is known of their voxels alone.
        led = [deformation_seconds(self.config, *pair) for pair in ((fixed, moving), (moving, fixed))]
        return start_seconds(self.config) + sum(led) / 2

    def known_bytes(self, fixed: Grid, moving: Grid, labels: int = 0, slides: bool = False) -> int:
        pyramid = self.config.pyramid(fixed)
        pull = label_bytes(labels, fixed, moving, pyramid.working, pyramid.base) if labels else 0
        # The depth below the surface in both scans, and both directions at every voxel.
        return pull + (16 * int(np.prod(fixed.shape) + np.prod(moving.shape)) if slides else 0)

    def _register(self, pair: Pair, scans: tuple[Scan, Scan], run: Run) -> Outcome:
        """Register the second scan to the first, in whose frame the field is."""
        with run.stage("initialise", 0.0):
            started = self._start(pair, scans, run)
        with run.stage("guide", GUIDED):
            self._guide(started, pair, run)
        self._use(started, pair, run)
        run.start = started.start
        if started.explains_too_little:
            if not started.is_pulled:
                run.warnings.append(NOT_DEFORMED)
            return run.outcome(*self._without_images(started, run))
        return run.outcome(*self.deformed(started, run))

    def _start(self, pair: Pair, scans: tuple[Scan, Scan], run: Run) -> Started:
        """The given start, or the one that a search finds; only the latter is doubted."""
        if pair.start is not None:
            compared, explained = judged_at(*scans, pair.start, self.config.start_weight)
            run.provenance["start"] = [AS_ASKED_FOR.format(title=GIVEN, explained=explained)]
            config = self.config.counting(compared.counts)
            return Started(config, *scans, pair.start, compared, run.device, explained, True, tissues=pair.tissues)
        found = started_by_marks(self.config, pair, scans, search_start(self.config, scans, run), run)
        config = self.config.counting(found.comparison.counts)
        return Started(
            config,
            *scans,
            found.transform,
            found.comparison,
            run.device,
            found.explained,
            found.is_given,
            found.is_guess,
            tissues=pair.tissues,
        )

    def _guide(self, started: Started, pair: Pair, run: Run) -> None:
        """Let a guide correct a start that was searched for, which is then not doubted."""
        run.provenance["intensities"] = started.kind
        guide = guide_of(self.config, pair, started.start, started.explained, run)
        if guide is None:
            return
        started.guide, started.explained = guide, None
        self._move(started, guide, pair, run, SEEN_BY_GUIDE)

    def _use(self, started: Started, pair: Pair, run: Run, may_move: bool = True) -> None:
        """Let landmarks, outlines and labels that a user gave pull, the latter on the start too if it may move."""
        run.pulled = True
        if pair.labels is not None:
            given = pair.labels
            labels = Guide.of_labels(given.fixed, given.moving, given.values, started.pyramid.working.finest_mm)
            # What a user knows goes before what a network sees.
            started.labels = labels, given.weight * max(self.config.guide_weight if started.guide else 1.0, 1.0)
            if may_move:
                self._move(started, labels, pair, run, PULLING_LABELS)
        if pair.marks is not None:
            with run.timed("marks"):
                run.warnings += started.mark(pair.marks)

    def _move(self, started: Started, labels: Guide, pair: Pair, run: Run, told: str) -> None:
        moved = moved_start(self.config, labels, pair, started.start, run, told)
        if moved is not started.start:
            started.start, started.is_guess = moved, False
            started.comparison = compared_at(started.fixed, started.moving, moved)
            started.config = self.config.counting(started.comparison.counts)
            run.provenance["intensities"] = started.kind

    def deformed(self, started: Started, run: Run) -> tuple[Transform, Transform]:
        """Both directions of the refined field after the start, or of the start alone where the field follows noise."""
        field, grid = started.corrected(*self.find_field(started, run))
        found: Unmatched | None = None
        if self.config.find_no_partner and not started.tells_partners:
            run.warnings.append(NOT_LOOKED_FOR)
        elif self.config.find_no_partner:
            with run.timed("no partner"):
                started, found = started.partnered(*first_velocity(self.config, started.pyramid, field, grid))
        with run.stage("refine", self.refined_from):
            described, pyramid = started.described, started.pyramid
            tell = run.within("refine", self.refined_from, FINISHED)
            config = self.config if started.guide is None else self.config.guided()
            velocity, grid = first_velocity(config, pyramid, field, grid)
            demands = Demands.of(started.tissues, started.start, pyramid.base, started.marks)
            if started.tissues != (NOTHING_KNOWN, NOTHING_KNOWN):
                there, back = (Displacement(to_numpy(exponential(sign * velocity)), grid) for sign in (1, -1))
                start = started.start
                run.free = Composite.of(there, start), Composite.of(start.inverse(), back)
            deformation, trace = refine(described, pyramid, config, velocity, grid, tell, demands)
            run.trace |= trace
        if started.guide is not None:
            run.provenance["guide"] = started.guide.model
            run.seen = started.guide.label_maps()
        if started.features is not None:
            run.provenance["features"] = started.features.model.identity
        with run.stage("finish", FINISHED):
            noise = started.noise_in(deformation)
            if noise is not None:
                run.provenance["start"].append(noise)
                if started.is_given and not started.is_pulled:
                    run.warnings.append(noise + KEPT_BY)
                run.free = None
                return self._without_images(started, run)
            if started.is_given and started.is_doubtful:
                run.warnings.append(DOUBTFUL.format(explained=started.explained))
            if found is not None:
                run.no_partner = started.maps_of(found.spread(*both_on(deformation, pyramid.base)))
            with run.timed("uncertainty"):
                # A network that sees labels upon each other is no witness of how well they were seen.
                run.uncertainty_mm = uncertainty_mm(described.first(started.own_lanes), pyramid, deformation)
            return started.both_directions(deformation, demands)

    def _without_images(self, started: Started, run: Run) -> tuple[Transform, Transform]:
        """Both directions of a start that the images make no better, deformed by what else pulls where there is any.

        Where the start is a guess too, the scans may show different things.
        """
        if not started.is_pulled:
            if started.is_guess:
                run.warnings.append(UNRELATED)
            return started.start, started.start.inverse()
        run.provenance["start"].append(WITHOUT_IMAGES)
        pyramid = started.pyramid
        vars(started).pop("described", None)
        started.sees_images = False
        known = started.corrected(*started.first(), by_outlines=True)
        velocity, grid = first_velocity(self.config, pyramid, *known)
        demands = Demands.of(started.tissues, started.start, pyramid.base, started.marks)
        tell = run.within("refine", self.refined_from, FINISHED)
        deformation, _ = refine(started.described, pyramid, self.config, velocity, grid, tell, demands)
        return started.both_directions(deformation, demands)


def prepared(pair: Pair) -> tuple[Scan, Scan]:
    """Both scans without padding, their intensities scaled, their masks as weights."""
    return Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)


def prepared_bytes(fixed: Grid, moving: Grid) -> int:
    """Memory of two prepared scans of one channel, with their weights, and of one of them in another contrast."""
    sizes = int(np.prod(fixed.shape)), int(np.prod(moving.shape))
    return 8 * sum(sizes) + 4 * max(sizes)


def search_start(config: StartConfig, scans: tuple[Scan, Scan], run: Run) -> Start:
    """Look for the linear start, and note how it was found."""
    found = linear_start(*scans, config.init, config.start_weight)
    run.provenance["start"] = found.steps
    run.warnings += found.warnings
    return found
