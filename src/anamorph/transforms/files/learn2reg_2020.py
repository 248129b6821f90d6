"""The .npz fields of Learn2Reg 2020 and 2021: (3, X/2, Y/2, Z/2), float16, in voxels of the full resolution.

Their evaluator enlarges each component with ``scipy.ndimage.zoom(u, 2, order=2)``, which lays first and last samples on
the first and last voxels; so does this module, in both directions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.atomic import atomic_path
from anamorph.transforms.base import Transform
from anamorph.transforms.files.learn2reg import to_voxels


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at half resolution.

    Raises:
        UserError: an axis has an odd number of voxels, which the evaluator cannot restore.
    """
    small = halved(to_voxels(transform, fixed_grid, moving_grid)).astype(np.float16)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, small)


def halved(field: np.ndarray) -> np.ndarray:
    """``(3, I/2, J/2, K/2)`` float32 of a field ``(3, I, J, K)``; values stay.

    Raises:
        UserError: an axis has an odd number of voxels, which the evaluator cannot restore.
    """
    shape = field.shape[1:]
    if any(n % 2 for n in shape):
        raise UserError(f"half-resolution fields need even sizes, not {shape}; choose learn2reg-npz")
    axes = [np.linspace(0, n - 1, n // 2, dtype=np.float32) for n in shape]
    return sample(field, np.stack(np.meshgrid(*axes, indexing="ij")))


def enlarged(field: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """``(3, I, J, K)`` at full resolution, as the evaluator makes it; values stay.

    Raises:
        UserError: the field has neither the full nor half the size.
    """
    if field.shape[1:] == shape:
        return field
    if field.shape[1:] != tuple(n // 2 for n in shape):
        raise UserError(f"a field of shape {field.shape} is not half the size of the fixed image, {shape}")
    from scipy.ndimage import zoom

    factors = [n / m for n, m in zip(shape, field.shape[1:], strict=True)]
    return np.stack([zoom(component, factors, order=2) for component in field])
