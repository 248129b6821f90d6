"""All rotations, each with all translations, on very small volumes that do not depend on directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.features.intensity import IntensityKind, intensity_lanes
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.start.translations import Correlator
from anamorph.methods.start.volumes import ScanPair, Volume, weights
from anamorph.methods.working_frame import Scan, covering_grid
from anamorph.transforms import Affine

VOXELS = 12
"""Along the longest axis of the fixed scan."""
MOST_VOXELS = 24
"""Along the longest axis of the moving scan, which may be far larger."""
COVERING_DEG = 45.0
"""Spacing of the rotations that are tried first."""
FINER_DEG = (20.0, 10.0)
"""Turns that are tried around the best of them."""
AT_ONCE = 8
"""Rotations that are transformed together."""
FOLLOWED = 5
POSE_BYTES = 8 * 2**20 * AT_ONCE
"""Memory of the transforms of so many rotations."""
APART_DEG = 35.0
LEAST_OVERLAP = 0.4
EDGE_WEIGHT = 0.3
"""Of the size of the gradient beside intensities."""


@dataclass(frozen=True)
class Pose:
    """A rigid start and what it explains of the small volumes."""

    transform: Affine
    explained: float


def covering_rotations(spacing_deg: float) -> np.ndarray:
    """``(N, 3, 3)`` rotations that cover SO(3) evenly, the identity first (super-Fibonacci spirals, Alexa 2022)."""
    from scipy.spatial.transform import Rotation

    count = round(8 * np.pi**2 / np.deg2rad(spacing_deg) ** 3)
    psi = 1.533751168755204288118041
    index = np.arange(count) + 0.5
    inner, outer = np.sqrt(index / count), np.sqrt(1 - index / count)
    alpha, beta = 2 * np.pi * index / np.sqrt(2), 2 * np.pi * index / psi
    quaternions = [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)]
    found = Rotation.from_quat(np.stack(quaternions, axis=-1)).as_matrix()
    return np.concatenate([np.eye(3)[None], found])


class PoseSearch:
    """Small volumes of both scans, and what each rotation of the moving one explains under its best translation."""

    def __init__(self, pair: ScanPair) -> None:
        fixed, moving = pair.fixed.grid, pair.moving.grid
        self.spacing_mm = max(fixed.longest_mm / VOXELS, moving.longest_mm / MOST_VOXELS)
        directions = fixed.directions
        here = covering_grid(fixed, directions, self.spacing_mm)
        there = covering_grid(moving, moving.directions, self.spacing_mm)
        self.fixed, self.moving = small(pair.fixed, here, pair.kind), small(pair.moving, there, pair.kind)
        # A cube in which the moving scan can turn: the axes are those of the fixed scan.
        corners = self.moving.grid.corners_mm() - self.moving.grid.centre_mm
        side = int(np.ceil(2 * np.linalg.norm(corners, axis=1).max() / self.spacing_mm))
        offsets = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 3, indexing="ij"))
        self.cube_mm = (directions @ (self.spacing_mm * offsets.reshape(3, -1))).reshape(3, side, side, side)
        self.side = side
        self.correlator = Correlator(pair, self.fixed, self.moving, (side,) * 3)

    def better(self, count: int = 2) -> list[Pose]:
        """The best poses that explain more than the one without rotation, each refined; best first."""
        from scipy.spatial.transform import Rotation

        rotations = covering_rotations(COVERING_DEG)
        poses = self.poses(rotations)
        order = np.argsort([-pose.explained for pose in poses[1:]], kind="stable") + 1
        followed: list[int] = []
        for i in order:
            turns = [Rotation.from_matrix(rotations[i] @ rotations[j].T).magnitude() for j in [0, *followed]]
            if np.rad2deg(min(turns)) > APART_DEG:
                followed.append(int(i))
            if len(followed) == FOLLOWED:
                break
        around = np.concatenate([np.eye(3), -np.eye(3)])
        refined = []
        for i in [0, *followed]:
            rotation, pose = rotations[i], poses[i]
            for turn_deg in FINER_DEG:
                nearby = Rotation.from_rotvec(np.deg2rad(turn_deg) * around).as_matrix() @ rotation
                tried = self.poses(nearby)
                top = int(np.argmax([p.explained for p in tried]))
                if tried[top].explained > pose.explained:
                    rotation, pose = nearby[top], tried[top]
            refined.append(pose)
        better = [pose for pose in refined[1:] if pose.explained > refined[0].explained]
        return sorted(better, key=lambda pose: -pose.explained)[:count]

    def poses(self, rotations: np.ndarray, at_once: int = AT_ONCE) -> list[Pose]:
        """The best translation of each rotation ``(N, 3, 3)``."""
        found: list[Pose] = []
        for first in range(0, len(rotations), at_once):
            found += self._poses(rotations[first : first + at_once])
        return found

    def _poses(self, rotations: np.ndarray) -> list[Pose]:
        moving = self.moving
        channels = np.concatenate([np.moveaxis(moving.descriptor, -1, 0), moving.weight[None], moving.body[None]])
        inverse = np.linalg.inv(self.moving.grid.affine[:3, :3])
        middle = (np.array(self.moving.grid.shape)[:, None] - 1) / 2
        turned = []
        for rotation in rotations:
            positions = (inverse @ rotation @ self.cube_mm.reshape(3, -1) + middle).astype(np.float32)
            turned.append(sample(channels, positions.reshape(3, *self.cube_mm.shape[1:]), fill=0.0))
        volumes = np.stack(turned)
        explained, _ = self.correlator.explained(volumes[:, :-2], volumes[:, -2], volumes[:, -1], LEAST_OVERLAP)
        poses = []
        for rotation, values in zip(rotations, explained, strict=True):
            index = np.array(np.unravel_index(int(values.argmax()), values.shape))
            shift = np.where(index < self.side, index, index - np.array(values.shape))
            # Fixed voxel 0 meets voxel `shift` of the cube around the middle of the moving scan.
            cube_corner = self.fixed.grid.directions @ (self.spacing_mm * (shift - (self.side - 1) / 2))
            matrix = np.eye(4)
            matrix[:3, :3] = rotation
            offset = cube_corner - self.fixed.grid.origin_mm
            matrix[:3, 3] = self.moving.grid.centre_mm + rotation @ offset
            poses.append(Pose(Affine(matrix), float(values.max())))
        return poses


def small(scan: Scan, grid: Grid, kind: IntensityKind) -> Volume:
    """What can be compared under any rotation: intensities where they compare, and the size of the gradient."""
    read = scan.onto(grid, Affine.identity())
    weight, body = weights(read, kind)
    lanes = []
    for channel in read.channels:
        lanes += intensity_lanes(channel, kind)
        steps = [np.gradient(channel, axis=axis) for axis in range(3) if channel.shape[axis] > 1]
        edge = np.sqrt(sum((step**2 for step in steps), np.zeros_like(channel)))
        lanes.append(EDGE_WEIGHT * edge / max(float(edge.mean()), 1e-6))
    return Volume(np.stack(lanes, axis=-1).astype(np.float32), weight, body, grid)
