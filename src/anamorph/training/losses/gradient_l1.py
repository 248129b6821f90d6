from __future__ import annotations

from torch import Tensor


def gradient_l1(gradients: Tensor) -> Tensor:
    """The mean distance of ``(B, 3, I, J, K)`` diagonal gradients from 0.5, which is the identity."""
    return (gradients - 0.5).abs().mean()
