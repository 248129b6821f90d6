"""Soft demands on a velocity field: pieces that move rigidly, regions that keep their volume, marks that meet.

All are sums of squares that :func:`~anamorph.optimise.velocity.optimise_velocity` adds to its objective, in voxels of
the control grid. A rigid piece is drawn to the rigid motion nearest to where it is at present, which so stays free to
follow the images. Where a velocity has no divergence, its exponential keeps all volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.runtime.device import beside, to_numpy
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.maps import Displacement
from anamorph.transforms.marks import Marks

DRAGGED = 5
"""Every so many iterations a region is dragged along anew."""


@dataclass(frozen=True, eq=False)
class RigidPull:
    """A piece of one scan that should move rigidly.

    Args:
        weight: of squared distances in control voxels, per control cell that the piece fills.
        cover: ``(I, J, K)`` share of each control cell that the piece fills.
        points: ``(N, 3)`` some of its points, in control voxels.
        to_source: ``(4, 4)`` from control voxels to RAS mm of the scan.
        to_target: ``(4, 4)`` from the control voxels reached to RAS mm of the other scan.
        is_forward: whether the scan is the one in whose frame the velocity is.
    """

    weight: float
    cover: np.ndarray
    points: np.ndarray
    to_source: np.ndarray
    to_target: np.ndarray
    is_forward: bool

    def wanted(self, disp_vox: np.ndarray) -> np.ndarray:
        """``(4, 4)`` affine map of control voxels that is the nearest rigid motion in the world."""
        reached = self.points + sample(disp_vox, self.points.T.astype(np.float32)).T
        motion = fit_linear(_mapped(self.to_source, self.points), _mapped(self.to_target, reached), "rigid")
        return np.linalg.inv(self.to_target) @ motion @ self.to_source

    def missing(self, disp_vox: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How far cells are from that motion ``(3, N)``, the shares that the piece fills ``(N,)``, and which cells."""
        cells = np.flatnonzero(self.cover)
        at = np.stack(np.unravel_index(cells, self.cover.shape)).astype(np.float64)
        wanted = self.wanted(disp_vox)
        apart = disp_vox.reshape(3, -1)[:, cells] + at - wanted[:3, :3] @ at - wanted[:3, 3:]
        return apart.astype(np.float32), self.cover.flat[cells], cells


@dataclass(frozen=True, eq=False)
class VolumePull:
    """A region of one scan that should keep its volume.

    Args:
        weight: of the squared divergence, per control cell that the region fills.
        cover: ``(I, J, K)`` share of each control cell that the region fills.
        divergence: that keeps the volume: with a start that scales it is not 0.
        is_forward: whether the scan is the one in whose frame the velocity is.
    """

    weight: float
    cover: np.ndarray
    divergence: float
    is_forward: bool


@dataclass(frozen=True, eq=False)
class MarkPull:
    """Landmarks and outlines that should meet.

    Args:
        weight: of squared distances in standard deviations, per control cell with marks.
        marks: the places of the other scan brought to the frame of the velocity.
        control: the control grid.
    """

    weight: float
    marks: Marks
    control: Grid

    def add(self, fields: tuple[np.ndarray, np.ndarray], gradient: np.ndarray, scale: float) -> float:
        """The energy in both directions; its gradient with respect to the velocity is added in place."""
        links = self.marks.links(Displacement(fields[0], self.control).map_world)
        here, there = (self.control.world_to_voxel(places) for places in (links.here, links.there))
        # Many marks of one cell pull together as one.
        _, cell, count = np.unique(np.round(here), axis=0, return_inverse=True, return_counts=True)
        weight = (scale * self.weight / count[cell.ravel()] / links.sigma_mm**2)[:, None] * self.control.spacing_mm**2
        energy = 0.0
        for places, partners, field, side in ((here, there, fields[0], 1), (there, here, fields[1], -1)):
            apart = places + sample(field, places.T.astype(np.float32)).T - partners
            energy += float((weight * apart**2).sum())
            gradient += shared_out(places, 2 * side * weight * apart, self.control.shape)
        return energy


