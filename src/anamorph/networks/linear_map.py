"""Linear maps that a network predicts: their displacements, together with a field or alone.

A map is kept as ``A - I``, a ``(B, 3, 4)`` matrix on voxel coordinates centred in the volume in units of
:data:`UNIT_VOX`: rotation and translation do not mix, all twelve numbers are of one order, and none changes its meaning
with the size of the volume.
"""

from __future__ import annotations

from torch import Tensor

from anamorph.geometry.sampling import identity_positions_torch
from anamorph.networks.warp import warp

UNIT_VOX = 32.0
"""A translation of 1 is so many voxels."""


def linear_after(offset: Tensor, disp_vox: Tensor) -> Tensor:
    """The displacement to ``A(p + u(p))``: the moving scan is aligned linearly first, then deformed.

    Args:
        offset: ``(B, 3, 4)``.
        disp_vox: ``(B, 3, I, J, K)``: u.
    """
    half = (disp_vox.new_tensor(disp_vox.shape[2:]) - 1).reshape(3, 1, 1, 1) / 2
    places = (identity_positions_torch(disp_vox[0]) - half + disp_vox) / UNIT_VOX
    moved = (offset[:, :, :3] @ places.flatten(2) + offset[:, :, 3:]) * UNIT_VOX
    return disp_vox + moved.reshape(disp_vox.shape)


def linear_before(offset: Tensor, disp_vox: Tensor) -> Tensor:
    """The displacement to ``A p + u(A p)``: the moving scan is deformed first, then moved linearly (as published).

    Arguments as of :func:`linear_after`; outside the volume u is that of its border.
    """
    moved = linear_after(offset, disp_vox.new_zeros(disp_vox.shape))
    return moved + warp(disp_vox, moved)
