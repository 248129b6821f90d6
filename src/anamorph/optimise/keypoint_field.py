"""Displacements of scattered points by Adam: features must agree, neighbours must move alike (SLIC-Reg, MIDL 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.optimise.adam import Adam
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeypointGraph:
    """An undirected graph of ``count`` points; ``edges`` is ``(2, E)``, every edge once in each direction."""

    edges: np.ndarray
    count: int

    @classmethod
    def of_neighbours(cls, points_mm: np.ndarray, neighbours: int) -> KeypointGraph:
        """Join each of ``(N, 3)`` points with those of its nearest that it is not, and with all that name it."""
        from scipy.spatial import cKDTree

        count = len(points_mm)
        nearest = min(neighbours, count - 1)
        if nearest < 1:
            return cls(np.empty((2, 0), np.int64), count)
        found = np.atleast_2d(cKDTree(points_mm).query(points_mm, nearest + 1)[1])
        here = np.repeat(np.arange(count), nearest + 1)
        pairs = np.stack([here, found.reshape(-1)])
        pairs = pairs[:, pairs[0] != pairs[1]]
        both = np.concatenate([pairs, pairs[::-1]], axis=1)
        return cls(np.unique(both, axis=1), count)

    def diffusion(self, values: Tensor) -> tuple[float, Tensor]:
        """``(1 / N) sum_ij A_ij |v_i - v_j|^2`` over both directions of every edge, and its gradient.

        Args:
            values: ``(N, D)``.
        """
        import torch

        here, there = torch.as_tensor(self.edges, device=values.device)
        difference = values[here] - values[there]
        energy = float(difference.square().sum()) / self.count
        gradient = values.new_zeros(values.shape).index_add_(0, here, difference) * (4 / self.count)
        return energy, gradient

    def random_walk(self, values: np.ndarray, beta: float) -> np.ndarray:
        """Smooth ``(N, D)`` by solving ``(1 + beta L) v = values`` with the Laplacian L of the graph (Grady 2006)."""
        from scipy.sparse import coo_matrix, eye
        from scipy.sparse.csgraph import laplacian
        from scipy.sparse.linalg import splu

        weights = coo_matrix((np.ones(self.edges.shape[1]), tuple(self.edges)), (self.count, self.count))
        system = eye(self.count) + beta * laplacian(weights.tocsc())
        smooth: np.ndarray = splu(system.tocsc()).solve(np.asarray(values, np.float64))
        return smooth


@dataclass(frozen=True)
class KeypointSettings:
    """Of the fit; the published ones.

    Args:
        alpha: weight of the differences between neighbours.
        rate: of Adam, in units of half the extent of the volume.
        iterations: of Adam.
    """

    alpha: float = 0.015
    rate: float = 0.05
    iterations: int = 100


def fit_keypoints(
    wanted: Tensor, volume: Tensor, points_vox: np.ndarray, graph: KeypointGraph, settings: KeypointSettings
) -> tuple[np.ndarray, list[float]]:
    """Move points so that the features found there are those wanted.

    Minimises ``mean (V(x + d) - f)^2 + alpha / N sum_ij A_ij |d_i - d_j|^2`` with d in halves of the extent of the
    volume along each axis, as published.

    Args:
        wanted: ``(N, C)`` features of the points in the fixed scan.
        volume: ``(I, J, K, C)`` features of the moving scan on the same device; read linearly, its border repeated.
        points_vox: ``(N, 3)`` voxels of the volume: where the points are before they move.
        graph: of the points.
        settings: of the method.

    Returns:
        displacements ``(N, 3)`` in voxels of the volume, and the objective per iteration.
    """
    # An axis of one voxel has nowhere to go.
    unit = volume.new_tensor([n / 2 if n > 1 else 0.0 for n in volume.shape[:3]])
    points = volume.new_tensor(points_vox)
    parameters = volume.new_zeros(points.shape)
    adam = Adam(parameters)
    trace = []
    for _ in range(settings.iterations):
        mismatch, slope = data_term(wanted, volume, points + parameters * unit)
        roughness, stiffness = graph.diffusion(parameters)
        trace.append(mismatch + settings.alpha * roughness)
        adam.step(slope * unit + settings.alpha * stiffness, settings.rate)
    return (parameters * unit).cpu().double().numpy(), trace


def data_term(wanted: Tensor, volume: Tensor, positions: Tensor) -> tuple[float, Tensor]:
    """``mean (V(p) - f)^2`` over points and channels, and its gradient with respect to the positions.

    Args:
        wanted: ``(N, C)`` float32.
        volume: ``(I, J, K, C)`` float32.
        positions: ``(N, 3)`` float32 voxels.
    """
    if volume.device.type != "cpu" or kernels is None:
        return data_term_torch(wanted, volume, positions)
    import torch

    losses, gradient = np.empty(len(positions), np.float32), np.empty((len(positions), 3), np.float32)
    here, there, places = (tensor.contiguous().numpy() for tensor in (wanted, volume, positions))
    over_slabs(kernels.point_data_term, len(places), here, there, places, losses, gradient)
    return float(losses.sum(dtype=np.float64)) / wanted.numel(), torch.from_numpy(gradient) / wanted.numel()


def data_term_torch(wanted: Tensor, volume: Tensor, positions: Tensor) -> tuple[float, Tensor]:
    """The readable twin of :func:`data_term`; the gradient comes from autograd."""
    import torch

    from anamorph.geometry.sampling import sample_torch

    with torch.enable_grad():
        variable = positions.detach().clone().requires_grad_()
        found = sample_torch(volume.permute(3, 0, 1, 2), variable.T).T
        loss = (found - wanted).square().mean()
        (gradient,) = torch.autograd.grad(loss, variable)
    return float(loss.detach()), gradient
