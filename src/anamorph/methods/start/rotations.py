"""All rotations, each with all translations, on very small volumes that do not depend on directions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anamorph.features.intensity import IntensityKind, intensity_lanes
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.start.translations import Correlator
from anamorph.methods.start.volumes import AIR_WEIGHT, ScanPair, Volume, weights
from anamorph.methods.working_frame import Scan, covering_grid
from anamorph.transforms.affine import LinearModel
from anamorph.transforms.maps import Affine

VOXELS = (12, 16)
"""Along the longest axis of the fixed scan; the second where the first finds nothing."""
MOST_VOXELS = 24
"""Along the longest axis of the moving scan, which may be far larger."""
COVERING_DEG = 45.0
"""Spacing of the rotations that are tried first."""
FINER_DEG = (20.0, 10.0)
"""Turns that are tried around the best of them."""
AT_ONCE = 8
"""Rotations that are transformed together."""
FOLLOWED = 14
POSE_BYTES = 8 * 2**20 * AT_ONCE
"""Memory of the transforms of so many rotations."""
APART_DEG = 35.0
SIZES = 0.5, 2.0
"""Of the moving body beside the fixed one, at the least and at the most."""
LEAST_OVERLAP = 0.4
EDGE_WEIGHT = 0.3
"""Of the size of the gradient beside intensities."""


@dataclass(frozen=True)
class Pose:
    """A start by rotation and shift, scaled where the size is known, and what it explains of the small volumes."""

    transform: Affine
    explained: float
    is_turned: bool = True


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

    def __init__(self, pair: ScanPair, model: LinearModel, voxels: int) -> None:
        fixed, moving = body_grid(pair.fixed, pair.kind), body_grid(pair.moving, pair.kind)
        self.spacing_mm = max(fixed.longest_mm / voxels, moving.longest_mm / MOST_VOXELS)
        directions = fixed.directions
        here = covering_grid(fixed, directions, self.spacing_mm)
        there = covering_grid(moving, moving.directions, self.spacing_mm)
        self.fixed, self.moving = small(pair.fixed, here, pair.kind), small(pair.moving, there, pair.kind)
        self.scale = 1.0
        if model == "affine" and pair.fixed.is_masked and pair.moving.is_masked:
            # Both scans show a whole body, so that its size can be told before its pose.
            larger = np.cbrt(self.moving.body.sum() / max(float(self.fixed.body.sum()), 1e-9))
            self.scale = float(np.clip(larger, *SIZES))
        # A cube in which the moving scan can turn: the axes are those of the fixed scan.
        corners = (self.moving.grid.corners_mm() - self.moving.grid.centre_mm) / self.scale
        side = int(np.ceil(2 * np.linalg.norm(corners, axis=1).max() / self.spacing_mm))
        offsets = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 3, indexing="ij"))
        self.cube_mm = (directions @ (self.spacing_mm * offsets.reshape(3, -1))).reshape(3, side, side, side)
        self.side = side
        self.correlator = Correlator(pair, self.fixed, self.moving, (side,) * 3)

    def better(self, anyway: bool = False) -> list[Pose]:
        """The best poses that explain more than the one without rotation, each refined; best first.

        Where sizes are known, the one without rotation comes before them: nothing else has tried it at the right size.

        ``anyway`` refines them even where none of the covering explains more than the one without rotation.
        """
        from scipy.spatial.transform import Rotation

        rotations = covering_rotations(COVERING_DEG)
        poses = self.poses(rotations)
        plain = [replace(poses[0], is_turned=False)] if self.scale != 1 else []
        order = np.argsort([-pose.explained for pose in poses[1:]], kind="stable") + 1
        if poses[order[0]].explained <= poses[0].explained and not anyway:
            return plain
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
        return plain + sorted(better, key=lambda pose: -pose.explained)

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
        linear = self.scale * rotations
        for one in linear:
            positions = (inverse @ one @ self.cube_mm.reshape(3, -1) + middle).astype(np.float32)
            turned.append(sample(channels, positions.reshape(3, *self.cube_mm.shape[1:]), fill=0.0))
        volumes = np.stack(turned)
        explained, _ = self.correlator.explained(volumes[:, :-2], volumes[:, -2], volumes[:, -1], LEAST_OVERLAP)
        poses = []
        for one, values in zip(linear, explained, strict=True):
            index = np.array(np.unravel_index(int(values.argmax()), values.shape))
            shift = np.where(index < self.side, index, index - np.array(values.shape))
            # Fixed voxel 0 meets voxel `shift` of the cube around the middle of the moving scan.
            cube_corner = self.fixed.grid.directions @ (self.spacing_mm * (shift - (self.side - 1) / 2))
            matrix = np.eye(4)
            matrix[:3, :3] = one
            offset = cube_corner - self.fixed.grid.origin_mm
            matrix[:3, 3] = self.moving.grid.centre_mm + one @ offset
            poses.append(Pose(Affine(matrix), float(values.max())))
        return poses


def body_grid(scan: Scan, kind: IntensityKind) -> Grid:
    """The part of a field of view that holds the body, coarse: small volumes have no voxels to spare for air."""
    grid = covering_grid(scan.grid, scan.grid.directions, scan.grid.longest_mm / MOST_VOXELS)
    body = weights(scan.onto(grid, Affine.identity()), kind, scan.is_masked)[1]
    inside = np.argwhere(body > AIR_WEIGHT)
    if len(inside) == 0:
        return grid
    first, last = inside.min(axis=0), inside.max(axis=0)
    return grid.cropped(tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True)))  # type: ignore[arg-type]


def small(scan: Scan, grid: Grid, kind: IntensityKind) -> Volume:
    """What can be compared under any rotation: intensities where they compare, and the size of the gradient."""
    read = scan.onto(grid, Affine.identity())
    weight, body = weights(read, kind, scan.is_masked)
    lanes = []
    for channel in read.channels:
        lanes += intensity_lanes(channel, kind)
        steps = [np.gradient(channel, axis=axis) for axis in range(3) if channel.shape[axis] > 1]
        edge = np.sqrt(sum((step**2 for step in steps), np.zeros_like(channel)))
        lanes.append(EDGE_WEIGHT * edge / max(float(edge.mean()), 1e-6))
    return Volume(np.stack(lanes, axis=-1).astype(np.float32), weight, body, grid)
