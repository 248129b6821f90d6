"""A pair after its start, as the methods that deform see it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.methods.demands import Demands
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.guide import Guide
from anamorph.methods.learned_features import LearnedFeatures
from anamorph.methods.no_partner import Unmatched, find_unmatched
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import RefinementConfig, both_directions, first_level, refine
from anamorph.methods.start.contrast import Comparison
from anamorph.methods.tissue import NOTHING_KNOWN, Tissue
from anamorph.methods.working_frame import Scan, Side
from anamorph.methods.worth import LEAST_EXPLAINED, may_be_noise, noise_followed, nothing_left
from anamorph.runtime.device import to_device, to_numpy
from anamorph.transforms.inversion import invert
from anamorph.transforms.maps import Affine, Displacement, Transform
from anamorph.transforms.marks import Marks

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""


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
        explained: by the start, beyond chance; None for one after which a deformation is not doubted.
        is_given: somebody asked for the start, which is not doubted itself.
        is_guess: the start was searched for, and explains no more than a wrong place may.
        guide: what a segmentation network sees in both scans.
        seen: channels of both scans by a registration network, compared too, and the map by which the latter are read.
        tissues: what is known of the tissue of both scans, the fixed one first.
        marks: landmarks and outlines that pull, those of the moving scan brought to the fixed one by the start.
        labels: labels that pull, and the weight of their differences.
        sees_images: whether the scans have a say beside what was given to pull.
        image_lanes: how many lanes of the descriptors come from them; the others from labels that pull.
        own_lanes: how many come from the images by themselves, without what a guide sees in them.
        known: a field ``(3, I, J, K)`` after the start, in voxels of a grid, around which to look.
    """

    config: RefinementConfig
    fixed: Scan
    moving: Scan
    start: Transform
    comparison: Comparison
    device: Literal["cpu", "cuda"]
    explained: float | None = None
    is_given: bool = False
    is_guess: bool = False
    guide: Guide | None = None
    seen: tuple[Scan, Scan, Transform] | None = None
    tissues: tuple[Tissue, Tissue] = (NOTHING_KNOWN, NOTHING_KNOWN)
    marks: Marks | None = None
    labels: tuple[Guide, float] | None = None
    sees_images: bool = True
    image_lanes: int = 0
    own_lanes: int = 0
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
        self.own_lanes = pair.filled
        pair = pair.guided(self.guide, self.config.guide_weight, self.pyramid, self.start)
        if not self.sees_images:
            pair = pair.first(0)
        self.image_lanes = pair.filled
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
        if self.explained is None or self.is_given or self.config.keep_doubtful:
            return False
        return self.explained < LEAST_EXPLAINED

    @property
    def is_pulled(self) -> bool:
        """Whether landmarks, outlines or labels that were given pull."""
        return self.marks is not None or self.labels is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether a deformation may follow chance, as intensities do not compare and the start explains little."""
        return self.explained is not None and may_be_noise(self.explained, self.kind)

    def noise_in(self, deformation: Displacement) -> str | None:
        """A line for a deformation that follows noise alone, None for one that is worth having."""
        if self.explained is None or self.config.keep_doubtful:
            return None
        pyramid = self.pyramid
        images = self.described if self.labels is None else self.described.first(self.image_lanes)
        noise = noise_followed(images, pyramid.base, deformation, self.explained, self.kind)
        if noise is not None or (self.is_given and not self.is_doubtful):
            return noise
        of_one = self.comparison.counts == 1
        return nothing_left(self.fixed, self.moving, self.start, deformation, pyramid.working, of_one)


def both_on(deformation: Displacement, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A deformation and its inverse on a grid of its frame, ``(3, I, J, K)`` in voxels."""
    return deformation.displacement_on(grid).disp_vox, invert(deformation, grid).transform.disp_vox
