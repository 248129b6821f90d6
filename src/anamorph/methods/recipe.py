"""The recipe of the methods that deform: a linear start, a field by the method's hook, refinement, both directions."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.demands import Demands
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.guide import LEFT_OUT, NONE, Guide, label_bytes
from anamorph.methods.learned_features import LearnedFeatures
from anamorph.methods.linear_start import compared_at, leads, linear_model, linear_start
from anamorph.methods.no_partner import NOT_LOOKED_FOR, Unmatched, find_unmatched
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import RefinementConfig, both_directions, first_level, first_velocity, refine
from anamorph.methods.start.contrast import Comparison
from anamorph.methods.start.search import ALIKE, Start
from anamorph.methods.start.settings import StartConfig
from anamorph.methods.tissue import NOTHING_KNOWN, Tissue
from anamorph.methods.uncertainty import uncertainty_mm
from anamorph.methods.working_frame import Scan, Side, within
from anamorph.methods.worth import LEAST_EXPLAINED, NOT_DEFORMED, UNRELATED, noise_followed, nothing_left
from anamorph.runtime.device import to_device, to_numpy
from anamorph.transforms.fields import exponential
from anamorph.transforms.inversion import invert
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from anamorph.transforms.marks import Marks

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""
GUIDED = 0.08
"""Fraction of a run that is done when the labels of a guide are looked for."""
WITHOUT_IMAGES = "deformed by what was given to pull alone: the images would follow no more than noise"
FINISHED = 0.98
"""Fraction of a run that is done when the field is refined."""


@dataclass(eq=False)
class Started:
    """A pair after its start, from which a method finds its field.

    Args:
        config: how the scans are compared.
        fixed: prepared scan, in whose frame the field is.
        moving: prepared scan.
        start: of fixed to moving points.
        comparison: of intensities after the start; structure is that of both scans as they are.
        device: where descriptors go.
        explained: by the start, beyond chance; None for a start that is not doubted.
        is_guess: the start was searched for, and explains no more than a wrong place may.
        guide: what a segmentation network sees in both scans.
        seen: channels of both scans by a registration network, compared too, and the map by which the latter are read.
        tissues: what is known of the tissue of both scans, the fixed one first.
        marks: landmarks and outlines that pull, those of the moving scan brought to the fixed one by the start.
        labels: labels that pull, and the weight of their differences.
        sees_images: whether the scans have a say beside what was given to pull.
        image_lanes: how many lanes of the descriptors come from them; the others from labels that pull.
        known: a field ``(3, I, J, K)`` after the start, in voxels of a grid, around which to look.
    """

    config: RefinementConfig
    fixed: Scan
    moving: Scan
    start: Transform
    comparison: Comparison
    device: Literal["cpu", "cuda"]
    explained: float | None = None
    is_guess: bool = False
    guide: Guide | None = None
    seen: tuple[Scan, Scan, Transform] | None = None
    tissues: tuple[Tissue, Tissue] = (NOTHING_KNOWN, NOTHING_KNOWN)
    marks: Marks | None = None
    labels: tuple[Guide, float] | None = None
    sees_images: bool = True
    image_lanes: int = 0
    known: tuple[Array, Grid] | None = None

    @cached_property
    def features(self) -> LearnedFeatures | None:
        """The network whose features are compared too."""
        return LearnedFeatures.of(self.config.feature_model, self.device)

    @cached_property
    def pyramid(self) -> Pyramid:
        """The grids on which the scans are compared."""
        return self.config.pyramid(self.fixed.grid)

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """Both scans read on the working grid, the moving one under the start."""
        working = self.pyramid.working
        scans = self.fixed.onto(working), self.moving.onto(working, self.start)
        translated = self.comparison.translated(*scans)
        here, there = (
            Side.of(scan, self.kind == "ct", self.config.air_weight, other)
            for scan, other in zip(scans, translated, strict=True)
        )
        return here, there

    @cached_property
    def described(self) -> DescribedPair:
        """Both scans described at the base of the pyramid; the scans on the working grid are let go."""
        sides = self.sides
        del self.sides
        pair = DescribedPair.of(*sides, self.config.descriptor(), self.kind, self.pyramid, self.device)
        if self.features is not None:
            base = self.pyramid.base
            seen = self.features.lanes(self.fixed, base), self.features.lanes(self.moving, base, self.start)
            pair = pair.beside(*seen, self.config.feature_weight)
        if self.seen is not None:
            fixed, moving, start = self.seen
            on_base = fixed.onto(self.pyramid.base), moving.onto(self.pyramid.base, start)
            here, there = (np.moveaxis(scan.channels, 0, -1) for scan in on_base)
            pair = pair.beside(here, there, weight=1.0)
        pair = pair.guided(self.guide, self.config.guide_weight, self.pyramid, self.start)
        if not self.sees_images:
            pair = pair.first(0)
        self.image_lanes = pair.fixed.shape[-1] if pair.used is None else pair.used
        return pair if self.labels is None else pair.guided(*self.labels, self.pyramid, self.start)

    def mark(self, marks: Marks) -> list[str]:
        """Take marks, and begin where they lead; a line for each landmark that the others contradict."""
        self.marks, told = marks.brought(self.start.inverse().map_world).believed(self.pyramid.base)
        self.known = self.corrected(*self.first())
        return told

    def first(self) -> tuple[Array, Grid]:
        """What is known of the field before anything is searched, on a coarse grid: nothing in most cases."""
        coarse = self.pyramid.level(self.config.refine_scales[0]).grid
        return self.known or (to_device(np.zeros((3, *coarse.shape), np.float32), self.device), coarse)

    def corrected(self, disp_vox: Array, grid: Grid, by_outlines: bool = False) -> tuple[Array, Grid]:
        """A field as the marks ask for it, and its grid."""
        if self.marks is None:
            return disp_vox, grid
        changed = self.marks.corrected(Displacement(to_numpy(disp_vox), grid), by_outlines)
        return to_device(changed.disp_vox, self.device), grid

    @property
    def kind(self) -> IntensityKind:
        """How intensities compare after the start."""
        return self.comparison.kind

    @property
    def tells_partners(self) -> bool:
        """Whether intensities compare, and so tell what has no partner; structure alone does not."""
        return self.kind != "none" and self.config.intensity_weight > 0

    def partnered(self, velocity: Array, grid: Grid) -> tuple[Self, Unmatched | None]:
        """The pair without what has no partner after a coarse refinement of a velocity ``(3, ...)``, and that."""
        config, base = first_level(self.config), self.pyramid.base
        demands = Demands.of(self.tissues, self.start, base, self.marks)
        coarse, _ = refine(self.described, self.pyramid, config, velocity, grid, lambda _: None, demands)
        fields = both_on(coarse, base)
        given = len(self.fixed.channels), float(np.sqrt(config.intensity_weight))
        found = find_unmatched(self.described, base, *fields, *given)
        return self if found is None else self.without(*self.maps_of(found.spread(*fields).widened())), found

    def maps_of(self, found: Unmatched) -> tuple[Image, Image]:
        """What has no partner in the fixed and in the moving scan, each in the frame of its own."""
        base, moving = self.pyramid.base, self.moving.grid
        there = moving.resampled(np.maximum(moving.spacing_mm, base.finest_mm))
        fixed, under_start = (Image(share, base, "no partner") for share in (found.fixed, found.moving))
        return fixed, self.start.inverse().warp_image(under_start, there, background=0)

    def without(self, fixed: Image, moving: Image) -> Self:
        """The same pair, in which what two maps show does not count; they are described anew."""
        scans = [
            scan.without(Affine.identity().warp_image(alone, scan.grid, background=0).data[0] > 0)
            for scan, alone in ((self.fixed, fixed), (self.moving, moving))
        ]
        return dataclasses.replace(self, fixed=scans[0], moving=scans[1])

    def both_directions(self, deformation: Displacement, demands: Demands | None) -> tuple[Transform, Transform]:
        """The whole map and its inverse."""
        slides = demands is not None and demands.slides
        finest = self.pyramid.working if slides else self.pyramid.base
        return both_directions(deformation, self.start, finest, self.moving.grid, slides)

    @property
    def explains_too_little(self) -> bool:
        """Whether chance would lead a deformation astray."""
        return self.explained is not None and self.explained < LEAST_EXPLAINED

    def noise_in(self, deformation: Displacement) -> str | None:
        """A line for a deformation that follows noise alone, None for one that is worth having."""
        if self.explained is None:
            return None
        pyramid = self.pyramid
        images = self.described if self.labels is None else self.described.first(self.image_lanes)
        noise = noise_followed(images, pyramid.base, deformation, self.explained, self.kind)
        return noise or nothing_left(self.fixed, self.moving, self.start, deformation, pyramid.working)


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
        if started.explains_too_little:
            if started.marks is None and started.labels is None:
                run.warnings.append(NOT_DEFORMED)
            return run.outcome(*self._without_images(started, run))
        return run.outcome(*self.deformed(started, run))

    def _start(self, pair: Pair, scans: tuple[Scan, Scan], run: Run) -> Started:
        """The given start, or the one that a search finds; only the latter is doubted."""
        if pair.start is not None:
            compared = compared_at(*scans, pair.start)
            config = self.config.counting(compared.counts)
            return Started(config, *scans, pair.start, compared, run.device, tissues=pair.tissues)
        found = search_start(self.config, scans, run)
        by_marks = pair.marks and pair.marks.start(found.transform, scans[0].grid, linear_model(self.config.init))
        if by_marks:
            run.provenance["start"].insert(0, "the landmarks, which a start by the images leaves far apart")
            found = Start(by_marks, comparison=compared_at(*scans, by_marks))
        judged = found.explained, found.is_guess
        config = self.config.counting(found.comparison.counts)
        return Started(config, *scans, found.transform, found.comparison, run.device, *judged, tissues=pair.tissues)

    def _guide(self, started: Started, pair: Pair, run: Run) -> None:
        """Let a guide correct a start that was searched for, which is then not doubted.

        Scans that are alike, as of one patient, tell more of each other than a network knows: they need no guide.
        """
        run.provenance["intensities"] = started.kind
        if self.config.guide == NONE or (started.explained is not None and started.explained > ALIKE):
            return
        shown = within(pair.fixed, pair.fixed_mask), within(pair.moving, pair.moving_mask)
        guide = Guide.of(self.config.guide, *shown, run.device, started.start)
        if guide is None:
            if not self.config.guide.endswith(NONE):
                run.warnings.append(LEFT_OUT)
            return
        started.guide, started.explained = guide, None
        run.warnings += guide.doubts
        self._move(started, guide, pair, run, "middles or sizes of the labels that the guide sees")

    def _use(self, started: Started, pair: Pair, run: Run, may_move: bool = True) -> None:
        """Let landmarks, outlines and labels that a user gave pull, the latter on the start too if it may move."""
        run.pulled = True
        if pair.labels is not None:
            given = pair.labels
            labels = Guide.of_labels(given.fixed, given.moving, given.values, started.pyramid.working.finest_mm)
            # What a user knows goes before what a network sees.
            started.labels = labels, given.weight * max(self.config.guide_weight if started.guide else 1.0, 1.0)
            if may_move:
                self._move(started, labels, pair, run, "middles or sizes of the labels that pull")
        if pair.marks is not None:
            with run.timed("marks"):
                run.warnings += started.mark(pair.marks)

    def _move(self, started: Started, labels: Guide, pair: Pair, run: Run, told: str) -> None:
        """Correct a start that was searched for by labels, where that brings them clearly better upon each other."""
        if pair.start is not None or not isinstance(started.start, Affine):
            return
        moved = labels.moved(started.start, may_scale=linear_model(self.config.init) == "affine")
        if moved is not started.start:
            run.provenance["start"].insert(0, told)
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
        if started.features is not None:
            run.provenance["features"] = started.features.model.identity
        with run.stage("finish", FINISHED):
            noise = started.noise_in(deformation)
            if noise is not None:
                run.provenance["start"].append(noise)
                run.free = None
                return self._without_images(started, run)
            if found is not None:
                run.no_partner = started.maps_of(found.spread(*both_on(deformation, pyramid.base)))
            with run.timed("uncertainty"):
                run.uncertainty_mm = uncertainty_mm(described, pyramid, deformation)
            return started.both_directions(deformation, demands)

    def _without_images(self, started: Started, run: Run) -> tuple[Transform, Transform]:
        """Both directions of a start that the images make no better, deformed by what else pulls where there is any.

        Where the start is a guess too, the scans may show different things.
        """
        if started.marks is None and started.labels is None:
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


def both_on(deformation: Displacement, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A deformation and its inverse on a grid of its frame, ``(3, I, J, K)`` in voxels."""
    return deformation.displacement_on(grid).disp_vox, invert(deformation, grid).transform.disp_vox


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
