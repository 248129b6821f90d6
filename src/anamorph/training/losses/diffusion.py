from __future__ import annotations

import torch
from torch import Tensor


def diffusion(disp_vox: Tensor) -> Tensor:
    """The mean squared difference of neighbouring displacements over all nine derivatives of ``(B, 3, I, J, K)``.

    Gradient integration bounds the three diagonal derivatives alone; this one smooths between the lines of voxels.
    """
    parts = [disp_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4) if disp_vox.shape[axis] > 1]
    return torch.stack(parts).mean() if parts else disp_vox.sum() * 0
