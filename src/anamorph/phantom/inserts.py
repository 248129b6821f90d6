"""Phantoms with rods that move rigidly and a lesion that grows, and with what one scan alone shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.phantom.pair import FIELD_OF_VIEW_MM, PhantomPair, make_pair
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.maps import Affine, Displacement, Transform


@dataclass(frozen=True)
class Insert:
    """An ellipsoid of the fixed scan: its middle and half axes, RAS mm, and its intensity."""

    middle_mm: tuple[float, float, float]
    half_mm: tuple[float, float, float]
    hu: float

    def depth_mm(self, points: np.ndarray) -> np.ndarray:
        """``(N,)`` depth of points below its surface, negative outside, about in mm."""
        half = np.array(self.half_mm)
        away = (points - self.middle_mm) / half
        relative = np.linalg.norm(away, axis=1)
        slope = np.linalg.norm(away / half, axis=1) / np.maximum(relative, 1e-6)
        return (1 - relative) / np.maximum(slope, 1 / half.max())

    def motion(self, transform: Transform, model: str) -> Affine:
        """The map of a model, rigid or affine, nearest to a transform inside."""
        at = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
        inside = self.middle_mm + at[np.linalg.norm(at, axis=1) <= 1] * self.half_mm
        return Affine(fit_linear(inside, transform.map_world(inside), "rigid" if model == "rigid" else "affine"))


RODS = (
    Insert((-58.0, 8.0, -70.0), (9.0, 9.0, 34.0), 1400.0),
    Insert((62.0, -12.0, -10.0), (26.0, 9.0, 9.0), 1400.0),
    Insert((8.0, 44.0, -60.0), (20.0, 8.0, 14.0), 1400.0),
)
LESION = Insert((58.0, 20.0, -100.0), (17.0, 17.0, 17.0), 220.0)
FADING_MM = 22.0
"""Over which the motion of a rod fades into that of the tissue."""
LATTICE_MM = 4.0
MARGIN_MM = 7.5
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
    shape: tuple[int, int, int] = (96, 80, 88), seed: int = 0, growth: float = 1.5, deformation_mm: float = 15.0
) -> InsertPair:
    """Make two scans of one anatomy in which rods have moved rigidly and a lesion has changed its size.

    Args:
        shape: of both scans.
        seed: any whole number >= 0.
        growth: volume of the lesion in the moving scan, as a multiple of that in the fixed one.
        deformation_mm: largest length of the non-linear part of the motion of the tissue.
    """
    motions: list[Affine] = []

    def with_inserts(free: Transform) -> Transform:
        motions.extend(rod.motion(free, "rigid") for rod in RODS)
        return _true_map(free, motions, growth)

    pair = make_pair(shape, seed=seed, deformation_mm=deformation_mm, alter=with_inserts)
    still = [Affine.identity()] * (len(RODS) + 1)
    moved = [*motions, LESION.motion(pair.true_fixed_to_moving, "affine")]
    fixed, rods, lesion = drawn(pair.fixed, (*RODS, LESION), still)
    moving, moving_rods, moving_lesion = drawn(pair.moving, (*RODS, LESION), moved)
    scans = dataclasses.replace(pair, fixed=fixed, moving=moving)
    return InsertPair(scans, rods, moving_rods, lesion, moving_lesion, tuple(motions))


def _true_map(free: Transform, motions: list[Affine], growth: float) -> Transform:
    """A map of tissue in which the lesion grows and the rods move rigidly, on a lattice of its own."""
    lattice, points = _lattice()
    so_far = np.linalg.det(LESION.motion(free, "affine").matrix[:3, :3])
    stretch = (growth / so_far) ** (1 / 3) - 1
    fading = _fade(-LESION.depth_mm(points), 2 * LESION.half_mm[0])
    target = free.map_world(points + stretch * fading[:, None] * (points - LESION.middle_mm))
    change = np.zeros_like(points)
    for rod, motion in zip(RODS, motions, strict=True):
        weight = _fade(-rod.depth_mm(points) - MARGIN_MM, FADING_MM)
        change += weight[:, None] * (motion.map_world(points) - target)
    return Displacement.from_world((target + change - points).T.reshape(3, *lattice.shape), lattice)


def _lattice() -> tuple[Grid, np.ndarray]:
    """The lattice of true maps, and its points ``(N, 3)``, RAS mm."""
    half = np.ceil(np.array(FIELD_OF_VIEW_MM) / LATTICE_MM / 2)
    i, j, k = (2 * half + 1).astype(int)
    lattice = Grid((int(i), int(j), int(k)), spacing_mm=LATTICE_MM, origin_mm=-LATTICE_MM * half)
    return lattice, lattice.voxel_to_world(np.moveaxis(np.indices(lattice.shape), 0, -1)).reshape(-1, 3)


def _fade(distance_mm: np.ndarray, over_mm: float) -> np.ndarray:
    """1 up to a distance of 0, 0 from ``over_mm`` on, smooth between."""
    left = np.clip(1 - distance_mm / over_mm, 0, 1)
    return left * left * (3 - 2 * left)


def drawn(image: Image, inserts: Sequence[Insert], motions: list[Affine]) -> tuple[Image, Labels, Labels]:
    """A scan with inserts where motions take them, the labels of all but the last, and that of the last."""
    grid = image.grid
    points = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)).reshape(-1, 3)
    hu, named = image.data.reshape(-1).astype(np.float64), np.zeros(len(points), np.uint8)
    for number, (insert, motion) in enumerate(zip(inserts, motions, strict=True), 1):
        depth = insert.depth_mm(motion.inverse().map_world(points))
        hu += np.clip(0.5 + depth / grid.voxel_mm, 0, 1) * (insert.hu - hu)
        named[depth >= 0] = number
    named = named.reshape(grid.shape)
    values = np.rint(hu).astype(image.data.dtype).reshape(image.data.shape)
    last = named == len(inserts)
    rods = Labels(np.where(last, 0, named), grid, f"{image.name} rods")
    return Image(values, grid, image.name), rods, Labels(last.astype(np.uint8), grid, f"{image.name} lesion")


@dataclass(frozen=True)
class UnmatchedPair:
    """Two scans of one anatomy of which each shows something that the other does not.

    Args:
        scans: with the true map of the tissue that both show; in the regions it is continued, and means nothing.
        fixed_only: what of the fixed scan has no partner.
        moving_only: what of the moving scan has no partner.
    """

    scans: PhantomPair
    fixed_only: Labels
    moving_only: Labels


def make_resection_pair(
    shape: tuple[int, int, int] = (96, 80, 88), seed: int = 0, radius_mm: float = 18.0, hu: float = 5.0
) -> UnmatchedPair:
    """Make two scans of one anatomy; in the fixed one a ball deep in the largest organ has become a cavity.

    Args:
        shape: of both scans.
        seed: any whole number >= 0.
        radius_mm: of the cavity.
        hu: of what fills it: 5 for fluid, -1000 for air.
    """
    pair = make_pair(shape, seed=seed)
    cavity = Insert(deepest_mm(pair.fixed_labels), (radius_mm, radius_mm, radius_mm), hu)
    return _unmatched(pair, cavity, "fixed")


def make_growth_pair(
    shape: tuple[int, int, int] = (96, 80, 88), seed: int = 0, radius_mm: float = 18.0, hu: float = 20.0
) -> UnmatchedPair:
    """Make two scans of one anatomy; in the moving one a lesion has grown deep in the largest organ.

    It takes the place of a ball half as wide and pushes aside what surrounds that, over four of its radii.

    Args:
        shape: of both scans.
        seed: any whole number >= 0.
        radius_mm: of the lesion.
        hu: of the lesion.
    """
    half = radius_mm / 2
    middle = np.array(deepest_mm(make_pair(shape, seed=seed).fixed_labels))
    lesion = Insert((middle[0], middle[1], middle[2]), (half, half, half), hu)

    def pushed(free: Transform) -> Transform:
        lattice, points = _lattice()
        away = points - middle
        grown = points + _fade(-lesion.depth_mm(points), 4 * half)[:, None] * away
        return Displacement.from_world((free.map_world(grown) - points).T.reshape(3, *lattice.shape), lattice)

    return _unmatched(make_pair(shape, seed=seed, alter=pushed), lesion, "moving")


def _unmatched(pair: PhantomPair, region: Insert, shown_in: Literal["fixed", "moving"]) -> UnmatchedPair:
    """A pair with a region drawn into one scan, and where it is in both."""
    there = region.motion(pair.true_fixed_to_moving, "affine")
    fixed, _, fixed_only = drawn(pair.fixed, (region,), [Affine.identity()])
    moving, _, moving_only = drawn(pair.moving, (region,), [there])
    shown = dataclasses.replace(pair, fixed=fixed) if shown_in == "fixed" else dataclasses.replace(pair, moving=moving)
    return UnmatchedPair(shown, fixed_only, moving_only)


def deepest_mm(labels: Labels) -> tuple[float, float, float]:
    """The place in the largest organ that is farthest from its surface, RAS mm."""
    from scipy.ndimage import distance_transform_edt

    sizes = np.bincount(labels.data.ravel())
    depth = distance_transform_edt(labels.data[0] == 1 + sizes[1:].argmax(), sampling=labels.grid.spacing_mm)
    deepest = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    x, y, z = labels.grid.voxel_to_world(deepest)
    return float(x), float(y), float(z)
