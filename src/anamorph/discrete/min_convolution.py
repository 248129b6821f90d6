"""Min-convolution with a parabola: the cheapest way to every label when a change of label costs its square.

Felzenszwalb and Huttenlocher, Theory of Computing 2012; separable over the axes, so exact in three passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

AT_ONCE = 2**22
"""Values that the torch twin holds at a time."""


def min_convolve(costs: Array, weight: tuple[float, float, float], offset: Array) -> Array:
    """``out[n, a] = min over b of costs[n, b] + ||weight * (a - b) + offset[n]||^2``.

    Args:
        costs: ``(N, A, B, C)`` float32: the costs of the labels of N nodes.
        weight: length of a step of one label along each axis.
        offset: ``(N, 3)`` float32, in the same unit; need not be whole.

    Returns:
        ``(N, A, B, C)`` float32.
    """
    if not isinstance(costs, np.ndarray):
        return min_convolve_torch(costs, weight, offset)
    from anamorph.discrete import _min_convolution_numba

    flat = np.ascontiguousarray(costs, np.float32).reshape(len(costs), -1)
    out = np.empty_like(flat)
    _min_convolution_numba.min_convolve_all(
        flat, costs.shape[1:], np.asarray(weight, np.float32), np.ascontiguousarray(offset, np.float32), out
    )
    return out.reshape(costs.shape)


def min_convolve_torch(costs: torch.Tensor, weight: tuple[float, float, float], offset: torch.Tensor) -> torch.Tensor:
    """The readable twin of :func:`min_convolve`, differentiable, on any device."""
    import torch

    nodes = max(1, AT_ONCE // (costs[0].numel() * max(costs.shape[1:])))
    out = []
    for part, shift in zip(costs.split(nodes), offset.split(nodes), strict=True):
        for axis in range(3):
            label = torch.arange(part.shape[1 + axis], device=part.device, dtype=part.dtype)
            way = weight[axis] * (label[:, None] - label) + shift[:, axis, None, None]
            moved = part.movedim(1 + axis, -1)
            part = (moved[..., None, :] + (way**2)[:, None, None]).amin(dim=-1).movedim(-1, 1 + axis)
        out.append(part)
    return torch.cat(out)
