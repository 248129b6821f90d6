"""Warping a batch through a batch of fields, differentiably."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from anamorph.geometry.frames import to_grid_sample_order, voxel_to_normalised
from anamorph.geometry.sampling import identity_positions_torch


def warp(volume: Tensor, disp_vox: Tensor) -> Tensor:
    """Pull volumes through fields, linear between voxel centres, with the border repeated outside.

    Args:
        volume: ``(B, C, I, J, K)`` of the moving side.
        disp_vox: ``(B, 3, I, J, K)`` from the fixed voxels to the moving ones, order i, j, k.

    Returns:
        ``(B, C, I, J, K)`` on the fixed voxels.
    """
    positions = identity_positions_torch(disp_vox[0]) + disp_vox
    places = to_grid_sample_order(voxel_to_normalised(positions.movedim(1, -1), tuple(volume.shape[2:])))
    return grid_sample(volume, places.to(volume.dtype), padding_mode="border", align_corners=True)


def one_hot(labels: Tensor, values: Tensor) -> Tensor:
    """``(B, 1, I, J, K)`` label maps to ``(B, L, I, J, K)`` float32, one channel per value."""
    return (labels == values.reshape(1, -1, 1, 1, 1)).to(torch.float32)
