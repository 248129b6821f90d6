"""The data term of instance optimisation: descriptor mismatch under a displacement, with its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def data_term(fixed: Array, weight: Array, moving: Array, disp_vox: Array) -> tuple[float, Array]:
    """Sum of ``weight * ||F(p) - M(p + u(p))||^2`` and its gradient with respect to u.

    Args:
        fixed: ``(I, J, K, C)`` descriptor, C a multiple of 16.
        weight: ``(I, J, K)``.
        moving: like ``fixed``; read trilinearly, its border repeated.
        disp_vox: ``(3, I, J, K)`` in voxels of the descriptors.

    Returns:
        The sum, and the gradient ``(3, I, J, K)``.
    """
    if not isinstance(fixed, np.ndarray):
        return data_term_torch(fixed, weight, moving, disp_vox)
    from anamorph.optimise import _data_term_numba

    gradient = np.empty(disp_vox.shape, np.float32)
    fixed, moving = np.ascontiguousarray(fixed), np.ascontiguousarray(moving)
    sums = over_slabs(_data_term_numba.data_term, len(fixed), fixed, weight, moving, disp_vox, gradient)
    return sum(sums), gradient


def data_term_torch(
    fixed: torch.Tensor, weight: torch.Tensor, moving: torch.Tensor, disp_vox: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """The readable twin of :func:`data_term`; the gradient comes from autograd."""
    import torch

    from anamorph.geometry.sampling import identity_positions_torch, sample_torch

    with torch.enable_grad():
        variable = disp_vox.detach().requires_grad_()
        positions = identity_positions_torch(weight) + variable
        warped = sample_torch(moving.permute(3, 0, 1, 2), positions)
        loss = (weight * ((warped - fixed.permute(3, 0, 1, 2)) ** 2).sum(dim=0)).sum()
        (gradient,) = torch.autograd.grad(loss, variable)
    return float(loss.detach()), gradient
