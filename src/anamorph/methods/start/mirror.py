"""Whether a scan is the mirror image of what its header says: reported, never applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from anamorph.methods.start.matching import Matched, Stage, match
from anamorph.methods.start.volumes import Judge
from anamorph.methods.working_frame import Scan
from anamorph.transforms.maps import Affine

if TYPE_CHECKING:
    from anamorph.methods.start.hypotheses import Hypothesis

WORTH_A_LOOK = 0.1
"""A mirror image that explains so much less than the start before it is matched is not matched."""
CLEARLY = 0.05
"""So much more than the start must the mirror image explain: bodies are nearly symmetric."""
LEAST = 0.4


def mirror_warning(rough: Judge, winner: Hypothesis, stage: Stage) -> str | None:
    """A warning where the moving scan, mirrored along one of its axes, explains clearly more than as it is.

    Args:
        rough: judges on a coarse grid.
        winner: the start of the scans as they are.
        stage: how the mirror image is matched.
    """
    start = winner.matched.transform
    turned = [_reflection(rough, start, axis) for axis in range(3)]
    # A map that mirrors shows the same as a mirrored scan, without making it.
    tried = [Matched.of(rough, Affine(start.matrix @ here)).explained for here in turned]
    axis = int(np.argmax(tried))
    if tried[axis] < winner.explained - WORTH_A_LOOK:
        return None
    moving = rough.pair.moving
    judge = replace(rough, pair=replace(rough.pair, moving=mirrored(moving, axis)))
    # Mirrored twice, by the middle of the fixed body and that of the moving grid, the map is one of space again.
    there = reflection(moving.grid.directions[:, axis], moving.grid.centre_mm)
    laid = Matched.of(judge, Affine(there @ start.matrix @ turned[axis]))
    explained = match(judge, laid, stage, "rigid").explained
    if explained < max(winner.explained + CLEARLY, LEAST):
        return None
    return (
        f"mirrored along an axis the moving scan explains more ({explained:.2f} of 1, as it is "
        f"{winner.explained:.2f}); nothing was mirrored: see whether a header has lost the direction of an axis"
    )


def _reflection(rough: Judge, start: Affine, axis: int) -> np.ndarray:
    """4x4 matrix that mirrors the fixed scan in the middle of its body, along what a start makes of an axis."""
    from_fixed = start.matrix[:3, :3].T @ rough.pair.moving.grid.directions[:, axis]
    return reflection(from_fixed / np.linalg.norm(from_fixed), rough.fixed.body_middle_mm)


def mirrored(scan: Scan, axis: int) -> Scan:
    """The scan with the order of its voxels along an axis reversed, on the same grid."""
    flip = np.ascontiguousarray
    return Scan(flip(np.flip(scan.channels, axis + 1)), flip(np.flip(scan.weight, axis)), scan.grid)


def reflection(normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    """4x4 matrix that mirrors in the plane through a point with a unit normal."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * (normal @ point) * normal
    return matrix
