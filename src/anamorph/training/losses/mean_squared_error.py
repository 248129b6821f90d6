from __future__ import annotations

from torch import Tensor


def mean_squared_error(fixed: Tensor, warped: Tensor) -> Tensor:
    """The mean of squared differences over batch, channels and voxels of two ``(B, C, I, J, K)``."""
    return (fixed - warped).square().mean()
