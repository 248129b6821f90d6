"""All rotations, each with all translations, on very small volumes that do not depend on directions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anamorph.features.intensity import IntensityKind, intensity_lanes
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.start.translations import NOT_TRIED, Correlator, shifts_of
from anamorph.methods.start.volumes import AIR_WEIGHT, DARK, ScanPair, Volume, weights
from anamorph.methods.working_frame import Scan, covering_grid
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import limited_kernels, over_slabs
from anamorph.transforms.affine import RESIZING, AffineParts, LinearModel
from anamorph.transforms.maps import Affine

VOXELS = (12, 16)
"""Along the longest axis of the fixed scan; the second where the first finds nothing."""
MOST_VOXELS = 24
"""Along the longest axis of the moving scan, which may be far larger."""
COVERING_DEG = 45.0
"""Spacing of the rotations that are tried first."""
FINER_DEG = (20.0, 10.0)
"""Turns that are tried around the best of them."""
AT_ONCE = 4
"""Rotations that are transformed together, by one thread."""
THREADS = 2
FOLLOWED = 14
POSE_BYTES = 8 * 2**20 * AT_ONCE * THREADS
"""Memory of the transforms of so many rotations."""
APART_DEG = 35.0
NEAR_DEG = 15.0
"""Smaller turns are found by matching from no turn."""
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
        if model in RESIZING and pair.shows_whole_bodies:  # whose size can be told before their pose
            larger = np.cbrt(body_mm3(pair.moving) / max(body_mm3(pair.fixed), 1e-9))
            self.scale = float(np.clip(larger, *SIZES))
        # A cube in which the moving scan can turn: the axes are those of the fixed scan.
        corners = (self.moving.grid.corners_mm() - self.moving.grid.centre_mm) / self.scale
        side = int(np.ceil(2 * np.linalg.norm(corners, axis=1).max() / self.spacing_mm))
        self.side = side
        self.correlator = Correlator(pair, self.fixed, self.moving, (side,) * 3)
        self._spectra = _numbers(self.correlator.spectra, 1)
        self._channels = self._interleaved()

    def _interleaved(self) -> np.ndarray:
        """The moving scan ``(I, J, K, C)``: channels, those that the fixed scan has first; weight, body; zeros."""
        moving, used = self.moving, self.correlator.used
        others = [number for number in range(moving.descriptor.shape[-1]) if number not in used]
        lanes = [moving.descriptor[..., [*used, *others]], moving.weight[..., None], moving.body[..., None]]
        channels = np.concatenate(lanes, axis=-1)
        padding = [(0, 0)] * 3 + [(0, -channels.shape[-1] % 8)]
        return np.ascontiguousarray(np.pad(channels, padding), np.float32)

    def better(self, anyway: bool = False) -> list[Pose]:
        """The best poses that explain more than the one without rotation and those near it, each refined; best first.

        Where sizes are known, the one without rotation comes before them: nothing else has tried it at the right size.

        ``anyway`` refines them even where none of the covering explains more than the one without rotation.
        """
        from scipy.spatial.transform import Rotation

        rotations = covering_rotations(COVERING_DEG)
        poses = self.poses(rotations)
        plain = [replace(poses[0], is_turned=False)] if self.scale != 1 else []
        near = replace(self._refined(rotations[:1], poses[:1])[0], is_turned=False)
        if AffineParts.of(near.transform, self.fixed.grid.centre_mm).turn_deg > NEAR_DEG:
            plain.append(near)
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
        refined = self._refined(rotations[followed], [poses[i] for i in followed])
        better = [pose for pose in refined if pose.explained > near.explained]
        return plain + sorted(better, key=lambda pose: -pose.explained)

    def _refined(self, rotations: np.ndarray, poses: list[Pose]) -> list[Pose]:
        """The best of some poses and of those turned a little from them, one finer turn after the other.

        ``rotations`` ``(N, 3, 3)`` are those of the poses.
        """
        from scipy.spatial.transform import Rotation

        around = np.concatenate([np.eye(3), -np.eye(3)])
        rotations, poses = rotations.copy(), list(poses)
        for turn_deg in FINER_DEG:
            nearby = Rotation.from_rotvec(np.deg2rad(turn_deg) * around).as_matrix() @ rotations[:, None]
            tried = self.poses(nearby.reshape(-1, 3, 3))
            for n, pose in enumerate(poses):
                of_this = tried[n * len(around) : (n + 1) * len(around)]
                top = int(np.argmax([one.explained for one in of_this]))
                if of_this[top].explained > pose.explained:
                    rotations[n], poses[n] = nearby[n, top], of_this[top]
        return poses

    def poses(self, rotations: np.ndarray) -> list[Pose]:
        """The best translation of each rotation ``(N, 3, 3)``."""
        linear = self.scale * rotations

        def some(begin: int, end: int) -> list[Pose]:
            room = Room.of(self.side, self.correlator)
            found: list[Pose] = []
            with limited_kernels(1):  # the threads are busy with other rotations
                for first in range(begin * AT_ONCE, min(end * AT_ONCE, len(linear)), AT_ONCE):
                    found += self._poses(linear[first : first + AT_ONCE], room)
            return found

        batches = -(-len(linear) // AT_ONCE)
        with limited_kernels(THREADS):
            return [pose for several in over_slabs(some, batches, least=-(-batches // THREADS)) for pose in several]

    def _poses(self, linear: np.ndarray, room: Room) -> list[Pose]:
        explained, places = self._best_numpy(linear) if kernels is None else self._best(linear, room)
        indices = np.stack(np.unravel_index(places, self.correlator.size), axis=-1)
        shifts = shifts_of(indices, (self.side,) * 3, self.correlator.size)
        poses = []
        for one, value, shift in zip(linear, explained, shifts, strict=True):
            # Fixed voxel 0 meets voxel `shift` of the cube around the middle of the moving scan.
            cube_corner = self.fixed.grid.directions @ (self.spacing_mm * (shift - (self.side - 1) / 2))
            matrix = np.eye(4)
            matrix[:3, :3] = one
            offset = cube_corner - self.fixed.grid.origin_mm
            matrix[:3, 3] = self.moving.grid.centre_mm + one @ offset
            poses.append(Pose(Affine(matrix), float(value)))
        return poses

    def _maps(self, linear: np.ndarray) -> np.ndarray:
        """``(N, 3, 4)``: from voxels of the cube, turned and scaled about its middle, to those of the moving scan."""
        turned = (
            np.linalg.inv(self.moving.grid.affine[:3, :3]) @ linear @ (self.spacing_mm * self.fixed.grid.directions)
        )
        middle = (np.array(self.moving.grid.shape) - 1) / 2 - turned.sum(axis=2) * (self.side - 1) / 2
        return np.concatenate([turned, middle[..., None]], axis=2)

    def _best(self, linear: np.ndarray, room: Room) -> tuple[np.ndarray, np.ndarray]:
        """What the best shift of each of some linear maps ``(N, 3, 3)`` explains, and the place of that shift."""
        count, correlator = len(linear), self.correlator
        volumes, body = room.volumes[:count], room.body[:count]
        compared, used = self.moving.descriptor.shape[-1], len(correlator.used)
        kernels.turned_volumes(0, count, self._channels, compared, used, self._maps(linear), volumes, body)
        turned = correlator.padded_forward(volumes, room.spectra[:count])
        half = turned.shape[2:]
        product = np.empty((count, 2, *half), np.complex64)
        kernels.correlated(0, count, _numbers(turned, 2), self._spectra, _numbers(product, 2))
        explained, places = np.full(count, NOT_TRIED, np.float32), np.empty(count, np.int64)
        given = correlator.smaller, correlator.chance, LEAST_OVERLAP
        kernels.best_shifts(0, count, correlator.back(product), self.fixed.body, body, *given, explained, places)
        return explained, places

    def _best_numpy(self, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The readable twin of :meth:`_best`."""
        moving = self.moving
        channels = np.concatenate([np.moveaxis(moving.descriptor, -1, 0), moving.weight[None], moving.body[None]])
        cube = np.stack(np.meshgrid(*[np.arange(self.side)] * 3, indexing="ij")).reshape(3, -1)
        positions = [(one[:, :3] @ cube + one[:, 3:]).astype(np.float32) for one in self._maps(linear)]
        turned = [sample(channels, one.reshape(3, *[self.side] * 3), fill=0.0) for one in positions]
        volumes = np.stack(turned)
        explained, _ = self.correlator.explained(volumes[:, :-2], volumes[:, -2], volumes[:, -1], LEAST_OVERLAP)
        flat = explained.reshape(len(linear), -1)
        return flat.max(axis=1), flat.argmax(axis=1)


@dataclass(frozen=True)
class Room:
    """Where one thread turns and transforms scans, again and again: new memory takes longer than what is done in it.

    ``volumes`` ends in zeros along its last axis.
    """

    volumes: np.ndarray
    body: np.ndarray
    spectra: np.ndarray

    @classmethod
    def of(cls, side: int, correlator: Correlator) -> Room:
        several, size = (AT_ONCE, 2 + len(correlator.used)), correlator.size
        return cls(
            np.zeros((*several, side, side, size[2]), np.float32),
            np.empty((AT_ONCE, side, side, side), np.float32),
            np.empty((*several, *size[:2], size[2] // 2 + 1), np.complex64),
        )


def _numbers(spectra: np.ndarray, axes: int) -> np.ndarray:
    """Complex numbers as the kernels take them: their parts in turn, all but the first axes in one."""
    return spectra.view(np.float32).reshape(*spectra.shape[:axes], -1)


def body_mm3(scan: Scan) -> float:
    """The volume of what is not the one value around a body, on the voxels of the scan: coarser ones are too large."""
    level = scan.channels[0] - scan.channels[0].min()
    return float(np.sum(scan.weight * (level > DARK))) * float(np.prod(scan.grid.spacing_mm))


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
