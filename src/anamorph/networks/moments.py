"""Where in a volume the values of a feature are."""

from __future__ import annotations

import torch
from torch import Tensor

ORDERS = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if a + b + c <= 2]
MOMENTS = len(ORDERS)
"""Of a volume: its mean, three first and six second moments."""


def moments(volume: Tensor) -> Tensor:
    """Means of a volume times products of Legendre polynomials of the coordinates, which run from -1 to 1.

    Args:
        volume: ``(B, C, I, J, K)``.

    Returns:
        ``(B, C, 10)`` in single precision, the plain mean first.
    """
    current = volume.float()
    for n in reversed(volume.shape[2:]):
        # The last axis is summed up, and its three orders go to the front of what is left.
        summed = current @ _polynomials(n, current) / n
        current = summed.movedim(-1, 2)
    every = current.reshape(*volume.shape[:2], 3, 3, 3)
    return torch.stack([every[:, :, a, b, c] for a, b, c in ORDERS], dim=-1)


def _polynomials(size: int, like: Tensor) -> Tensor:
    """``(size, 3)``: Legendre polynomials of order 0, 1 and 2 at the voxels of an axis."""
    x = torch.linspace(-1, 1, size, device=like.device) if size > 1 else torch.zeros(1, device=like.device)
    return torch.stack([torch.ones_like(x), x, (3 * x * x - 1) / 2], dim=1)
