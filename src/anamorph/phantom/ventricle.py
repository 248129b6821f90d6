"""A beating or growing ventricle whose motion and strain are known in closed form.

The wall is a thick tube along the z axis. Its tissue keeps its volume, or grows by a known factor: a point at the
radius ``R`` comes to ``r^2 = growth (R^2 - inner^2) / stretch + r_inner^2`` (the thick-walled cylinder of continuum
mechanics), its height changes by the factor ``stretch``. The cavity is scaled with its wall; outside the motion dies
away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.image.series import ImageSeries
from anamorph.transforms.maps import Transform

CAVITY, WALL = 1, 2
INNER_MM, OUTER_MM, HALF_HEIGHT_MM = 22.0, 36.0, 38.0
"""Of the wall at rest."""
REACH_MM = 40.0
"""Outside the wall the change of height dies away over this distance."""
BLOOD, MUSCLE, CHEST = 700.0, 300.0, 450.0
WAVES, SHORTEST_MM, LONGEST_MM, TEXTURE = 24, 9.0, 28.0, 0.09
"""Of the texture that moves with the tissue: how many waves, of which lengths, and the amplitude of each."""
BORDER_MM = 1.0


@dataclass(eq=False)
class VentricleMotion(Transform):
    """The exact map of points of the ventricle at rest to their places at one time.

    Args:
        squeeze: the inner radius is smaller by this share.
        shortening: the height is smaller by this share.
        growth: factor of the volume of the wall; 1 for muscle, which keeps its volume.
        backwards: map points of that time to the ventricle at rest instead.
    """

    squeeze: float = 0.0
    shortening: float = 0.0
    growth: float = 1.0
    backwards: bool = False

    @property
    def inner_mm(self) -> float:
        """The inner radius at that time."""
        return INNER_MM * (1 - self.squeeze)

    @property
    def outer_mm(self) -> float:
        """The outer radius at that time."""
        return float(self._radius(np.array(OUTER_MM)))

    def strain(self, radius_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Radial, circumferential and longitudinal Green-Lagrange strain at radii within the wall at rest, mm."""
        stretch, now_mm = 1 - self.shortening, self._radius(radius_mm)
        along = np.full(np.shape(radius_mm), stretch)
        radial, around = self.growth * radius_mm / (stretch * now_mm), now_mm / radius_mm
        return (radial**2 - 1) / 2, (around**2 - 1) / 2, (along**2 - 1) / 2

    def inverse(self) -> VentricleMotion:
        return self._turned(replace(self, backwards=not self.backwards))

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        points_mm = np.asarray(points_mm, np.float64)
        across, height = points_mm[..., :2], points_mm[..., 2:]
        radius = np.linalg.norm(across, axis=-1, keepdims=True)
        if self.backwards:
            there = self._radius_at_rest(radius)
            height = height / self._stretch(there)
        else:
            there = self._radius(radius)
            height = height * self._stretch(radius)
        return np.concatenate([across * (there / np.maximum(radius, 1e-9)), height], axis=-1)

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        positions_vox[:] = grid.world_to_voxel(self.map_world(grid.voxel_to_world(positions_vox.T))).T

    def _radius(self, rest_mm: np.ndarray) -> np.ndarray:
        within = np.clip(rest_mm, INNER_MM, OUTER_MM)
        wall = self.growth * (within**2 - INNER_MM**2) / (1 - self.shortening) + self.inner_mm**2
        outside = np.maximum(rest_mm, OUTER_MM) ** 2 - OUTER_MM**2
        return np.where(rest_mm < INNER_MM, rest_mm * (1 - self.squeeze), np.sqrt(wall + outside))

    def _radius_at_rest(self, now_mm: np.ndarray) -> np.ndarray:
        within = np.clip(now_mm, self.inner_mm, self.outer_mm)
        wall = (within**2 - self.inner_mm**2) * (1 - self.shortening) / self.growth + INNER_MM**2
        outside = np.maximum(now_mm, self.outer_mm) ** 2 - self.outer_mm**2
        return np.where(now_mm < self.inner_mm, now_mm / (1 - self.squeeze), np.sqrt(wall + outside))

    def _stretch(self, rest_mm: np.ndarray) -> np.ndarray:
        beyond = np.maximum(rest_mm - OUTER_MM, 0) / REACH_MM
        return 1 - self.shortening * np.exp(-(beyond**2))


@dataclass(frozen=True)
class PhantomSeries:
    """A series of scans with everything that its registration could be judged by.

    Args:
        series: the scans; the first shows the ventricle at rest.
        labels: of each frame, 1 for the cavity and 2 for the wall.
        motions: the exact map of points of the first frame to those of each frame.
    """

    series: ImageSeries
    labels: tuple[Labels, ...]
    motions: tuple[VentricleMotion, ...]

    def mean_strain(self, frame: int, axis: int) -> float:
        """The mean strain of the labelled wall at rest: axis 0 radial, 1 circumferential, 2 longitudinal."""
        grid = self.series.grid
        inside = grid.voxel_to_world(np.argwhere(self.labels[0].data[0] == WALL))
        radius = np.clip(np.linalg.norm(inside[:, :2], axis=1), INNER_MM, OUTER_MM)
        return float(self.motions[frame].strain(radius)[axis].mean())


