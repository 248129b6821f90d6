"""The last stage of the discrete methods: a velocity field that refines what the search has found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.methods.base import setting
from anamorph.methods.demands import Demands
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.guide import guide_bytes
from anamorph.methods.learned_features import feature_bytes, named_model
from anamorph.methods.pyramid import THICK, Pyramid
from anamorph.methods.start.settings import StartConfig
from anamorph.optimise.sliding import join
from anamorph.optimise.velocity import VelocitySettings, optimise_velocity
from anamorph.runtime.device import beside, to_numpy
from anamorph.transforms.fields import exponential, logarithm
from anamorph.transforms.inversion import invert
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""


@dataclass(frozen=True)
class RefinementConfig(StartConfig):
    """What the discrete methods share: the linear start, the descriptor and the refinement."""

    mind_radius: int = setting(1, "patch radius of MIND-SSC", "working voxels")
    mind_dilation: int = setting(2, "distance of the neighbours MIND-SSC compares", "working voxels")
    local_weight: float = setting(
        0.0, "weight of squared differences of intensities relative to the voxels around; none without intensity_weight"
    )
    working_spacing_mm: float = setting(0.0, "spacing at which scans are described; 0: the fixed scan's own", "mm")
    descriptor_spacing_mm: float = setting(0.0, "finest spacing at which descriptors are compared; 0: automatic", "mm")
    refine_scales: tuple[int, ...] = setting((2, 1), "levels of the refinement, in descriptor spacings")
    refine_iterations: tuple[int, ...] = setting((20, 20), "iterations per level; 0 leaves the discrete result")
    control_cell: int = setting(2, "control grid of the velocity field", "descriptor voxels")
    diffusion: float = setting(0.2, "weight of the smoothness of the velocity field: larger is stiffer")
    rate: float = setting(0.5, "largest step of an iteration", "descriptor voxels")
    find_no_partner: bool = setting(False, "look for what one scan alone shows, and leave it out of the refinement")
    keep_doubtful: bool = setting(False, "keep a deformation that may follow chance or noise, which is left out else")
    air_weight: float = setting(0.0, "weight of CT air far from the body, 0 to 1")
    guide_weight: float = setting(1.0, "weight of squared differences of its probabilities beside MIND-SSC")
    guide_diffusion: float = setting(0.0, "diffusion where a guide is used, which may pull hard; 0: as without one")
    feature_model: str = setting(
        "none", "a model of `anamorph train features` whose features of any contrast are compared too, or none"
    )
    feature_weight: float = setting(1.0, "weight of squared differences of its features beside MIND-SSC")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.refine_scales) != len(self.refine_iterations):
            raise ValueError("refine_scales and refine_iterations need one value per level each")
        if not self.refine_scales:
            raise ValueError("the refinement needs at least one level; 0 iterations switch it off")
        check_scales(self.refine_scales)
        if self.control_cell < 1 or self.mind_radius < 0 or self.mind_dilation < 1:
            raise ValueError("control_cell and mind_dilation must be at least 1, mind_radius at least 0")
        if not 0 <= self.air_weight <= 1:
            raise ValueError("air_weight must be between 0 and 1")
        weights = self.local_weight, self.guide_weight, self.guide_diffusion, self.feature_weight, self.diffusion
        if min(*weights, *self.refine_iterations) < 0:
            raise ValueError("weights and iterations must not be negative")

    def models(self) -> tuple[str, ...]:
        features = named_model(self.feature_model)
        return (*super().models(), *([] if features is None else [features]))

    def guided(self) -> Self:
        """The settings where a guide is used."""
        return dataclasses.replace(self, diffusion=self.guide_diffusion) if self.guide_diffusion > 0 else self

    def pyramid(self, fixed: Grid) -> Pyramid:
        """The grids on which the scans are compared."""
        return Pyramid.plan(fixed, self.working_spacing_mm, self.descriptor_spacing_mm)

    def compared(self, pyramid: Pyramid) -> int:
        """How many displacements of cells a search before the refinement compares."""
        return 0

    def seen_bytes(self, base: Grid, fixed: Grid, moving: Grid, beside: str | None = None) -> int:
        """Memory of what networks see in two scans, to be compared on a grid.

        Args:
            base: grid of the descriptors.
            fixed: grid of the fixed scan.
            moving: grid of the moving scan.
            beside: the registration network, which may have a guide of its own.
        """
        return guide_bytes(self.guide, fixed, moving, base, beside) + feature_bytes(self.feature_model, base)

    def descriptor(self) -> DescriptorSettings:
        """Of the descriptors that are compared in the refinement."""
        return DescriptorSettings(self.mind_radius, self.mind_dilation, self.intensity_weight, self.local_weight)


def check_scales(scales: tuple[int, ...]) -> None:
    """See that the scales of a pyramid can be.

    Raises:
        ValueError: they are not powers of two, or not coarsest first.
    """
    if any(s < 1 or s & (s - 1) for s in scales) or list(scales) != sorted(scales, reverse=True):
        raise ValueError("scales must be powers of two, coarsest first")


def first_level(config: RefinementConfig) -> RefinementConfig:
    """The settings of a refinement that ends after its first level."""
    return dataclasses.replace(
        config, refine_scales=config.refine_scales[:1], refine_iterations=config.refine_iterations[:1]
    )


def first_velocity(config: RefinementConfig, pyramid: Pyramid, disp_vox: Array, grid: Grid) -> tuple[Array, Grid]:
    """The velocity on the coarsest control grid that leads to a field: smooth, so that no fold enters the refinement.

    Args:
        config: levels.
        pyramid: of the grids.
        disp_vox: ``(3, ...)`` from fixed to moving, voxels of ``grid``.
        grid: where it sits.
    """
    level = pyramid.level(config.refine_scales[0])
    control = level.grid.pooled(level.cells(config.control_cell))
    return logarithm(moved(disp_vox, grid, control), level.neighbours), control


def refine(
    pair: DescribedPair,
    pyramid: Pyramid,
    config: RefinementConfig,
    velocity: Array,
    grid: Grid,
    progress: Callable[[float], None],
    demands: Demands | None = None,
) -> tuple[Displacement, dict[str, list[float]]]:
    """Refine a velocity of the fixed frame.

    Args:
        pair: both scans, described.
        pyramid: of their grids.
        config: levels, iterations, stiffness.
        velocity: ``(3, ...)`` from fixed to moving, voxels of ``grid``.
        grid: where it sits; of :func:`first_velocity`.
        progress: called with the fraction done.
        demands: of the tissue of both scans.

    Returns:
        the refined field, which does not fold, and the objective per iteration for each level.
    """
    current, velocities = grid, [velocity] * (2 if demands is not None and demands.slides else 1)
    trace: dict[str, list[float]] = {}
    done, planned = 0, max(sum(config.refine_iterations), 1)
    for scale, iterations in zip(config.refine_scales, config.refine_iterations, strict=True):
        level = pyramid.level(scale)
        control = level.cells(config.control_cell)
        control_grid = level.grid.pooled(control)
        velocities = [moved(velocity, current, control_grid) for velocity in velocities]
        current = control_grid
        pulls = [] if demands is None else [p for _ in velocities if (p := demands.pulls(control_grid)) is not None]
        stiffness = None if demands is None else demands.stiffness(control_grid)
        surface = None if demands is None else demands.surface(control_grid, control, level.grid.shape)
        if pulls and not trace:
            velocities = [logarithm(pulls[0].begin(exponential(velocity)), level.neighbours) for velocity in velocities]
        at = pair.pooled(level.cell)
        velocities, objective = optimise_velocity(
            at.fixed, at.fixed_weight, at.moving, at.moving_weight, velocities, control, control_grid.spacing_mm,
            level.neighbours,
            VelocitySettings(iterations, config.rate, config.diffusion, 1, level.searched),
            partial(_tell, progress, done / planned, iterations / planned),
            pulls,
            stiffness if stiffness is None else beside(velocities[0], stiffness),
            surface,
        )  # fmt: skip
        done += iterations
        trace[f"refine at {level.grid.finest_mm:.3g} mm"] = objective
    fields = [Displacement(to_numpy(exponential(velocity)), current) for velocity in velocities]
    return (fields[0] if demands is None or len(fields) == 1 else _slid(fields, demands, pyramid.working)), trace


def _slid(fields: list[Displacement], demands: Demands, fine: Grid) -> Displacement:
    """The fields inside and outside a surface, joined there on a finer grid."""
    inside, outside = (field.displacement_on(fine).disp_vox for field in fields)
    here, there = demands.depths_mm(fine)
    if here is None:
        assert there is not None
        still = identity_positions(fine.shape)
        here = np.mean([sample(there[None], still + field)[0] for field in (inside, outside)], axis=0)
    return Displacement(join(inside, outside, here / np.float32(fine.finest_mm)), fine)


INVERSE_POINTS = 1 << 17
"""So many points of an inverse cost nothing to speak of, and close points invert more exactly."""
INVERSE_SPACING = 0.6
"""Of the compared voxels, at most, between the points of an inverse: what it lacks falls with the square."""
INVERSE_TO_VOXEL = 0.75
"""Of a voxel of the scan, at least, unless few: a field of many more points than voxels is read at the voxels alone."""


def both_directions(
    deformation: Displacement, start: Transform, base: Grid, other: Grid, jumps: bool = False
) -> tuple[Transform, Transform]:
    """The whole map and its inverse: ``start`` after a deformation of the leading frame.

    The inverse is a field of the other scan's frame, with the inverse of the start after it: so both directions are
    trilinear on a grid at right angles, and one field of an ITK file holds each of them.

    Args:
        deformation: of the leading frame.
        start: from the leading frame to the other.
        base: the finest grid of the leading frame on which the scans were compared.
        other: the grid of the other scan.
        jumps: whether the map changes from voxel to voxel of ``base``, so that its inverse is as fine, and no finer.
    """
    onward = Composite.of(deformation, start)
    if not isinstance(start, Affine):  # a given map of another kind
        return onward, Composite.of(start.inverse(), invert(deformation, base).transform)
    # exp(-v) is the inverse too, but between the points of the control grid this one is closer.
    grid = (
        other.resampled(np.maximum(other.spacing_mm, base.finest_mm))
        if jumps
        else _inverse_grid(deformation, base, start, other)
    )
    opposite = invert(Composite.of(start.inverse(), deformation, start), grid).transform
    return onward, Composite.of(opposite, start.inverse())


def _inverse_grid(deformation: Displacement, base: Grid, start: Affine, other: Grid) -> Grid:
    """Points no farther apart than those of ``base``, over what the leading scan shows of the other once deformed."""
    few = max(float(np.prod(base.shape) / INVERSE_POINTS) ** (1 / 3), 0.5)
    scale = abs(np.linalg.det(start.matrix[:3, :3])) ** (1 / 3)
    compared_mm = base.finest_mm * scale
    held = min(INVERSE_TO_VOXEL * other.voxel_mm / compared_mm, 1.0)
    closeness_mm = min(few, max(INVERSE_SPACING, held)) * compared_mm
    reached_vox = other.world_to_voxel(start.map_world(base.corners_mm()))
    farthest_mm = scale * float(np.linalg.norm(deformation.vectors_mm(), axis=0).max())
    margin = (2 * closeness_mm + farthest_mm) / other.spacing_mm
    low = np.floor(np.maximum(reached_vox.min(axis=0) - margin, 0)).astype(int)
    high = np.ceil(np.minimum(reached_vox.max(axis=0) + margin + 1, other.shape)).astype(int)
    if (low < high).all():
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        other = other.cropped((i, j, k))
    thick = other.spacing_mm > THICK * min(few, 1.0) * compared_mm  # as thick as the leading scan's are described
    return other.resampled(np.where(thick, other.spacing_mm, closeness_mm))


def _tell(progress: Callable[[float], None], before: float, share: float, fraction: float) -> None:
    progress(before + share * fraction)


def moved(field: Array, source: Grid, target: Grid) -> Array:
    """A field in voxels of one grid, brought to another grid of the same frame."""
    if source == target:
        return field
    return beside(field, Displacement(to_numpy(field), source).displacement_on(target).disp_vox)
