"""Smoothness between scattered points: a graph of near neighbours, its diffusion term and its random walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