def make_beat(
    frames: int = 10,
    shape: Sequence[int] = (60, 60, 44),
    spacing_mm: float | Sequence[float] = 2.0,
    seed: int = 0,
    *,
    squeeze: float = 0.25,
    shortening: float = 0.12,
    growth: float = 1.0,
    noise: float = 12.0,
    frame_s: float | None = None,
) -> PhantomSeries:
    """Make a series of MR-like scans of a beating ventricle, or of one whose wall grows.

    All frames read one continuous anatomy with a texture that moves with the tissue. A beat goes from rest to the full
    contraction and back as a squared sine, so that the frame after the last would be the first again; growth goes on
    evenly from the first frame to the last. A shape of one voxel along the third axis is a short-axis slice, and the
    motion stays in its plane.

    Args:
        frames: at least two.
        shape: ``(I, J, K)``, axes RAS, centred on the ventricle.
        spacing_mm: one number or one per axis.
        seed: of the texture and the noise.
        squeeze: share by which the inner radius shrinks at the height of a beat.
        shortening: share by which the height shrinks.
        growth: factor of the volume of the wall in the last frame.
        noise: standard deviation, where muscle is 300.
        frame_s: seconds between frames; by default those of a beat of one second.

    Raises:
        UserError: a number out of range.
    """
    if frames < 2 or not (0 <= squeeze < 0.8 and 0 <= shortening < 0.8 and 0.2 < growth < 5 and noise >= 0):
        raise UserError("a beat needs two frames, shares in [0, 0.8), a growth in (0.2, 5) and noise >= 0")
    planar = shape[2] == 1
    spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    grid = Grid((shape[0], shape[1], shape[2]), spacing_mm=spacing, origin_mm=-spacing * (np.array(shape) - 1) / 2)
    beats = np.sin(np.pi * np.arange(frames) / frames) ** 2
    motions = tuple(
        VentricleMotion(squeeze * beat, 0.0 if planar else shortening * beat, growth ** (number / (frames - 1)))
        for number, beat in enumerate(beats)
    )
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(frames + 1)]
    texture = Texture(streams[0])
    rendered = [_render(motion, grid, texture, noise, rng) for motion, rng in zip(motions, streams[1:], strict=True)]
    scans = tuple(Image(scan, grid, f"frame {number}") for number, (scan, _) in enumerate(rendered))
    labels = tuple(Labels(found, grid, f"labels {number}") for number, (_, found) in enumerate(rendered))
    return PhantomSeries(ImageSeries(scans, 1 / frames if frame_s is None else frame_s, "beat"), labels, motions)


class Texture:
    """Waves of random directions, lengths and phases: a factor of the brightness of each point of the tissue."""

    def __init__(self, rng: np.random.Generator) -> None:
        directions = rng.standard_normal((WAVES, 3))
        lengths = rng.uniform(SHORTEST_MM, LONGEST_MM, WAVES)
        self.waves = 2 * np.pi * directions / np.linalg.norm(directions, axis=1, keepdims=True) / lengths[:, None]
        self.phases = rng.uniform(0, 2 * np.pi, WAVES)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        factor = np.ones(len(points_mm))
        for wave, phase in zip(self.waves, self.phases, strict=True):
            factor += TEXTURE * np.cos(points_mm @ wave + phase)
        return factor


def _render(
    motion: VentricleMotion, grid: Grid, texture: Texture, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A scan (int16) and its labels (uint8)."""
    sites = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    rest = motion.inverse().map_world(sites)
    radius, height = np.linalg.norm(rest[:, :2], axis=1), np.abs(rest[:, 2])
    inside = [_share(limit - radius) * _share(HALF_HEIGHT_MM - height) for limit in (OUTER_MM, INNER_MM)]
    wave = texture(rest)
    values = CHEST * wave
    for share, brightness in zip(inside, (MUSCLE * wave, np.full(len(rest), BLOOD)), strict=True):
        values += share * (brightness - values)
    values += noise * rng.standard_normal(len(values))
    within = height <= HALF_HEIGHT_MM
    labels = np.where(within & (radius <= OUTER_MM), np.where(radius < INNER_MM, CAVITY, WALL), 0)
    scan = np.clip(np.rint(values), 0, 4000).astype(np.int16)
    return scan.reshape(grid.shape), labels.astype(np.uint8).reshape(grid.shape)


def _share(distance_mm: np.ndarray) -> np.ndarray:
    """How much of a point belongs to a tissue whose border is that far away, inside positive."""
    return np.clip(distance_mm / (2 * BORDER_MM) + 0.5, 0, 1)
