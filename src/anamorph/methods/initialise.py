"""The start of a registration: all translations at once, then block matching with least trimmed squares.

No assumption about intensities beyond those of the descriptor, none about world positions: two scans that share no
world coordinates are brought together by the translation search. The linear map is kept only where it lowers the same
cost that the search minimised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from anamorph.discrete.block_matching import match_blocks
from anamorph.features.descriptor import DescriptorSettings, describe
from anamorph.features.intensity import IntensityKind
from anamorph.geometry import Grid
from anamorph.methods.working_frame import Scan, body_weight, covering_grid
from anamorph.similarity.translation_search import TranslationSearch, overlap_cost, search_translation
from anamorph.transforms import Affine
from anamorph.transforms.least_trimmed_squares import LinearModel, fit_least_trimmed_squares, is_plausible

InitModel = Literal["none", "translation", "rigid", "affine"]

LEAST_OVERLAP = 0.25
"""Of the smaller body; below it a translation is not considered."""
MISSING_PRICE = 0.8
"""What a voxel without partner costs, in typical mismatches."""
BODY_REACH_MM = 20.0
AIR_WEIGHT = 0.05
SEARCH_VOXELS = 40
"""Voxels along the longest axis in the translation search."""


@dataclass(frozen=True)
class Stage:
    """Block matching: voxels along the longest axis, block size, window in voxels, most rounds.

    Rounds are repeated while they lower the cost by ``LEAST_GAIN``.
    """

    voxels: int
    cell: int
    step: int
    radius: int
    rounds: int


STAGES = (Stage(28, 3, 1, 4, 3), Stage(44, 4, 1, 3, 2), Stage(72, 6, 1, 3, 2))
LEAST_GAIN = 0.002
LEAST_REFINEMENT = 0.8
"""A stage whose voxels are hardly smaller than the last one's, as in small images, is left out."""
KEEP = 0.5
"""Fraction of the blocks, the clearest ones, that enter the fit."""
STRETCH_PRICE = 0.5
"""Relative rise of the cost per squared log of the stretch: what a smaller, smoother image would gain by itself."""


@dataclass
class Initialisation:
    """The linear start, what it costs after each accepted step, and what a reader should know."""

    transform: Affine
    costs: list[float] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def initialise(
    fixed: Scan,
    moving: Scan,
    kind: IntensityKind,
    model: InitModel,
    settings: DescriptorSettings,
    start: Affine | None = None,
) -> Initialisation:
    """Find a linear map of fixed points to moving points.

    Args:
        fixed: prepared fixed scan.
        moving: prepared moving scan.
        kind: how intensities compare.
        model: ``"none"`` trusts the world coordinates of the files.
        settings: of the descriptor.
        start: skips the translation search.
    """
    if model == "none":
        return Initialisation(start or Affine.identity(), steps=["world coordinates of the files"])
    fixed_level = _Level.of(fixed, fixed.grid.directions, SEARCH_VOXELS, kind, settings)
    spacing = fixed_level.grid.finest_mm
    moving_level = _Level.at(moving, covering_grid(moving.grid, fixed.grid.directions, spacing), kind, settings)
    search = search_translation(
        fixed_level.descriptor, fixed_level.weight, moving_level.descriptor, moving_level.weight,
        LEAST_OVERLAP, MISSING_PRICE,
    )  # fmt: skip
    if start is None:
        start = _translation(search, fixed_level.grid, moving_level.grid)
    found = Initialisation(start, [search.cost], ["best of all translations"])
    if model in ("rigid", "affine"):
        _match_stages(found, fixed, moving, kind, model, settings, search.typical)
    return found


def _translation(search: TranslationSearch, fixed: Grid, moving: Grid) -> Affine:
    return Affine.translation(moving.voxel_to_world(search.shift_vox) - fixed.voxel_to_world(np.zeros(3)))


