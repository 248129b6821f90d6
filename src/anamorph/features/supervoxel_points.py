"""Places in a scan at which a map is fitted: the centres of its supervoxels, or random ones."""

from __future__ import annotations

import numpy as np


def supervoxel_centres(labels: np.ndarray) -> np.ndarray:
    """The centre of mass of every supervoxel of every layer, voxels ``(N, 3)``.

    Args:
        labels: ``(L, I, J, K)``, 0 background.
    """
    axes = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in labels.shape[1:]), indexing="ij", sparse=True)
    found = []
    for layer in labels:
        flat = layer.reshape(-1).astype(np.intp)
        sizes = np.bincount(flat)
        sums = [np.bincount(flat, np.broadcast_to(axis, layer.shape).reshape(-1)) for axis in axes]
        present = np.flatnonzero(sizes)
        present = present[present > 0]
        found.append(np.stack([s[present] / sizes[present] for s in sums], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3))


def random_points(foreground: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random voxels of a mask ``(I, J, K)`` on every second voxel of each axis, ``(N, 3)``; fewer where it is small.

    The published program draws from this half grid; a small mask is drawn from in full.
    """
    coarse = np.argwhere(foreground[::2, ::2, ::2]) * 2
    candidates = coarse if len(coarse) >= count else np.argwhere(foreground)
    chosen = rng.permutation(len(candidates))[:count]
    return candidates[chosen].astype(np.float64)
