"""Regular windows of displacement labels and the grids of points they are tried at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def label_window(size: Sequence[int], reach_vox: Sequence[float], device: torch.device | str | None = None) -> Tensor:
    """The displacements of a window from ``-reach_vox`` to ``+reach_vox``, both included.

    Args:
        size: labels per axis; an axis of one label has the displacement 0.
        reach_vox: voxels per axis, order (i, j) or (i, j, k).
        device: where the result lives.

    Returns:
        ``(L, dims)`` float32, the last axis fastest: ``.reshape(*size, dims)`` is the window.
    """
    import torch

    axes = [torch.linspace(-r, r, n) if n > 1 else torch.zeros(1) for n, r in zip(size, reach_vox, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).to(device)


def grid_points(shape: Sequence[int], size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """The centres of ``size`` equal cells that fill a volume: the voxels themselves if ``size == shape``.

    Args:
        shape: voxels per axis.
        size: cells per axis.
        device: where the result lives.

    Returns:
        ``(N, dims)`` float32 voxel coordinates, the last axis fastest.
    """
    import torch

    axes = [(torch.arange(n) + 0.5) * (s / n) - 0.5 for s, n in zip(shape, size, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).to(device)
