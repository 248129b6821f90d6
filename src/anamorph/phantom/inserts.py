"""A phantom with rods that move rigidly in soft tissue, and a lesion that grows or shrinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.phantom.pair import FIELD_OF_VIEW_MM, PhantomPair, make_pair
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.maps import Affine, Displacement, Transform

ROD_HU, LESION_HU = 1400.0, 220.0
RODS = (
    ((-58.0, 8.0, -70.0), (9.0, 9.0, 34.0)),
    ((62.0, -12.0, -10.0), (26.0, 9.0, 9.0)),
    ((8.0, 44.0, -60.0), (20.0, 8.0, 14.0)),
)
"""Middles and half axes in the fixed scan, RAS mm."""
LESION = ((58.0, 20.0, -100.0), (17.0, 17.0, 17.0))
FADING_MM = 22.0
"""Over which the motion of a rod fades into that of the tissue."""
LATTICE_MM = 3.0
MARGIN_MM = 6.0
"""Around a rod that moves with it: more than the diagonal of a cell of the lattice."""


@dataclass(frozen=True)
class InsertPair:
    """Two scans with rods and a lesion.

    Args:
        scans: with the true map: it moves each rod rigidly, and the lesion with the growth.
        rods: the rods in the fixed scan, numbered from 1.
        moving_rods: the same in the moving scan.
        lesion: the lesion in the fixed scan.
        moving_lesion: the same in the moving scan.
        motions: of the rods, fixed to moving points.
    """

    scans: PhantomPair
    rods: Labels
    moving_rods: Labels
    lesion: Labels
    moving_lesion: Labels
    motions: tuple[Affine, ...]


def make_insert_pair(
    shape: tuple[int, int, int] = (96, 80, 88), seed: int = 0, growth: float = 1.5, **limits: float
) -> InsertPair:
    """Make two scans of one anatomy in which rods have moved rigidly and a lesion has changed its size.

    Args:
        shape: of both scans.
        seed: any whole number >= 0.
        growth: volume of the lesion in the moving scan, as a multiple of that in the fixed one.
        limits: of the deformation, as in :func:`~anamorph.phantom.pair.make_pair`.
    """
    motions: list[Affine] = []

    def with_inserts(free: Transform) -> Transform:
        lattice = _lattice()
        points = lattice.voxel_to_world(np.moveaxis(np.indices(lattice.shape), 0, -1)).reshape(-1, 3)
        middle, axes = (np.array(values) for values in LESION)
        away = points - middle
        radius = np.linalg.norm(away, axis=1)
        ball = points[radius <= axes[0]]
        so_far = np.linalg.det(fit_linear(ball, free.map_world(ball), "affine")[:3, :3])
        stretch = (growth / so_far) ** (1 / 3) - 1
        grown = points + away * (stretch * _fade(radius - axes[0], 2 * axes[0]))[:, None]
        target = free.map_world(grown)
        change = np.zeros_like(points)
        for centre, half in RODS:
            inside = points[_depth_mm(points, np.array(centre), np.array(half)) >= 0]
            motion = Affine(fit_linear(inside, free.map_world(inside), "rigid"))
            motions.append(motion)
            weight = _fade(-_depth_mm(points, np.array(centre), np.array(half)) - MARGIN_MM, FADING_MM)
            change += weight[:, None] * (motion.map_world(points) - target)
        vectors = (target + change - points).T.reshape(3, *lattice.shape)
        return Displacement.from_world(vectors, lattice)

    pair = make_pair(shape, seed=seed, alter=with_inserts, **limits)
    scans, rods, lesions = [], [], []
    for image, moves in ((pair.fixed, False), (pair.moving, True)):
        points = image.grid.voxel_to_world(np.moveaxis(np.indices(image.grid.shape), 0, -1)).reshape(-1, 3)
        if moves:
            depths = [
                _depth_mm(motion.inverse().map_world(points), np.array(centre), np.array(half))
                for motion, (centre, half) in zip(motions, RODS, strict=True)
            ]
            lesion = _depth_mm(_back_to_lesion(points, pair.true_fixed_to_moving), *map(np.array, LESION))
        else:
            depths = [_depth_mm(points, np.array(centre), np.array(half)) for centre, half in RODS]
            lesion = _depth_mm(points, *map(np.array, LESION))
        voxel = image.grid.voxel_mm
        hu = image.data.reshape(-1).astype(np.float64)
        named = np.zeros(len(points), np.uint8)
        for number, (depth, value) in enumerate([*((d, ROD_HU) for d in depths), (lesion, LESION_HU)], 1):
            share = np.clip(0.5 + depth / voxel, 0, 1)
            hu += share * (value - hu)
            named[depth >= 0] = number
        scans.append(Image(np.rint(hu).astype(image.data.dtype).reshape(image.data.shape), image.grid, image.name))
        named = named.reshape(image.grid.shape)
        last = len(RODS) + 1
        rods.append(Labels(np.where(named < last, named, 0), image.grid, f"{image.name} rods"))
        lesions.append(Labels((named == last).astype(np.uint8), image.grid, f"{image.name} lesion"))
    whole = PhantomPair(
        scans[0], scans[1], pair.fixed_labels, pair.moving_labels, pair.fixed_points, pair.moving_points,
        pair.true_fixed_to_moving,
    )  # fmt: skip
    return InsertPair(whole, *rods, *lesions, tuple(motions))


def _lattice() -> Grid:
    shape = tuple(int(np.ceil(side / LATTICE_MM)) + 1 for side in FIELD_OF_VIEW_MM)
    half = LATTICE_MM * (np.array(shape) - 1) / 2
    return Grid((shape[0], shape[1], shape[2]), spacing_mm=LATTICE_MM, origin_mm=-half)


def _fade(distance_mm: np.ndarray, over_mm: float) -> np.ndarray:
    """1 up to a distance of 0, 0 from ``over_mm`` on, smooth between."""
    left = np.clip(1 - distance_mm / over_mm, 0, 1)
    return left * left * (3 - 2 * left)


def _depth_mm(points: np.ndarray, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Depth below the surface of an ellipsoid, negative outside, about in mm."""
    away = (points - centre) / half
    relative = np.linalg.norm(away, axis=1)
    slope = np.linalg.norm(away / half, axis=1) / np.maximum(relative, 1e-6)
    return (1 - relative) / np.maximum(slope, 1 / half.max())


def _back_to_lesion(points: np.ndarray, true: Transform) -> np.ndarray:
    """Points of the moving scan in the fixed one, by the linear part of the map in the lesion."""
    middle, half = map(np.array, LESION)
    inside = middle + half * np.random.default_rng(0).uniform(-0.6, 0.6, (500, 3))
    return Affine(fit_linear(inside, true.map_world(inside), "affine")).inverse().map_world(points)
