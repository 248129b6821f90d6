"""Rigid bodies seen in one scan or both, their motions, and whether they would collide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.image.pieces import Piece
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.maps import Affine, Transform

SAME = 0.25
"""A piece of the moving scan of which so much falls on one of the fixed scan is the same body."""


@dataclass(frozen=True, eq=False)
class Held:
    """A piece with a property, and how much of the way to it the map is brought: 1 makes it exact."""

    piece: Piece
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Body:
    """What moves as one rigid body.

    Args:
        here: its pieces in the scan whose points are mapped.
        there: its pieces in the other scan.
        motion: of points of this scan to the other.
        share: how much of the way to that motion the map is brought.
    """

    here: tuple[Piece, ...]
    there: tuple[Piece, ...]
    motion: Affine
    share: float = 1.0

    @property
    def name(self) -> str:
        """The name of its first piece."""
        return (*self.here, *self.there)[0].name

    def inverse(self) -> Body:
        """The same body seen from the other scan."""
        return Body(self.there, self.here, self.motion.inverse(), self.share)

    def centres_mm(self) -> np.ndarray:
        """``(N, 3)`` RAS positions of its voxels, all in this scan."""
        back = self.motion.inverse()
        own = [piece.centres_mm for piece in self.here]
        return np.concatenate([*own, *(back.map_world(piece.centres_mm) for piece in self.there)])


def bodies_of(here: Sequence[Held], there: Sequence[Held], onward: Transform, back: Transform) -> list[Body]:
    """The rigid bodies of two scans with the motions nearest to a map, by least squares over their voxels.

    Args:
        here: pieces of this scan that move rigidly.
        there: likewise of the other scan; what falls on one of this scan is the same body.
        onward: maps points of this scan to the other.
        back: the inverse.
    """
    members: list[tuple[list[Held], list[Held]]] = [([one], []) for one in here]
    for other in there:
        arrived = back.map_world(other.piece.centres_mm)
        shares = [_share_within(arrived, one.piece) for one in here]
        if max(shares, default=0.0) > SAME:
            members[int(np.argmax(shares))][1].append(other)
        else:
            members.append(([], [other]))
    return [_fitted(own, others, onward, back) for own, others in members]


def _fitted(here: Sequence[Held], there: Sequence[Held], onward: Transform, back: Transform) -> Body:
    own, other = ([one.piece.centres_mm for one in held] for held in (here, there))
    source = np.concatenate([*own, *(back.map_world(points) for points in other)])
    target = np.concatenate([*(onward.map_world(points) for points in own), *other])
    motion = Affine(fit_linear(source, target, "rigid"))
    share = max(one.share for one in (*here, *there))
    return Body(tuple(one.piece for one in here), tuple(one.piece for one in there), motion, share)


def overlap_percent(first: Body, second: Body) -> float:
    """Share of a piece of two bodies that would lie in a piece of the other one after both have moved, the largest."""
    between = second.motion.inverse() @ first.motion
    shares = [_share_within(between.map_world(one.centres_mm), other) for one in first.here for other in second.here]
    back = between.inverse()
    shares += [_share_within(back.map_world(other.centres_mm), one) for one in first.here for other in second.here]
    return 100 * max(shares, default=0.0)


def _share_within(points_mm: np.ndarray, piece: Piece) -> float:
    """Share of points that lie in voxels of a piece."""
    low = piece.voxels.min(axis=0)
    inside = np.zeros(piece.voxels.max(axis=0) - low + 1, bool)
    places = np.rint(piece.grid.world_to_voxel(points_mm)).astype(int) - low
    near = ((places >= 0) & (places < inside.shape)).all(axis=1)
    if not near.any():
        return 0.0
    inside[tuple((piece.voxels - low).T)] = True
    return float(inside[tuple(places[near].T)].sum()) / len(points_mm)
