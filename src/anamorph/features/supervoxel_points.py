"""Places in a scan at which a map is fitted: the centres of its supervoxels, or random ones."""

from __future__ import annotations

import numpy as np


def supervoxel_centres(labels: np.ndarray) -> np.ndarray:
    """The centre of mass of every supervoxel of every layer, voxels ``(N, 3)``.

    Args:
        labels: ``(L, I, J, K)``, 0 background.
    """
    centres = label_centres(labels, int(labels.max(initial=0)) + 1)[:, 1:].reshape(-1, 3)
    return centres[np.isfinite(centres).all(axis=1)]


def label_centres(labels: np.ndarray, classes: int) -> np.ndarray:
    """The centre of mass of each label of each layer, voxels ``(L, classes, 3)``; NaN for labels that do not occur."""
    axes = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in labels.shape[1:]), indexing="ij", sparse=True)
    centres = np.full((len(labels), classes, 3), np.nan)
    for layer, out in zip(labels, centres, strict=True):
        flat = layer.reshape(-1).astype(np.intp)
        sizes = np.bincount(flat, minlength=classes)
        sums = [np.bincount(flat, np.broadcast_to(axis, layer.shape).reshape(-1), classes) for axis in axes]
        present = sizes > 0
        out[present] = np.stack(sums, axis=1)[present] / sizes[present, None]
    return centres


def random_points(foreground: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random voxels of a mask ``(I, J, K)`` on every second voxel of each axis, ``(N, 3)``; fewer where it is small.

    The published program draws from this half grid; a small mask is drawn from in full.
    """
    coarse = np.argwhere(foreground[::2, ::2, ::2]) * 2
    candidates = coarse if len(coarse) >= count else np.argwhere(foreground)
    chosen = rng.permutation(len(candidates))[:count]
    return candidates[chosen].astype(np.float64)
