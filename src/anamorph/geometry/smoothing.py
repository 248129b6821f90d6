"""Smoothing of vector fields by repeated box averages, the cheap stand-in for B-splines and Gaussians."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

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
    from anamorph.geometry import _smoothing_numba

    source, spare = field.copy(), np.empty(field.shape, np.float32)
    for _ in range(passes):
        for axis in range(3):
            if radius[axis] > 0 and field.shape[1 + axis] > 1:
                planes = field.shape[0] * field.shape[1]
                over_slabs(_smoothing_numba.box_axis, planes, source, axis, radius[axis], spare)
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
