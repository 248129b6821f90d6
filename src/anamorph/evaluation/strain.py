"""Strain of labelled tissue: how a map stretches it across, around and along the axis of an organ such as the heart.

The deformation gradient ``F`` of the map gives the Green-Lagrange strain ``E = (F^T F - 1) / 2`` in the state of the
fixed scan, end-diastole by the convention of cardiology. ``e^T E e`` is the strain along a direction ``e``: 0 for a
length that stays, 0.5 (l^2 - 1) for one that changes by the factor ``l``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.transforms.maps import Transform

MOST_VOXELS = 100_000
"""Of a label that strain is computed at, evenly spread; more change no mean."""
THICK_SLICES = 2.0
"""Slices so many times thicker than their pixels are short-axis slices: the axis stands at right angles to them."""
LEAST_LONGER = 0.15
"""Relative difference of the moments of inertia from which an axis of revolution can be seen."""


@dataclass(frozen=True)
class LabelStrain:
    """Mean Green-Lagrange strain of a label, as a share: 0.2 is 20 %.

    Args:
        radial: away from the axis; None where the label gives no axis.
        circumferential: around the axis.
        longitudinal: along the axis; None for a single slice, which does not see it.
        largest: the mean of the largest principal strain, whatever its direction.
        smallest: the mean of the smallest principal strain.
    """

    radial: float | None
    circumferential: float | None
    longitudinal: float | None
    largest: float
    smallest: float


class StrainMeter:
    """Measures the strain of every label of one label map under one map after another.

    Args:
        labels: of the fixed scan.
        axis: 0, 1 or 2 for the axis of the grid that all labels turn around; by default the normal of thick slices,
            else the axis of revolution of each label's convex hull.
    """

    def __init__(self, labels: Labels, axis: int | None = None) -> None:
        self.labels = labels
        self.sites = {label: _Sites.of(labels, label, axis) for label in labels.present()}

    def measure(self, transform: Transform) -> dict[int, LabelStrain]:
        """The mean strain of every label under a map of points of the fixed scan.

        Args:
            transform: maps fixed points to moving points.
        """
        return {label: sites.strain(transform) for label, sites in self.sites.items()}


def measure_strain(transform: Transform, labels: Labels, axis: int | None = None) -> dict[int, LabelStrain]:
    """The mean Green-Lagrange strain of every label under a map.

    Args:
        transform: maps fixed points to moving points.
        labels: of the fixed scan.
        axis: 0, 1 or 2 for the axis of the grid that labels turn around; found from the labels by default.

    Returns:
        by label.
    """
    return StrainMeter(labels, axis).measure(transform)


@dataclass(frozen=True, eq=False)
class _Sites:
    """Voxels of one label, and its axis in RAS; None where there is none."""

    grid: Grid
    voxels: np.ndarray
    axis: np.ndarray | None

    @classmethod
    def of(cls, labels: Labels, label: int, axis: int | None) -> _Sites:
        voxels = np.argwhere(labels.data[0] == label)
        grid = labels.grid
        chosen = grid.directions[:, axis] if axis is not None else long_axis(voxels, grid)
        return cls(grid, voxels[:: -(-len(voxels) // MOST_VOXELS)], chosen)

    def strain(self, transform: Transform) -> LabelStrain:
        tensors = green_lagrange(transform, self.grid, self.voxels)
        principal = np.linalg.eigvalsh(tensors)
        largest, smallest = float(principal[:, 2].mean()), float(principal[:, 0].mean())
        if self.directions is None:
            return LabelStrain(None, None, None, largest, smallest)
        along = np.einsum("nai,nij,naj->na", self.directions, tensors, self.directions).mean(axis=0)
        return LabelStrain(
            float(along[0]), float(along[1]), None if self.grid.is_2d else float(along[2]), largest, smallest
        )

    @cached_property
    def directions(self) -> np.ndarray | None:
        """``(N, 3, 3)`` the unit vectors away from, around and along the axis at every voxel, as rows."""
        if self.axis is None:
            return None
        places = self.grid.voxel_to_world(self.voxels)
        away = places - places.mean(axis=0)
        height = away @ self.axis
        away -= height[:, None] * self.axis
        slope = height @ away / max(float(height @ height), 1e-9)  # the middle line need not run along the axis
        away -= height[:, None] * slope
        length = np.linalg.norm(away, axis=1, keepdims=True)
        radial = away / np.maximum(length, 1e-6)
        along = np.broadcast_to(self.axis, radial.shape)
        return np.stack([radial, np.cross(along, radial), along], axis=1)


def green_lagrange(transform: Transform, grid: Grid, voxels: np.ndarray) -> np.ndarray:
    """``(N, 3, 3)`` Green-Lagrange strain tensors in RAS at ``(N, 3)`` voxels of a grid.

    Central differences over two voxels, one-sided at the border; an axis of one voxel counts as unchanged.
    """
    last = np.array(grid.shape) - 1
    steps = np.zeros((len(voxels), 3, 3))
    for axis in range(3):
        if last[axis] == 0:
            steps[:, :, axis] = grid.affine[:3, axis]
            continue
        before, after = voxels.astype(np.float64), voxels.astype(np.float64)
        before[:, axis] = np.maximum(before[:, axis] - 1, 0)
        after[:, axis] = np.minimum(after[:, axis] + 1, last[axis])
        difference = transform.map_world(grid.voxel_to_world(after)) - transform.map_world(grid.voxel_to_world(before))
        steps[:, :, axis] = difference / (after - before)[:, axis : axis + 1]
    gradient = steps @ np.linalg.inv(grid.affine[:3, :3])
    return (np.swapaxes(gradient, 1, 2) @ gradient - np.eye(3)) / 2


def long_axis(voxels: np.ndarray, grid: Grid) -> np.ndarray | None:
    """The axis in RAS that a labelled organ turns around; None if its shape shows none.

    The normal of thick slices or of a single one, else the axis of revolution of the convex hull: two moments of
    inertia are alike, and the third, which differs most, is that of the axis. The hull of a ring is as full as its
    cavity.

    Args:
        voxels: ``(N, 3)`` of the label.
        grid: of the label map.
    """
    from scipy.spatial import ConvexHull, QhullError

    order = np.argsort(grid.spacing_mm)
    if grid.is_2d or grid.spacing_mm[order[2]] >= THICK_SLICES * grid.spacing_mm[order[1]]:
        return grid.directions[:, 2 if grid.is_2d else order[2]]
    places = grid.voxel_to_world(voxels)
    try:
        hull = ConvexHull(places)
    except QhullError:  # flat, or too few voxels
        return None
    corners = places[hull.simplices] - places[hull.vertices].mean(axis=0)
    volumes = np.abs(np.linalg.det(corners))
    centre = (volumes @ corners.sum(axis=1)) / (4 * volumes.sum())
    total = corners.sum(axis=1)
    moments = np.einsum("n,nai,naj->ij", volumes, corners, corners) + np.einsum("n,ni,nj->ij", volumes, total, total)
    moments = moments / (20 * volumes.sum()) - np.outer(centre, centre)
    values, vectors = np.linalg.eigh(moments)
    shorter, longer = 1 - values[0] / values[1], 1 - values[1] / values[2]
    if max(shorter, longer) < LEAST_LONGER:
        return None
    found = vectors[:, 2 if longer >= shorter else 0]
    return found * np.sign(found[np.abs(found).argmax()])