def _match_stages(
    found: Initialisation,
    fixed: Scan,
    moving: Scan,
    kind: IntensityKind,
    model: LinearModel,
    settings: DescriptorSettings,
    typical: float,
) -> None:
    spacing = np.inf
    for stage in STAGES:
        level = _Level.of(fixed, fixed.grid.directions, stage.voxels, kind, settings)
        if level.grid.finest_mm > LEAST_REFINEMENT * spacing:
            break
        spacing = level.grid.finest_mm
        warped = _Level.at(moving, level.grid, kind, settings, found.transform)
        best = level.cost(warped, typical) * _stretch_price(found.transform)
        for _ in range(stage.rounds):
            source, target = _correspondences(level, warped, stage)
            accepted = None
            if len(source) >= 4:
                update = fit_least_trimmed_squares(source, target, model)
                accepted = _accepted(level, moving, found.transform, update, kind, settings, typical, best)
            if accepted is None:
                break
            best, warped, found.transform = accepted
            found.costs.append(best)
            found.steps.append(f"{model} block matching at {level.grid.finest_mm:.2g} mm")


def _accepted(
    level: _Level,
    moving: Scan,
    current: Affine,
    update: np.ndarray,
    kind: IntensityKind,
    settings: DescriptorSettings,
    typical: float,
    best: float,
) -> tuple[float, _Level, Affine] | None:
    """The updated map if it lowers the cost, else the map half-way there if that does, else nothing."""
    for fraction in (1.0, 0.5):
        matrix = current.matrix @ _power(update, fraction)
        if not is_plausible(matrix):
            continue
        candidate = Affine(matrix)
        warped = _Level.at(moving, level.grid, kind, settings, candidate)
        cost = level.cost(warped, typical) * _stretch_price(candidate)
        if cost < (1 - LEAST_GAIN) * best:
            return cost, warped, candidate
    return None


def _correspondences(level: _Level, warped: _Level, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """World positions of matching blocks, searched in both directions so that neither image is preferred."""
    window = (stage.cell, stage.step, stage.radius, KEEP)
    fixed_side, matched = match_blocks(level.descriptor, level.weight, warped.filled(), *window)
    moving_side, back = match_blocks(warped.descriptor, warped.weight, level.filled(), *window)
    source = level.grid.voxel_to_world(np.concatenate([fixed_side, back]))
    target = level.grid.voxel_to_world(np.concatenate([matched, moving_side]))
    return source, target


def _power(matrix: np.ndarray, fraction: float) -> np.ndarray:
    """Part of a linear map: the real power of its matrix, so that part of a rotation is a rotation."""
    if fraction == 1:
        return matrix
    from scipy.linalg import fractional_matrix_power

    return np.real(fractional_matrix_power(matrix, fraction))


def _stretch_price(transform: Affine) -> float:
    stretch = np.linalg.svd(transform.matrix[:3, :3], compute_uv=False)
    return 1 + STRETCH_PRICE * float((np.log(stretch) ** 2).sum())


@dataclass(frozen=True)
class _Level:
    """A scan described on a coarse grid."""

    descriptor: np.ndarray
    weight: np.ndarray
    grid: Grid

    @classmethod
    def of(
        cls, scan: Scan, directions: np.ndarray, voxels: int, kind: IntensityKind, settings: DescriptorSettings
    ) -> _Level:
        extent = np.array(scan.grid.shape) * scan.grid.spacing_mm
        spacing = max(float(extent.max()) / voxels, scan.grid.finest_mm)
        return cls.at(scan, covering_grid(scan.grid, directions, spacing), kind, settings)

    @classmethod
    def at(
        cls, scan: Scan, grid: Grid, kind: IntensityKind, settings: DescriptorSettings, transform: Affine | None = None
    ) -> _Level:
        read = scan.onto(grid, transform or Affine.identity())
        weight = body_weight(read, kind == "ct", BODY_REACH_MM, AIR_WEIGHT)
        return cls(describe(read.channels, settings, kind, (1, 1, 1)), weight, grid)

    def filled(self) -> np.ndarray:
        """The descriptor with its mean where the scan has no data, so that emptiness matches nothing well."""
        empty = self.weight <= 0
        if not empty.any() or empty.all():
            return self.descriptor
        return np.where(empty[..., None], self.descriptor[~empty].mean(axis=0), self.descriptor)

    def cost(self, moving: _Level, typical: float) -> float:
        return overlap_cost(self.descriptor, self.weight, moving.descriptor, moving.weight, typical, MISSING_PRICE)
