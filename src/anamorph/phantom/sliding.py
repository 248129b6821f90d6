"""A phantom whose inner organs slide along the wall of the trunk, as at the pleura and the peritoneum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.phantom.pair import random_affine, random_diffeomorphism
from anamorph.phantom.ventricle import Texture
from anamorph.transforms.maps import Composite, Transform

INNER_MM, SKIN_MM = (92.0, 62.0), (125.0, 95.0)
"""Half axes of the elliptic cylinders along z: of the inner organs, which slide, and of the trunk."""
MIDDLE_MM, FADING_MM = 60.0, 70.0
"""The sliding grows downwards: organs slide by half at this height, by all about this much further down."""
AIR_HU, ORGAN_HU, WALL_HU, CONTRAST_HU = -1000.0, 120.0, 20.0, 150.0
TRANSLATION_MM, ROTATION_DEG, SCALE = 5.0, 2.0, 0.02
FIXED_POINT_STEPS = 40


@dataclass(eq=False)
class SlidingMotion(Transform):
    """Organs slide along the wall, then both sides follow a smooth map: at the surface between them the map jumps.

    Args:
        slide_mm: by how much the organs slide at the lower end; upwards if positive.
        free: what both sides do after it.
        undone: the map the other way.
    """

    slide_mm: float
    free: Transform
    undone: bool = False

    def inverse(self) -> SlidingMotion:
        return self._turned(SlidingMotion(self.slide_mm, self.free.inverse(), not self.undone))

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        points_mm = np.asarray(points_mm, np.float64)
        if not self.undone:
            return self.free.map_world(self.slid(points_mm))
        target = self.free.map_world(points_mm)
        points = target.copy()
        for _ in range(FIXED_POINT_STEPS):
            points += target - self.slid(points)
        return points

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        positions_vox[:] = grid.world_to_voxel(self.map_world(grid.voxel_to_world(positions_vox.T))).T

    def slid(self, points_mm: np.ndarray) -> np.ndarray:
        """``(N, 3)``: where points of the fixed scan slide to."""
        share = (1 - np.tanh((points_mm[:, 2] - MIDDLE_MM) / FADING_MM)) / 2
        along = np.where(depth_mm(points_mm) > 0, self.slide_mm * share, 0)
        return points_mm + np.column_stack([0 * along, 0 * along, along])


def depth_mm(points_mm: np.ndarray, half_mm: tuple[float, float] = INNER_MM) -> np.ndarray:
    """``(N,)`` depth of points of the fixed scan below the surface of a cylinder, negative outside, about in mm."""
    half = np.array(half_mm)
    away = points_mm[:, :2] / half
    relative = np.linalg.norm(away, axis=1)
    slope = np.linalg.norm(away / half, axis=1) / np.maximum(relative, 1e-6)
    return (1 - relative) / np.maximum(slope, 1 / half.max())


@dataclass(frozen=True)
class SlidingPair:
    """Two scans between which inner organs have slid along the wall.

    Args:
        fixed: the scan that stays.
        moving: the other scan.
        inner: what slides, in the fixed scan.
        moving_inner: the same in the moving scan.
        true_fixed_to_moving: the exact map, which jumps at the surface of what slides.
    """

    fixed: Image
    moving: Image
    inner: Labels
    moving_inner: Labels
    true_fixed_to_moving: SlidingMotion


def make_sliding_pair(
    shape: tuple[int, int, int] = (96, 76, 72),
    spacing_mm: float = 3.0,
    seed: int = 0,
    *,
    slide_mm: float = 15.0,
    deformation_mm: float = 6.0,
    noise_hu: float = 15.0,
) -> SlidingPair:
    """Make two CT-like scans (int16, HU) of a trunk whose inner organs have slid along its wall.

    Organs and wall have textures of their own, which move with them. Beside the sliding, both sides follow one random
    smooth map. The same arguments give the same bits.

    Args:
        shape: of both scans, axes RAS, centred on the trunk.
        spacing_mm: of both scans.
        seed: any whole number >= 0.
        slide_mm: by how much the organs slide at the lower end, along the trunk.
        deformation_mm: largest length of the non-linear part of what both sides do.
        noise_hu: standard deviation of the noise.

    Raises:
        UserError: a number out of range.
    """
    if not (abs(slide_mm) <= FADING_MM and 0 <= deformation_mm <= 30 and noise_hu >= 0 and seed >= 0):
        raise UserError(
            f"a phantom slides by no more than {FADING_MM:g} mm and deforms by 0 to 30, with noise and seed >= 0"
        )
    grid = Grid(shape, spacing_mm=spacing_mm, origin_mm=-spacing_mm * (np.array(shape) - 1) / 2)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    free = Composite.of(
        random_affine(streams[0], TRANSLATION_MM, ROTATION_DEG, SCALE, planar=False),
        random_diffeomorphism(streams[1], deformation_mm, planar=False),
    )
    motion = SlidingMotion(slide_mm, free)
    textures = Texture(streams[2]), Texture(streams[2])
    sites = grid.voxel_to_world(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3))
    places = motion.slid(sites), free.inverse().map_world(sites)
    scans, inner = [], []
    for name, at, rng in zip(("fixed", "moving"), places, streams[3:], strict=True):
        hu = _drawn(at, textures, spacing_mm) + noise_hu * rng.standard_normal(len(at))
        scans.append(Image(np.rint(hu).astype(np.int16).reshape(shape), grid, f"phantom {name}"))
        inner.append(Labels((depth_mm(at) > 0).astype(np.uint8).reshape(shape), grid, f"phantom {name} inner organs"))
    return SlidingPair(scans[0], scans[1], inner[0], inner[1], motion)


def _drawn(points_mm: np.ndarray, textures: tuple[Texture, Texture], width_mm: float) -> np.ndarray:
    """HU at points of the anatomy: organs, wall and air, each blurred into the next over the width of a voxel."""
    organs, wall = (
        hu + CONTRAST_HU * (texture(points_mm) - 1) for hu, texture in zip((ORGAN_HU, WALL_HU), textures, strict=True)
    )
    within, trunk = (np.clip(0.5 + depth_mm(points_mm, half) / width_mm, 0, 1) for half in (INNER_MM, SKIN_MM))
    return AIR_HU + trunk * (wall + within * (organs - wall) - AIR_HU)
