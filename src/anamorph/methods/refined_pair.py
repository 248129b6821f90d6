"""The end of a registration by a trained network: its fields as they are, or refined on this pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.features.intensity import comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Run, setting
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.guide import Guide, guide_bytes
from anamorph.methods.linear_part import split_linear
from anamorph.methods.linear_start import comparable_after
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.search import AUTOMATIC_REACH, SearchConfig, search
from anamorph.methods.working_frame import Scan, Side
from anamorph.runtime.device import to_device
from anamorph.transforms import Composite, Displacement, Transform

REFINED_FROM = 0.6
"""Fraction of a run that is done when the refinement begins."""
NetworkStart = Literal["frame", "auto", "world", "centres", "translation", "rigid", "affine", "any-pose"]


@dataclass(frozen=True)
class NetworkConfig(SearchConfig):
    """Settings of the methods that ask a trained network."""

    model: str = setting("", "a model folder, a run of `anamorph train`, or a model by name")
    init: NetworkStart = setting(  # type: ignore[assignment]
        "frame",
        "linear start: frame lays the frames of the network upon each other, as in training; world trusts the files",
        renamed={"none": "world", "centre": "frame"},
    )
    guide: str = setting("auto", "a model of `segment` that guides the refinement, auto for the network's own, or none")
    search: bool = setting(True, "look around the field of the network as convex does, before refining it")
    search_scales: tuple[int, ...] = setting((1,), "levels of that search, in descriptor spacings")
    search_cells: tuple[int, ...] = setting((2,), "cell size per level", "descriptor voxels of the level")
    search_radius_mm: tuple[float, ...] = setting((0.0,), "reach per level; 0: 2 voxels of the finest level", "mm")
    refine: bool = setting(True, "optimise the field of the network on this pair; its result does not fold")

    def refinement_memory(self, fixed: Grid, moving: Grid) -> int:
        """Peak memory of the linear start, or of search and refinement, in bytes; 0 without."""
        start = self.start_bytes(fixed, moving)
        if not self.refine:
            return start
        pyramid = self.pyramid(fixed)
        held = self.held_bytes(pyramid, fixed, moving)
        return max(start, held + (self.costs_bytes(pyramid, held) if self.search else 0))

    def held_bytes(self, pyramid: Pyramid, fixed: Grid, moving: Grid) -> int:
        """Memory of descriptors and fields, and of a guide."""
        return pyramid.held_bytes + guide_bytes(self.guide, fixed, moving, pyramid.base, beside=self.model)


def refined_pair(
    config: NetworkConfig,
    fixed: Scan,
    moving: Scan,
    images: tuple[Image, Image],
    start: Transform,
    forward: np.ndarray,
    backward: np.ndarray,
    grid: Grid,
    run: Run,
    until: float,
) -> tuple[Transform, Transform]:
    """Finish a registration.

    The refinement starts from the linear part of both fields, where it reaches beyond a search at the finest level, and
    from what the forward one leaves: a network that is right in each direction need not be consistent, and the average
    of two fields that disagree fits neither scan.

    Args:
        config: whether to refine, and how.
        fixed: prepared fixed scan.
        moving: prepared moving scan.
        images: both as the networks see them, for the guide.
        start: from fixed to moving points, before the network.
        forward: ``(3, I, J, K)`` from fixed to moving, voxels of ``grid``.
        backward: the other direction.
        grid: where both sit, in the world of the fixed scan.
        run: where to compute, and where the objective per iteration and how scans were compared are noted.
        until: fraction of the run that is done after the refinement, which begins at :data:`REFINED_FROM`.
    """
    if not config.refine:
        there, back = Displacement(forward, grid), Displacement(backward, grid)
        return Composite.of(there, start), Composite.of(start.inverse(), back)
    pyramid = config.pyramid(fixed.grid)
    kind = comparable_intensities(fixed.image, moving.image)
    seen = fixed.onto(grid), moving.onto(grid, start)
    forward, linear = split_linear(forward, backward, *seen, kind == "ct", AUTOMATIC_REACH[0] * pyramid.base.finest_mm)
    start = Composite.of(linear, start)
    kind = comparable_after(fixed, moving, start, kind)
    scans = fixed.onto(pyramid.working), moving.onto(pyramid.working, start)
    here, other = (Side.of(scan, kind == "ct", config.air_weight) for scan in scans)
    pair = DescribedPair.of(here, other, config.descriptor(), kind, pyramid, run.device)
    guide = Guide.of(config.guide, *images, run.device, beside=config.model)
    pair = pair.guided(guide, config.guide_weight, pyramid, start)
    field = to_device(forward, run.device)
    if config.search:
        held = config.held_bytes(pyramid, fixed.grid, moving.grid)
        field, grid = search(pair, pyramid, config, held, (field, grid))
    deformation, trace = refine(pair, pyramid, config, field, grid, run.within("refine", REFINED_FROM, until))
    run.trace |= trace
    run.provenance |= {"intensities": kind} | ({} if guide is None else {"guide": guide.model})
    return both_directions(deformation, start, pyramid.base)