class Pulls:
    """The demands of both scans on one control grid.

    Args:
        rigid: pieces.
        volume: regions.
        marks: landmarks and outlines.
    """

    def __init__(self, rigid: Sequence[RigidPull], volume: Sequence[VolumePull], marks: MarkPull | None = None) -> None:
        self.rigid, self.volume, self.marks = tuple(rigid), tuple(volume), marks
        self._dragged: list[np.ndarray] = []
        self._calls = 0

    def begin(self, disp_vox: Any) -> Any:
        """A first field with its pieces of the leading scan brought near to rigid motions."""
        field = to_numpy(disp_vox).copy()
        for pull in self.rigid:
            if pull.is_forward:
                apart, cover, cells = pull.missing(field)
                field.reshape(3, -1)[:, cells] -= pull.weight / (1 + pull.weight) * cover * apart
        return beside(disp_vox, field)

    def add(self, velocity: Any, forward: Any, backward: Any, gradient: Any, scale: float) -> float:
        """The energy of all demands; its gradient is added in place.

        Args:
            velocity: ``(3, I, J, K)`` in control voxels.
            forward: its exponential.
            backward: that of its opposite.
            gradient: ``(3, I, J, K)``, changed.
            scale: factor of all weights.
        """
        fields = to_numpy(forward), to_numpy(backward)
        added, energy = np.zeros(fields[0].shape, np.float32), 0.0
        for pull in self.rigid:
            apart, cover, cells = pull.missing(fields[0 if pull.is_forward else 1])
            energy += scale * pull.weight * float((cover * apart**2).sum())
            side = 1 if pull.is_forward else -1
            added.reshape(3, -1)[:, cells] += np.float32(2 * scale * pull.weight * side) * cover * apart
        if self.volume:
            energy += self._add_volume(to_numpy(velocity), fields, added, scale)
        if self.marks is not None:
            energy += self.marks.add(fields, added, scale)
        gradient += beside(gradient, added)
        return energy

    def _add_volume(
        self, velocity: np.ndarray, fields: tuple[np.ndarray, np.ndarray], added: np.ndarray, scale: float
    ) -> float:
        if self._calls % DRAGGED == 0:
            self._dragged = [_dragged(pull.cover, fields[1 if pull.is_forward else 0]) for pull in self.volume]
        self._calls += 1
        energy, found = 0.0, divergence(velocity)
        for pull, cover in zip(self.volume, self._dragged, strict=True):
            excess = found - np.float32(pull.divergence)
            energy += scale * pull.weight * float((cover * excess**2).sum())
            add_divergence_slope(np.float32(2 * scale * pull.weight) * cover * excess, added)
        return energy


def shared_out(places: np.ndarray, values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """``(C, *shape)`` float32: values ``(N, C)`` at places ``(N, 3)`` in voxels, shared out to the eight nearest ones.

    What lies outside goes to the border.
    """
    low = np.floor(places).astype(int)
    upper = places - low
    found = np.zeros((*shape, values.shape[1]), np.float64)
    for corner in np.ndindex(2, 2, 2):
        at = np.clip(low + corner, 0, np.array(shape) - 1)
        share = np.prod(np.where(corner, upper, 1 - upper), axis=1)
        np.add.at(found, tuple(at.T), share[:, None] * values)
    return np.moveaxis(found, -1, 0).astype(np.float32)


def _mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _dragged(cover: np.ndarray, back: np.ndarray) -> np.ndarray:
    """A region and the places it comes through: there the velocity must be without divergence too.

    Args:
        cover: ``(I, J, K)``.
        back: ``(3, I, J, K)`` the field that pulls the region to where it ends.
    """
    still = identity_positions(cover.shape)
    through = [cover, *(sample(cover[None], still + np.float32(part) * back, fill=0.0)[0] for part in (0.5, 1.0))]
    return np.maximum.reduce(through)


def divergence(velocity: np.ndarray) -> np.ndarray:
    """``(I, J, K)`` divergence of a field in voxels, by central differences, one-sided at the border."""
    several = [axis for axis in range(3) if velocity.shape[axis + 1] > 1]
    return np.sum([np.gradient(velocity[axis], axis=axis) for axis in several], axis=0)


def add_divergence_slope(slope: np.ndarray, gradient: np.ndarray) -> None:
    """Add to a gradient ``(3, I, J, K)`` the part that comes from a slope ``(I, J, K)`` of the divergence."""
    for axis in range(3):
        n = slope.shape[axis]
        if n == 1:
            continue
        along, target = np.moveaxis(slope, axis, 0), np.moveaxis(gradient[axis], axis, 0)
        half = along[1:-1] / 2
        target[2:] += half
        target[:-2] -= half
        target[1] += along[0]
        target[0] -= along[0]
        target[-1] += along[-1]
        target[-2] -= along[-1]
