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
from anamorph.features.mind_ssc import LANES
from anamorph.geometry import Grid
from anamorph.methods.pyramid import FEW_SLICES
from anamorph.methods.working_frame import Scan, body_weight, covering_grid
from anamorph.similarity.translation_search import TranslationSearch, overlap_cost, search_translation
from anamorph.transforms import Affine
from anamorph.transforms.least_trimmed_squares import LinearModel, fit_least_trimmed_squares, is_plausible

InitModel = Literal["none", "translation", "rigid", "affine"]

LEAST_OVERLAP = 0.25
"""Of the smaller body; below it a translation is not considered."""
MISSING_PRICE = 0.8
"""What a voxel without partner costs, in typical mismatches."""
SLAB_MISSING_PRICE = 1.25
"""The same in scans of a few slices, one of which is much of the scan: more than a voxel that matches nothing, so that
without evidence no slice is moved out of view."""
BODY_REACH_MM = 20.0
AIR_WEIGHT = 0.05
SEARCH_VOXELS = 40
"""Voxels along the longest axis in the translation search."""
MOST_VOXELS = 2**20
"""Voxels of the moving scan in one translation search; a larger field of view is first searched with coarser ones."""
WINDOW = 0.75
"""How far around a place the search after that looks, in fields of view of the fixed scan."""


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
    search, best = _best_translation(fixed, moving, kind, settings)
    found = Initialisation(start or best, [search.cost], ["best of all translations"])
    if model in ("rigid", "affine"):
        unmatched = _missing_price(fixed.grid, moving.grid) * search.typical
        _match_stages(found, fixed, moving, kind, model, settings, unmatched)
    return found


def _best_translation(
    fixed: Scan, moving: Scan, kind: IntensityKind, settings: DescriptorSettings
) -> tuple[TranslationSearch, Affine]:
    """The best of all translations; in a far larger moving scan, of those near the best coarse one and the header's."""

    def search(here: Grid, there: Grid) -> tuple[TranslationSearch, Affine]:
        one, other = _Level.at(fixed, here, kind, settings), _Level.at(moving, there, kind, settings)
        found = search_translation(one.descriptor, one.weight, other.descriptor, other.weight, LEAST_OVERLAP, price)
        return found, Affine.translation(there.voxel_to_world(found.shift_vox) - here.voxel_to_world(np.zeros(3)))

    price = _missing_price(fixed.grid, moving.grid)
    grids = _search_grids(fixed.grid, moving.grid)
    if np.prod(grids[1].shape) <= MOST_VOXELS:
        return search(*grids)
    places = [search(*_coarser(fixed.grid, moving.grid, grids[0].finest_mm))[1], Affine.identity()]
    windows = [_window(*grids, place) for place in places]
    return min((search(grids[0], window) for window in windows if window), key=lambda found: found[0].cost)


def _missing_price(fixed: Grid, moving: Grid) -> float:
    few = any(1 < n <= FEW_SLICES for n in (*fixed.shape, *moving.shape))
    return SLAB_MISSING_PRICE if few else MISSING_PRICE


def _search_grids(fixed: Grid, moving: Grid) -> tuple[Grid, Grid]:
    """Both fields of view along the axes of the fixed one, its longest side divided by ``SEARCH_VOXELS``."""
    here = covering_grid(fixed, fixed.directions, max(fixed.longest_mm / SEARCH_VOXELS, fixed.finest_mm))
    return here, covering_grid(moving, fixed.directions, here.finest_mm)


def _coarser(fixed: Grid, moving: Grid, spacing_mm: float) -> tuple[Grid, Grid]:
    """The same with voxels so large that the moving scan has no more than ``MOST_VOXELS``."""
    there = covering_grid(moving, fixed.directions, spacing_mm)
    while np.prod(there.shape) > MOST_VOXELS:
        spacing_mm *= max((np.prod(there.shape) / MOST_VOXELS) ** (1 / 3), 1.02)
        there = covering_grid(moving, fixed.directions, spacing_mm)
    return covering_grid(fixed, fixed.directions, spacing_mm), there


def _window(fixed: Grid, moving: Grid, place: Affine) -> Grid | None:
    """The part of the moving grid around the place of the fixed field of view; None if that lies outside."""
    size, most = np.array(fixed.shape), np.array(moving.shape)
    corner = moving.world_to_voxel(place.map_world(fixed.voxel_to_world(np.zeros((1, 3)))))[0]
    if (corner + size <= 0).any() or (corner >= most).any():
        return None
    first = np.clip(np.floor(corner - WINDOW * size), 0, most - 1).astype(int)
    end = np.clip(np.ceil(corner + (1 + WINDOW) * size), first + 1, most).astype(int)
    affine = moving.affine.copy()
    affine[:3, 3] = moving.voxel_to_world(first)
    return Grid(tuple(end - first), affine)


def initialise_bytes(fixed: Grid, moving: Grid) -> int:
    """Predicted peak memory of :func:`initialise` beside the prepared scans, for one channel."""
    here, there = _search_grids(fixed, moving)
    searches = [(here.shape, there.shape)]
    if np.prod(there.shape) > MOST_VOXELS:
        window = np.minimum(there.shape, np.ceil((1 + 2 * WINDOW) * np.array(here.shape)) + 1)
        one, other = _coarser(fixed, moving, here.finest_mm)
        searches = [(one.shape, other.shape), (here.shape, tuple(window))]
    finest = covering_grid(fixed, fixed.directions, max(fixed.longest_mm / STAGES[-1].voxels, fixed.finest_mm))
    # Two descriptors and the square of one, and the transforms; later both descriptors and their differences.
    descriptor = 4 * LANES
    peaks = [descriptor * (np.prod(f) + 2 * np.prod(m)) + 36 * np.prod(np.add(f, m, dtype=float)) for f, m in searches]
    return int(max(*peaks, 6.5 * descriptor * np.prod(finest.shape)))


def _match_stages(
    found: Initialisation,
    fixed: Scan,
    moving: Scan,
    kind: IntensityKind,
    model: LinearModel,
    settings: DescriptorSettings,
    unmatched: float,
) -> None:
    spacing = np.inf
    for stage in STAGES:
        level = _Level.of(fixed, fixed.grid.directions, stage.voxels, kind, settings)
        if level.grid.finest_mm > LEAST_REFINEMENT * spacing:
            break
        spacing = level.grid.finest_mm
        warped = _Level.at(moving, level.grid, kind, settings, found.transform)
        best = level.cost(warped, unmatched) * _stretch_price(found.transform)
        for _ in range(stage.rounds):
            source, target = _correspondences(level, warped, stage)
            accepted = None
            if len(source) >= 4:
                update = fit_least_trimmed_squares(source, target, model)
                accepted = _accepted(level, moving, found.transform, update, kind, settings, unmatched, best)
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
    unmatched: float,
    best: float,
) -> tuple[float, _Level, Affine] | None:
    """The updated map if it lowers the cost, else the map half-way there if that does, else nothing."""
    for fraction in (1.0, 0.5):
        matrix = current.matrix @ _power(update, fraction)
        if not is_plausible(matrix):
            continue
        candidate = Affine(matrix)
        warped = _Level.at(moving, level.grid, kind, settings, candidate)
        cost = level.cost(warped, unmatched) * _stretch_price(candidate)
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
        spacing = max(scan.grid.longest_mm / voxels, scan.grid.finest_mm)
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

    def cost(self, moving: _Level, unmatched: float) -> float:
        return overlap_cost(self.descriptor, self.weight, moving.descriptor, moving.weight, unmatched)
