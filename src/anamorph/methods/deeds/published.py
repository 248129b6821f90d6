"""The conventions of the published program: how it starts, what it takes for background, how it adds up transforms."""

from __future__ import annotations

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.background import CT_AIR_HU
from anamorph.image.image import Image, Mask
from anamorph.methods.base import Pair, Run
from anamorph.methods.deeds.dense_search import DeedsFrame
from anamorph.methods.deeds.levels import DeedsConfig, DeedsLevel
from anamorph.methods.start.settings import linear_model
from anamorph.methods.working_frame import Scan, Side, within
from anamorph.transforms.affine import LinearModel, fit_least_trimmed_squares, is_plausible
from anamorph.transforms.maps import Affine, Composite

EMPTY_HU = CT_AIR_HU + 5
"""Cells with a lower mean are background."""
MARGIN = 2
"""So many cells along the border of the scan take no part in the fit."""
KEEP = 0.5
"""Of the valid cells of both directions: those that match best."""


def published_frame(config: DeedsConfig, pair: Pair, run: Run) -> DeedsFrame:
    """Start from aligned grid centres, as two arrays of equal size do, and with the published linear stage.

    The moving scan is first brought to the grid of the fixed one, because the program knows one grid only. A given
    start takes the place of both.
    """
    fixed, moving, fixed_mask, moving_mask = pair.fixed, pair.moving, pair.fixed_mask, pair.moving_mask
    grid = config.pyramid(fixed.grid).working
    placed = pair.start or Affine.translation(moving.grid.centre_mm - fixed.grid.centre_mm)
    here = _raw(fixed, fixed_mask).onto(grid)
    original = _raw(moving, moving_mask).onto(grid, placed)
    # Without a mask the program knows no voxel that does not count, not even outside the field of view.
    every = np.broadcast_to(np.float32(1), grid.shape)
    weights = every if fixed_mask is None else here.weight, every if moving_mask is None else original.weight
    matrix = np.eye(4)
    steps = ["given" if pair.start else "aligned centres of the grids"]
    if pair.start is None and config.init not in ("world", "centres"):
        model = linear_model(config.init)
        matrix = linear_stage(config, model, Side(here, weights[0]), Side(original, weights[1]))
        steps.append(f"{model} block matching as published")
    run.provenance["start"] = steps
    start = Affine(grid.affine @ matrix @ np.linalg.inv(grid.affine))
    run.start = Composite.of(start, placed)
    moved = original.channels_on(grid, start)
    moved_weight = every if moving_mask is None else original.onto(grid, start).weight
    return DeedsFrame(
        Side(here, weights[0]),
        Side(Scan(moved, moved_weight, grid), moved_weight),
        original,
        start,
        config.levels(grid),
        placed=placed,
        turn=np.linalg.inv(matrix[:3, :3]),
    )


def _raw(image: Image, mask: Mask | None) -> Scan:
    weight = np.ones(image.grid.shape, np.float32) if mask is None else np.clip(mask.data[0], 0, 1).astype(np.float32)
    return Scan(within(image, mask).data.astype(np.float32), weight, image.grid)


def linear_stage(config: DeedsConfig, model: LinearModel, fixed: Side, moving: Side) -> np.ndarray:
    """The linear map of linearBCV, as a 4x4 matrix from fixed to moving voxels of one grid.

    Per level every cell looks for its best match in both directions, its costs averaged with those of its neighbours; a
    linear map is fitted to the matches by least trimmed squares.
    """
    grid, matrix = fixed.scan.grid, np.eye(4)
    lists = zip(config.linear_grid_spacing, config.linear_search_radius, config.linear_quantisation, strict=True)
    for numbers in lists:
        level = DeedsLevel.published(grid, *numbers)
        warped_moving = _warped(moving.scan, matrix)
        warped_fixed = _warped(fixed.scan, np.linalg.inv(matrix))
        sides = [_matches(level, one, other) for one, other in ((fixed, warped_moving), (moving, warped_fixed))]
        worth = np.concatenate([worth for _, _, worth in sides])
        valid = np.isfinite(worth)
        if valid.sum() < 8:
            continue
        chosen = worth <= np.quantile(worth[valid], KEEP)
        (centres, matched, _), (centres_back, matched_back, _) = sides
        # Matches found backwards are taken as if found in the frame of the fixed scan: true near the identity.
        source = np.concatenate([centres, matched_back])[chosen]
        target = np.concatenate([matched, centres_back])[chosen]
        update = matrix @ fit_least_trimmed_squares(source, target, model)
        matrix = update if is_plausible(update) else matrix
    return matrix


def _warped(scan: Scan, matrix: np.ndarray) -> np.ndarray:
    """The channels read at ``matrix @ voxel``, air outside."""
    grid = Grid(scan.grid.shape, np.eye(4))
    positions = Affine(matrix).moving_positions(grid, grid)
    return sample(scan.channels, positions, fill=CT_AIR_HU)


def _matches(level: DeedsLevel, side: Side, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of all cells, where they match best, and at what cost: infinite where a cell takes no part.

    Those are cells of background, at the border, and (a departure: the first place wins there, so that empty scans run
    away) those that match equally well everywhere.
    """
    codes, there = (
        np.stack([quantised_mind_ssc(channel, level.mind_step) for channel in channels])
        for channels in (side.scan.channels, other)
    )
    costs = hamming_costs(codes, side.weight, there, level.cells, level.cell, level.radius, level.step, level.stride)
    costs = costs.reshape(*level.cells, -1)
    for axis in range(3):
        _add_neighbours(np.moveaxis(costs, axis, 0))
    best = costs.argmin(axis=-1)
    label = np.stack(np.unravel_index(best, level.labels)) - np.array(level.radius)[:, None, None, None]
    cells = np.indices(level.cells)
    size = np.array(level.cell)[:, None, None, None]
    centres = cells * size + (size - 1) // 2
    matched = centres + label * np.array(level.step)[:, None, None, None]
    worth = np.take_along_axis(costs, best[..., None], -1)[..., 0]
    anywhere = worth == costs.max(axis=-1)
    several = np.array(level.cells)[:, None, None, None] > 2 * MARGIN
    inside = (cells >= MARGIN) & (cells <= np.array(level.cells)[:, None, None, None] - MARGIN)
    worth[anywhere | ~(inside | ~several).all(axis=0) | (_cell_means(level, side.scan) < EMPTY_HU)] = np.inf
    return centres.reshape(3, -1).T, matched.reshape(3, -1).T, worth.ravel()


def _add_neighbours(costs: np.ndarray) -> None:
    """Add half of both neighbours along the first axis, one cell after the other as published, in place."""
    last = len(costs) - 1
    for n in range(len(costs)):
        costs[n] += 0.5 * costs[min(n + 1, last)] + 0.5 * costs[max(n - 1, 0)]


def _cell_means(level: DeedsLevel, scan: Scan) -> np.ndarray:
    (na, nb, nc), (gi, gj, gk) = level.cells, level.cell
    kept = scan.channels[0, : na * gi, : nb * gj, : nc * gk]
    return kept.reshape(na, gi, nb, gj, nc, gk).mean(axis=(1, 3, 5))
