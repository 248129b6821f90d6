"""The last step of every method: what must not deform is made so, exactly, in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Outcome, Pair, Run
from anamorph.methods.tissue import NOTHING_KNOWN, Kept
from anamorph.transforms.bodies import Body, Held, bodies_of, overlap_percent
from anamorph.transforms.projection import project
from anamorph.types import GraveWarning

TOUCHING_PERCENT, COLLIDING_PERCENT = 1.0, 10.0
"""Overlaps of two rigid pieces after they have moved: less than the first is the rounding of voxels."""
MOST_OUTSIDE = 0.5


def keep(outcome: Outcome, pair: Pair, run: Run) -> Outcome:
    """The outcome of a method with the exact properties of the tissue; what is wrong with them becomes a warning.

    Args:
        outcome: of any method.
        pair: the scans and what is known of their tissue.
        run: of the method.
    """
    tissues = pair.tissues
    if tissues == (NOTHING_KNOWN, NOTHING_KNOWN):
        return outcome
    if outcome.free is None and any(tissue.stiffness is not None for tissue in tissues):
        outcome.warnings.append("no field was refined, so the stiffness had no say")
    rigid, volume = (_held([tissue.rigid for tissue in tissues]), _held([tissue.volume for tissue in tissues]))
    if not any((*rigid, *volume)):
        return outcome
    run.progress("tissue", 0.99)
    with run.timed("tissue"):
        free = outcome.free or (outcome.fixed_to_moving, outcome.moving_to_fixed)
        grids = pair.fixed.grid, pair.moving.grid
        bodies = bodies_of(rigid[0], rigid[1], outcome.fixed_to_moving, outcome.moving_to_fixed)
        outcome.warnings += _collisions(bodies)
        found = project(outcome.fixed_to_moving, outcome.moving_to_fixed, *grids, bodies, volume[0])
        onward, back, folded = found.onward, found.back, found.folded
        if volume[1]:
            other = project(back, onward, *grids[::-1], [body.inverse() for body in bodies], volume[1])
            onward, back, folded = other.back, other.onward, (*folded, *other.folded)
        pieces = zip((*rigid, *volume), (onward, back) * 2, grids[::-1] * 2, strict=True)
        outcome.warnings += [
            f"{piece.name} leaves the field of view of the other scan; leave it out, or mask what is not shown"
            for some, transform, grid in pieces
            for piece in (held.piece for held in some)
            if _outside(transform.map_world(piece.centres_mm), grid)
        ]
        outcome.warnings += [
            f"around {name} the map folds: it is not as the images ask; see the report" for name in folded
        ]
    return dataclasses.replace(outcome, fixed_to_moving=onward, moving_to_fixed=back, free=free)


def _held(kinds: Sequence[tuple[Kept, ...]]) -> list[list[Held]]:
    """The pieces of both scans with one property."""
    return [[held for kept in kind for held in kept.held] for kind in kinds]


def _collisions(bodies: list[Body]) -> list[str]:
    found = []
    for first, second in combinations([body for body in bodies if body.share == 1], 2):
        shared = overlap_percent(first, second)
        if shared > TOUCHING_PERCENT:
            text = (
                f"{first.name} and {second.name} would overlap by {shared:.0f} % after moving; "
                "make them one piece, or give one of them a weight"
            )
            found.append(GraveWarning(text) if shared > COLLIDING_PERCENT else text)
    return found


def _outside(moved_mm: np.ndarray, grid: Grid) -> bool:
    return bool((~grid.contains(moved_mm)).mean() > MOST_OUTSIDE)
