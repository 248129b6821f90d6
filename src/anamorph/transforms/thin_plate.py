"""A smooth map through scattered displacements."""

from __future__ import annotations

from typing import Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.maps import Transform

Kernel = Literal["r", "r2logr"]
LATTICE = 48
"""The inverse is found on a lattice of so many points along the longest side."""
AT_ONCE = 2**22
"""Distances that the readable twin holds at a time."""


class ThinPlate(Transform):
    """A thin-plate spline: the least bent map that moves points about as given, affine far from them.

    ``u(x) = A [1, x] + sum_i w_i U(|x - x_i|)`` with ``(K + smoothing) w + P a = d`` and ``P^T w = 0`` (Duchon 1977;
    Bookstein 1989). Every evaluation sums over all points; for a whole grid take ``displacement_on`` of a coarse one.

    Args:
        points_mm: ``(N, 3)`` RAS mm, at least four that span space.
        displacements_mm: ``(N, 3)`` RAS mm, from fixed to moving.
        kernel: ``"r"``, the biharmonic kernel of three dimensions, or ``"r2logr"``, the one of two, which the published
            SLIC-Reg uses.
        smoothing: added to the diagonal; 0 goes through every displacement, which points closer than a voxel forbid.
        metric: ``(3, 3)`` matrix from mm to the coordinates in which distances are measured; by default half the
            longest extent of the points is 1.

    Raises:
        UserError: too few points, or points that do not span space.
    """

    def __init__(
        self,
        points_mm: np.ndarray,
        displacements_mm: np.ndarray,
        kernel: Kernel = "r",
        smoothing: float = 1e-3,
        metric: np.ndarray | None = None,
    ) -> None:
        points = np.asarray(points_mm, np.float64)
        moves = np.asarray(displacements_mm, np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or points.shape != moves.shape or len(points) < 4:
            raise UserError(f"a thin-plate spline needs at least 4 points and as many vectors, not {len(points)}")
        if not (np.isfinite(points).all() and np.isfinite(moves).all()):
            raise UserError("the points of a thin-plate spline hold values that are not finite")
        self.points_mm, self.displacements_mm = points, moves
        self.kernel, self.smoothing = kernel, smoothing
        self.metric = np.eye(3) * (2 / np.ptp(points, axis=0).max()) if metric is None else np.asarray(metric, float)
        self._centre_mm = points.mean(axis=0)
        self._sites = np.ascontiguousarray((points - self._centre_mm) @ self.metric.T)
        self._affine, self._weights = self._solve()

    def __repr__(self) -> str:
        return f"ThinPlate({self.direction}, {len(self.points_mm)} points, kernel {self.kernel})"

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        moved = grid.world_to_voxel(self.map_world(grid.voxel_to_world(positions_vox.T)))
        positions_vox[:] = moved.T

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        points_mm = np.asarray(points_mm, np.float64)
        at = (points_mm - self._centre_mm) @ self.metric.T
        if kernels is None:
            return points_mm + _evaluate(at, self._sites, self._weights, self._affine, self.kernel)
        moves = np.empty((len(at), 3))
        given = (np.ascontiguousarray(at), self._sites, self._weights, self._affine, self.kernel == "r")
        over_slabs(kernels.evaluate_spline, len(at), *given, moves)
        return points_mm + moves

    def inverse(self) -> Transform:
        """The inverse of the map on a lattice around the points; outside it goes on as at the lattice's border."""
        from anamorph.transforms.inversion import invert

        grid = self.lattice()
        return self._turned(invert(self.displacement_on(grid), grid).transform)

    def lattice(self, longest: int = LATTICE) -> Grid:
        """A grid around the points and where they go, with so many points along its longest side."""
        ends = np.concatenate([self.points_mm, self.points_mm + self.displacements_mm])
        low, high = ends.min(axis=0), ends.max(axis=0)
        margin = 0.1 * (high - low).max()
        extent = high - low + 2 * margin
        spacing = extent.max() / (longest - 1)
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = low - margin
        i, j, k = (int(n) for n in np.ceil(extent / spacing) + 1)
        return Grid((i, j, k), affine)

    def _solve(self) -> tuple[np.ndarray, np.ndarray]:
        """The affine part ``(4, 3)`` and the weights ``(N, 3)``."""
        from scipy.linalg import LinAlgError, solve

        count = len(self._sites)
        system = np.zeros((count + 4, count + 4))
        if kernels is None:
            system[:count, :count] = _radial(self._sites, self._sites, self.kernel)
        else:
            over_slabs(kernels.spline_matrix, count, self._sites, self.kernel == "r", system)
        system[np.arange(count), np.arange(count)] += self.smoothing
        system[:count, count] = system[count, :count] = 1
        system[:count, count + 1 :] = self._sites
        system[count + 1 :, :count] = self._sites.T
        wanted = np.concatenate([self.displacements_mm, np.zeros((4, 3))])
        try:
            solution = solve(system, wanted, assume_a="sym", overwrite_a=True, check_finite=False)
        except LinAlgError:
            raise UserError(
                "the points of a thin-plate spline do not span space, or coincide; spread them or smooth"
            ) from None
        return solution[count:].copy(), solution[:count].copy()


def _evaluate(
    positions: np.ndarray, sites: np.ndarray, weights: np.ndarray, affine: np.ndarray, kernel: Kernel
) -> np.ndarray:
    """The readable twin of the compiled sum: ``affine^T [1, x_p] + sum_n w_n U(|x_p - x_n|)``."""
    parts = np.array_split(positions, len(positions) * len(sites) // AT_ONCE + 1)
    sums = np.concatenate([_radial(part, sites, kernel) @ weights for part in parts])
    return affine[0] + positions @ affine[1:] + sums


def _radial(positions: np.ndarray, sites: np.ndarray, kernel: Kernel) -> np.ndarray:
    from scipy.spatial.distance import cdist

    r = cdist(positions, sites)
    return -r if kernel == "r" else r**2 * np.log(r + 1e-6)
