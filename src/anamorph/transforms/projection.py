"""Both directions of a transform, changed so that pieces move rigidly or keep their volume exactly.

A trilinear field is affine in a cell exactly if it is at the eight corners. So the points of the field around a piece
are given the rigid motion nearest to the map that was, and further out the map fades into what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.pieces import Piece
from anamorph.transforms.bodies import Body, Held
from anamorph.transforms.inversion import invert
from anamorph.transforms.lattice import Given, Lattice, given_anew
from anamorph.transforms.maps import Affine, Composite, Transform
from anamorph.transforms.piece_change import moved_volume_mm3

MOST_POINTS = 1 << 20
"""Of a field that pieces do not ask to be finer."""
VOXELS_APART = 1.5
"""Points of the field are about so many voxels of the scan apart, unless pieces lie closer."""
INVERSE_TOLERANCE = 1e-3
"""Of a voxel."""
MOVED_VOX = 1e-4
SAME_VOLUME = 1e-5
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Projected:
    """Both directions after the change, and the names of pieces around which the map folds all the same."""

    onward: Transform
    back: Transform
    folded: tuple[str, ...] = ()


def project(
    onward: Transform, back: Transform, here: Grid, there: Grid, bodies: Sequence[Body], volumes: Sequence[Held] = ()
) -> Projected:
    """Give rigid bodies their motions and pieces their volumes, in both directions.

    Args:
        onward: maps points of this scan to the other.
        back: its inverse.
        here: grid of this scan.
        there: grid of the other scan.
        bodies: what moves rigidly.
        volumes: pieces of this scan whose volume stays; what they share with a body belongs to the body.
    """
    own, opposite, claims = _fine_enough(onward, back, here, there, bodies)
    points, _ = _shared_out(own, [_piece_claim(own, held.piece) for held in volumes], claims)
    swelling = [Given(nodes, np.eye(4), True, held.share) for nodes, held in zip(points, volumes, strict=False)]
    moved = [
        Given(nodes, own.to_voxels(body.motion.matrix @ own.grid.affine), share=body.share)
        for nodes, body in zip(points[len(volumes) :], bodies, strict=True)
    ]
    names = [*(held.piece.name for held in volumes), *(body.name for body in bodies)]
    middles = [onward.map_world(held.piece.centres_mm).mean(axis=0) for held in volumes]
    factors, wrong = np.ones(len(volumes)), _too_small(volumes, onward)
    for _ in range(ROUNDS):
        factors = factors * wrong ** (1 / (2 if here.is_2d else 3))
        for one, middle, factor in zip(swelling, middles, factors, strict=True):
            one.matrix = own.to_voxels(_scaling(middle, factor) @ own.after.matrix @ own.grid.affine)
        given = [(name, one) for name, one in zip(names, (*swelling, *moved), strict=True) if len(one.points)]
        disp_vox, folded = given_anew(own, [one for _, one in given])
        changed = own.transform(disp_vox)
        # What is not exact is brought its share of the way, once.
        wrong = np.where([held.share == 1 for held in volumes], _too_small(volumes, changed), 1.0)
        if (abs(wrong - 1) < SAME_VOLUME).all():
            break
    exact = [body.inverse() for body in bodies if body.share == 1]
    return Projected(changed, _inverse(own, disp_vox, opposite, exact), tuple(given[n][0] for n in folded))


def _too_small(volumes: Sequence[Held], transform: Transform) -> np.ndarray:
    """By which factor each piece is too small after a map."""
    return np.array([held.piece.volume_mm3 / moved_volume_mm3(held.piece, transform) for held in volumes])


def _scaling(middle: np.ndarray, factor: float) -> np.ndarray:
    matrix = np.diag([factor, factor, factor, 1.0])
    matrix[:3, 3] = (1 - factor) * middle
    return matrix


@dataclass(frozen=True, eq=False)
class _Claim:
    """Flat indices of the points of a lattice that a piece asks for, the most first, and where it is."""

    tiers: tuple[np.ndarray, ...]
    centres_mm: np.ndarray


def _fine_enough(
    onward: Transform, back: Transform, here: Grid, there: Grid, bodies: Sequence[Body]
) -> tuple[Lattice, Lattice, list[_Claim]]:
    """Lattices of both directions, fine enough that no point has to move with two bodies, and what the bodies claim."""
    closest_mm = max(VOXELS_APART * here.voxel_mm, _spread_mm(here))
    other_mm = max(VOXELS_APART * there.voxel_mm, _spread_mm(there))
    while True:
        own, opposite = Lattice.of(onward, here, closest_mm), Lattice.of(back, there, other_mm)
        claims = [_body_claim(own, opposite, body) for body in bodies]
        if not _shared_out(own, [], claims)[1]:
            return own, opposite, claims
        if closest_mm <= here.finest_mm:
            break
        closest_mm, other_mm = closest_mm / 2, other_mm / 2
    own = Lattice(here, onward.displacement_on(here).disp_vox, Affine.identity())
    return own, opposite, [_body_claim(own, opposite, body) for body in bodies]


def _spread_mm(grid: Grid) -> float:
    """How far apart the points of a field over a scan are if there are as many as allowed."""
    axes = 2 if grid.is_2d else 3
    return float(np.prod((np.array(grid.shape) * grid.spacing_mm)[:axes]) / MOST_POINTS) ** (1 / axes)


def _body_claim(own: Lattice, opposite: Lattice, body: Body) -> _Claim:
    """Points around a body, then those of its voxels, then those of their centres.

    The widest ring holds what the other direction asks for, so that both stay each other's inverse.
    """
    solid, centres_mm = _solid(own, body), body.centres_mm()
    if body.share < 1:
        return _Claim((solid, solid, own.touched(centres_mm)), centres_mm)
    back = body.motion.inverse()
    asked = opposite.grid.voxel_to_world(
        np.array(np.unravel_index(_solid(opposite, body.inverse()), opposite.grid.shape)).T
    )
    ring = np.union1d(solid, own.touched(back.map_world(asked)))
    return _Claim((ring, solid, own.touched(centres_mm)), centres_mm)


def _solid(lattice: Lattice, body: Body) -> np.ndarray:
    """The points of a lattice that say where the voxels of a body go, the whole of each."""
    back = body.motion.inverse()
    own = [lattice.touched(piece.centres_mm, piece.grid.affine[:3, :3] / 2) for piece in body.here]
    turned = back.matrix[:3, :3]
    other = [
        lattice.touched(back.map_world(piece.centres_mm), turned @ piece.grid.affine[:3, :3] / 2)
        for piece in body.there
    ]
    return np.unique(np.concatenate([*own, *other]))


def _piece_claim(lattice: Lattice, piece: Piece) -> _Claim:
    solid = lattice.touched(piece.centres_mm, piece.grid.affine[:3, :3] / 2)
    return _Claim((solid, lattice.touched(piece.centres_mm)), piece.centres_mm)


def _shared_out(lattice: Lattice, weak: Sequence[_Claim], strong: Sequence[_Claim]) -> tuple[list[np.ndarray], bool]:
    """The points that each claim gets, weak ones first, and whether a point of the last tier was claimed by two.

    A point goes to the one that needs it more, by the last tier that claims it; of two of a tier to the nearer one.
    """
    owner = np.full(int(np.prod(lattice.grid.shape)), -1, np.int32)
    torn = False
    for first, claims in ((0, weak), (len(weak), strong)):
        for tier in range(max((len(claim.tiers) for claim in claims), default=0)):
            claimed = np.concatenate([claim.tiers[tier] for claim in claims])
            who = np.repeat(np.arange(len(claims)), [len(claim.tiers[tier]) for claim in claims])
            owner[claimed] = who + first
            points, times = np.unique(claimed, return_counts=True)
            contested = points[times > 1]
            torn = len(contested) > 0
            if torn:
                owner[contested] = first + _nearest(lattice, contested, claims, claimed, who)
    return [np.flatnonzero(owner == n) for n in range(len(weak) + len(strong))], torn


def _nearest(
    lattice: Lattice, points: np.ndarray, claims: Sequence[_Claim], claimed: np.ndarray, who: np.ndarray
) -> np.ndarray:
    """Which claim has a voxel nearest to each point, of those that claim it."""
    from scipy.spatial import cKDTree

    places = lattice.grid.voxel_to_world(np.array(np.unravel_index(points, lattice.grid.shape)).T)
    best, nearest = np.full(len(points), np.inf), np.zeros(len(points), int)
    for number in np.unique(who[np.isin(claimed, points)]):
        mine = np.isin(points, claimed[who == number])
        distance, _ = cKDTree(claims[number].centres_mm).query(places[mine])
        rows = np.flatnonzero(mine)[distance < best[mine]]
        best[rows] = distance[distance < best[mine]]
        nearest[rows] = number
    return nearest


def _inverse(own: Lattice, disp_vox: np.ndarray, opposite: Lattice, bodies: Sequence[Body]) -> Transform:
    """The other direction: inverted where the map has changed, with the motions of the bodies exact."""
    found = opposite.disp_vox.copy()
    box = _reached(own, disp_vox, opposite)
    if box is not None:
        part = opposite.grid.cropped(box)
        back = Composite.of(opposite.after, own.transform(disp_vox))
        inverted = invert(back, part, INVERSE_TOLERANCE * part.finest_mm)
        found[(slice(None), *box)] = inverted.transform.disp_vox
    claims = [
        _Claim((_solid(opposite, body), opposite.touched(body.centres_mm())), body.centres_mm()) for body in bodies
    ]
    for body, points in zip(bodies, _shared_out(opposite, [], claims)[0], strict=True):
        at = np.array(np.unravel_index(points, opposite.grid.shape), np.float64)
        matrix = opposite.to_voxels(body.motion.matrix @ opposite.grid.affine)
        found.reshape(3, -1)[:, points] = matrix[:3, :3] @ at + matrix[:3, 3:] - at
    return opposite.transform(found)


def _reached(own: Lattice, disp_vox: np.ndarray, opposite: Lattice) -> tuple[slice, slice, slice] | None:
    """The box of points of the other direction around where changed points go now and went before; None for none."""
    changed = np.flatnonzero((np.abs(disp_vox - own.disp_vox) > MOVED_VOX).any(axis=0))
    if len(changed) == 0:
        return None
    still = np.stack(np.unravel_index(changed, own.grid.shape)).astype(np.float64)
    reached = [still + field.reshape(3, -1)[:, changed] for field in (own.disp_vox, disp_vox)]
    world = own.after.map_world(own.grid.voxel_to_world(np.concatenate(reached, axis=1).T))
    there = opposite.grid.world_to_voxel(world)
    low = np.clip(np.floor(there.min(axis=0)) - 1, 0, np.array(opposite.grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(there.max(axis=0)) + 2, low + 1, opposite.grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k
