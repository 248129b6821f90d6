"""Averages of voxels: over cells (their grid is ``Grid.pooled``), and box averages that smooth vector fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs, rows_worth

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


Cell = tuple[int, int, int]


def pool_volume(volume: Array, cell: Cell) -> Array:
    """Average a ``(C, I, J, K)`` volume over cells; a cell cut by the border averages the voxels it has.

    Returns:
        ``(C, ceil(I / cell), ...)`` float32.
    """
    if not isinstance(volume, np.ndarray):
        return pool_volume_torch(volume, cell)
    if max(cell) == 1:
        return volume.astype(np.float32, copy=False)
    if kernels is None:
        return by_twin(pool_volume_torch, volume, cell)
    out = np.empty((volume.shape[0], *_cells(volume.shape[1:], cell)), np.float32)
    least = rows_worth(volume[0, 0].size * cell[0])
    over_slabs(
        kernels.pool_channels_first, len(out) * out.shape[1], np.ascontiguousarray(volume), cell, out, least=least
    )
    return out


def pool_volume_torch(volume: torch.Tensor, cell: Cell) -> torch.Tensor:
    """The twin of :func:`pool_volume` for torch tensors."""
    from torch.nn.functional import avg_pool3d

    # PyTorch refuses cells larger than the volume.
    fitting = [min(c, n) for c, n in zip(cell, volume.shape[1:], strict=True)]
    return avg_pool3d(volume[None].float(), fitting, ceil_mode=True, count_include_pad=False)[0]


def pool_descriptor(descriptor: Array, cell: Cell) -> Array:
    """The same for channels-last descriptors ``(I, J, K, C)``."""
    if max(cell) == 1:
        return descriptor
    if not isinstance(descriptor, np.ndarray):
        return pool_volume_torch(descriptor.permute(3, 0, 1, 2), cell).permute(1, 2, 3, 0)
    if kernels is None:
        return by_twin(pool_descriptor, descriptor, cell)
    out = np.empty((*_cells(descriptor.shape[:3], cell), descriptor.shape[3]), np.float32)
    least = rows_worth(descriptor[0, 0].size * cell[0] * cell[1])
    over_slabs(
        kernels.pool_channels_last, len(out) * out.shape[1], np.ascontiguousarray(descriptor), cell, out, least=least
    )
    return out


def _cells(shape: tuple[int, ...], cell: Cell) -> tuple[int, ...]:
    return tuple(-(-n // c) for n, c in zip(shape, cell, strict=True))


Radius = tuple[int, int, int]
NEIGHBOURS: Radius = (1, 1, 1)


def box_smooth(field: Array, radius: Radius = NEIGHBOURS, passes: int = 1) -> Array:
    """Average a field over boxes of ``2 * radius + 1`` voxels, several times; the border is repeated.

    Three passes of radius 1 are close to a quadratic B-spline (ConvexAdam's regularity of the field).

    Args:
        field: ``(C, I, J, K)`` float32.
        radius: in voxels of the field, per axis; 0 leaves an axis alone.
        passes: how often.
    """
    if max(radius) == 0 or passes == 0:
        return field
    if not isinstance(field, np.ndarray):
        return box_smooth_torch(field, radius, passes)
    if kernels is None:
        return by_twin(box_smooth_torch, field, radius, passes)
    source, spare = np.array(field, np.float32, order="C"), np.empty(field.shape, np.float32)
    for _ in range(passes):
        for axis in range(3):
            if radius[axis] > 0 and field.shape[1 + axis] > 1:
                planes = field.shape[0] * field.shape[1]
                least = rows_worth(field.shape[2] * field.shape[3])
                over_slabs(kernels.box_axis, planes, source, axis, radius[axis], spare, least=least)
                source, spare = spare, source
    return source


def box_smooth_torch(field: torch.Tensor, radius: Radius = NEIGHBOURS, passes: int = 1) -> torch.Tensor:
    """The twin of :func:`box_smooth` for torch tensors."""
    from torch.nn.functional import avg_pool3d, pad

    border = [r for r in reversed(radius) for _ in range(2)]
    for _ in range(passes):
        padded = pad(field[None], border, mode="replicate")
        field = avg_pool3d(padded, [2 * r + 1 for r in radius], stride=1)[0]
    return field
