"""Min-convolution with a parabola: the cheapest way to every label when a change of label costs its square.

Felzenszwalb and Huttenlocher, Theory of Computing 2012; separable over the axes, so exact in three passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

AT_ONCE = 2**22
"""Values that the torch twin holds at a time."""


def min_convolve(costs: Array, weight: Sequence[float], offset: Array) -> Array:
    """``out[n, a] = min over b of costs[n, b] + ||weight * (a - b) + offset[n]||^2``.

    Args:
        costs: ``(N, A, B, C)`` or ``(N, A, B)`` float32: the costs of the labels of N nodes.
        weight: length of a step of one label along each axis.
        offset: ``(N, 3)`` or ``(N, 2)`` float32, in the same unit; need not be whole.

    Returns:
        float32, the shape of the costs.
    """
    if not isinstance(costs, np.ndarray):
        return min_convolve_torch(costs, weight, offset)
    from anamorph.discrete import _min_convolution_numba

    flat = np.ascontiguousarray(costs, np.float32).reshape(len(costs), -1)
    out = np.empty_like(flat)
    # A window of two axes is one plane of a window of three.
    missing = 3 - len(weight)
    size = (1,) * missing + costs.shape[1:]
    steps, shifts = np.pad(np.asarray(weight, np.float32), (missing, 0)), np.pad(offset, ((0, 0), (missing, 0)))
    shifts = np.ascontiguousarray(shifts, np.float32)
    over_slabs(_min_convolution_numba.min_convolve_all, len(flat), flat, size, steps, shifts, out)
    return out.reshape(costs.shape)


def min_convolve_torch(costs: torch.Tensor, weight: Sequence[float], offset: torch.Tensor) -> torch.Tensor:
    """The readable twin of :func:`min_convolve`, differentiable, on any device."""
    import torch

    nodes = max(1, AT_ONCE // (costs[0].numel() * max(costs.shape[1:])))
    out = []
    for part, shift in zip(costs.split(nodes), offset.split(nodes), strict=True):
        for axis in range(len(weight)):
            label = torch.arange(part.shape[1 + axis], device=part.device, dtype=part.dtype)
            way = weight[axis] * (label[:, None] - label) + shift[:, axis, None, None]
            moved = part.movedim(1 + axis, -1)
            others = (1,) * (len(weight) - 1)
            part = (
                (moved[..., None, :] + (way**2).reshape(len(way), *others, *way.shape[1:]))
                .amin(dim=-1)
                .movedim(-1, 1 + axis)
            )
        out.append(part)
    return torch.cat(out)
