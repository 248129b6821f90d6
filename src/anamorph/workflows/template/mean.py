"""The mean of scans: their shapes without their poses, their intensities, their labels, and the grid for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import prepared_channels
from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels, Mask
from anamorph.transforms.inversion import invert
from anamorph.transforms.maps import Affine, Displacement, Transform

MOST_SITES = 50_000
"""Voxels that a pose is found from."""


@dataclass(frozen=True)
class MeanShape:
    """Where the mean of the scans has the anatomy of a template.

    Args:
        field: the mean of the maps to the scans, each without its pose.
        rms_mm: its length, root mean square: how far the template is from the mean.
        spread_mm: the length of the maps themselves: how far the scans are from the template.
    """

    field: Displacement
    rms_mm: float
    spread_mm: float

    def to_template(self) -> Transform:
        """The inverse of the field: pulls what lies on the template to the mean shape."""
        return invert(self.field, self.field.grid).transform


def mean_shape(fields: Iterable[Displacement], weight: np.ndarray) -> MeanShape:
    """Average the maps of the template to the scans, each without its pose.

    Affine and deformation are averaged together, as one field (Guimond et al., CVIU 2000).

    Args:
        fields: all on one grid, that of the template; at least one.
        weight: ``(I, J, K)`` how much a voxel counts for poses and lengths.
    """
    total: np.ndarray | None = None
    squares, count = 0.0, 0
    for field in fields:
        if total is None:
            grid, positions = field.grid, world_positions(field.grid)
            total = np.zeros_like(positions)
        there = (positions + field.vectors_mm()).reshape(3, -1)
        vectors = pose_of(field, weight).inverse().map_world(there.T).T.reshape(total.shape) - positions
        total += vectors
        squares += rms(vectors, weight) ** 2
        count += 1
    if total is None:
        raise ValueError("no field to average")
    mean = Displacement.from_world(total / count, grid)
    return MeanShape(mean, rms(total / count, weight), (squares / count) ** 0.5)


def rms(vectors: np.ndarray, weight: np.ndarray) -> float:
    """Root of the weighted mean square length of ``(3, I, J, K)`` vectors."""
    squares = (vectors.astype(np.float64) ** 2).sum(axis=0)
    return float(np.sqrt((squares * weight).sum() / max(float(weight.sum()), 1e-12)))


def pose_of(field: Displacement, weight: np.ndarray) -> Affine:
    """The rigid part of a map of the template to a scan: weighted least squares over the template's voxels.

    Rigid alignment before averaging is the generalised Procrustes mean (Gower, Psychometrika 1975). Averaging turned
    shapes instead would shrink the mean by the cosine of the angles.

    Args:
        field: maps points of the template to points of the scan.
        weight: ``(I, J, K)`` on the grid of the field, not negative: how much a voxel counts.

    Returns:
        A rotation and translation, RAS mm.
    """
    step = max(1, int(np.ceil((weight.size / MOST_SITES) ** (1 / 3))))
    thin = (slice(None, None, step),) * 3
    here = world_positions(field.grid)[(slice(None), *thin)].reshape(3, -1)
    there = here + field.vectors_mm()[(slice(None), *thin)].reshape(3, -1)
    share = weight[thin].ravel().astype(np.float64) + 1e-6
    share /= share.sum()
    centre, goal = here @ share, there @ share
    left, _, right = np.linalg.svd(((there - goal[:, None]) * share) @ (here - centre[:, None]).T)
    turn = np.eye(4)
    turn[:3, :3] = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    turn[:3, 3] = goal - turn[:3, :3] @ centre
    return Affine(turn)


def world_positions(grid: Grid) -> np.ndarray:
    """``(3, I, J, K)`` float64: RAS mm of every voxel."""
    voxels = identity_positions(grid.shape).reshape(3, -1).astype(np.float64)
    positions = grid.affine[:3, :3] @ voxels + grid.affine[:3, 3:]
    return positions.reshape(3, *grid.shape)


class MeanImage:
    """Adds up scans, each read once from its original voxels; a voxel is the mean of the scans that reach it.

    CT stays in HU; other scans count with their 1st percentile as 0 and their 99th as 1, cut off at 1.2, so that no
    single scan or bright voxel rules the mean.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.total: np.ndarray | None = None
        self.reached = np.zeros(grid.shape, np.int32)
        self.count = 0
        self.is_ct = False

    def add(self, image: Image, to_scan: Transform) -> None:
        """Add a scan by the map of the template's points to its own.

        Raises:
            UserError: it is a CT among other scans, or the reverse.
        """
        if self.total is None:
            self.total = np.zeros((image.channels, *self.grid.shape), np.float64)
            self.beyond = np.zeros_like(self.total)
            self.is_ct = looks_like_ct(image)
        if looks_like_ct(image) != self.is_ct or image.channels != len(self.total):
            raise UserError(
                f"{image.name} does not look like the scans before it (CT with air around it or not, or channels); "
                "a template needs scans of one kind"
            )
        positions = to_scan.moving_positions(self.grid, image.grid)
        ends = np.array(image.grid.shape, np.float32).reshape(3, 1, 1, 1) - 0.5
        inside = ((positions >= -0.5) & (positions <= ends)).all(axis=0)
        values = sample(prepared_channels(image), positions)
        self.total += np.where(inside, values, 0)
        self.beyond += values
        self.reached += inside
        self.count += 1

    def image(self, name: str, sharpening: float = 0.0) -> Image:
        """The mean so far, float32, of at least one scan.

        Args:
            name: of the image.
            sharpening: how much of what smoothing by one voxel removes is added.
        """
        assert self.total is not None
        mean = np.where(
            self.reached > 0,
            self.total / np.maximum(self.reached, 1),
            self.beyond / self.count,
        )
        mean = mean.astype(np.float32)
        if sharpening > 0:
            mean += sharpening * (mean - box_smooth(mean))
        return Image(mean, self.grid, name)

    def support(self, name: str) -> Mask:
        """``(I, J, K)`` float32: the share of the scans that reach a voxel, its weight in registrations."""
        return Mask((self.reached / self.count).astype(np.float32), self.grid, name)


