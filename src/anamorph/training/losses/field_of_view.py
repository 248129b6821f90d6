from __future__ import annotations

import torch
from torch import Tensor


def field_of_view(image: Tensor) -> Tensor:
    """``(B, 1, I, J, K)``: 1 in the box around the values above 0, which is what a scan padded by 0 has seen."""
    seen = (image > 0).any(dim=1, keepdim=True)
    box = torch.ones_like(image[:, :1])
    for axis in (2, 3, 4):
        others = tuple(a for a in (2, 3, 4) if a != axis)
        line = seen.any(dim=others[0], keepdim=True).any(dim=others[1], keepdim=True).to(image.dtype)
        # Between the first and the last voxel that holds anything.
        box = box * line.cummax(axis)[0] * line.flip(axis).cummax(axis)[0].flip(axis)
    return box
