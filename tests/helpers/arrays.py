"""Random descriptors, textures and smooth fields that the tests of the kernels share."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

SHAPES = [(9, 7, 11), (3, 13, 2), (1, 12, 7), (14, 9, 1)]
"""Odd sizes, thin axes and axes of a single voxel."""


def random_descriptor(shape: tuple[int, int, int], channels: int = 16, seed: int = 0) -> np.ndarray:
    """White noise ``(I, J, K, C)`` in [0, 1]."""
    return np.random.default_rng(seed).random((*shape, channels), np.float32)


def smooth_descriptor(shape: tuple[int, int, int], sigma: float = 2.0, seed: int = 0) -> np.ndarray:
    """Sixteen channels of smooth noise of unit variance, channels last."""
    noise = np.random.default_rng(seed).standard_normal((*shape, 16))
    smooth = gaussian_filter(noise, (sigma, sigma, sigma, 0))
    return np.ascontiguousarray(smooth / smooth.std(), np.float32)


def random_weight(shape: tuple[int, int, int], seed: int = 1) -> np.ndarray:
    """Weights in [0, 1], a fifth of them zero."""
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * (rng.random(shape) > 0.2)).astype(np.float32)


def smooth_vectors(shape: tuple[int, int, int], largest: float, sigma: float = 4.0, seed: int = 2) -> np.ndarray:
    """A smooth field ``(3, I, J, K)``, zero along single-voxel axes, whose longest vector is ``largest``."""
    noise = np.random.default_rng(seed).standard_normal((3, *shape))
    field = gaussian_filter(noise, (0, sigma, sigma, sigma), mode="nearest")
    field[[axis for axis in range(3) if shape[axis] == 1]] = 0
    return (largest * field / np.sqrt((field**2).sum(axis=0).max())).astype(np.float32)


def inner(margin: int) -> tuple[slice, ...]:
    """The voxels at least ``margin`` from every side, for ``(C, I, J, K)``."""
    return (slice(None), *(slice(margin, -margin),) * 3)