class MajorityVote:
    """Counts label maps on one grid; every voxel gets the label that most of them give it (ties: the lower)."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.voters = 0
        self.votes: dict[int, np.ndarray] = {}

    def add(self, labels: Labels) -> None:
        """Count a label map on the grid."""
        self.voters += 1
        for name in labels.present():
            votes = self.votes.setdefault(name, np.zeros(self.grid.shape, np.uint16))
            votes += labels.data[0] == name

    def result(self, name: str) -> tuple[Labels, Image]:
        """The label map, and ``(I, J, K)`` float32 the share of the maps that agree with it."""
        best = np.full(self.grid.shape, self.voters, np.uint16)
        for votes in self.votes.values():
            best -= votes  # what is left voted for background
        winner = np.zeros(self.grid.shape, np.int32)
        for label in sorted(self.votes):
            better = self.votes[label] > best
            winner[better] = label
            np.maximum(best, self.votes[label], out=best)
        kind = np.uint8 if max(self.votes, default=0) < 256 else np.int32
        agreement = (best / max(self.voters, 1)).astype(np.float32)
        return Labels(winner.astype(kind), self.grid, name), Image(agreement, self.grid, f"agreement on {name}")


def template_grid(grids: Sequence[Grid], like: Grid | None) -> Grid:
    """Median voxel size and median field of view of the scans, per axis.

    Args:
        grids: of all scans.
        like: of the scan to start from, whose axes and centre it takes; None is RAS axes around the origin.
    """
    axes = np.eye(3) if like is None else _orthonormal(like.directions)
    spacing = np.median([_along(axes, grid) for grid in grids], axis=0)
    extent_mm = np.median([np.ptp(grid.corners_mm() @ axes, axis=0) for grid in grids], axis=0)
    i, j, k = (int(n) for n in np.maximum(np.rint(extent_mm / spacing), 1))
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    middle = np.zeros(3) if like is None else like.centre_mm
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return Grid((i, j, k), affine)


def _along(axes: np.ndarray, grid: Grid) -> np.ndarray:
    """Voxel size of a grid along each of the axes: that of the nearest of its own."""
    nearest = np.abs(axes.T @ grid.directions).argmax(axis=1)
    return grid.spacing_mm[nearest]


def _orthonormal(directions: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles; a tilted gantry has none."""
    left, _, right = np.linalg.svd(directions)
    return left @ right
