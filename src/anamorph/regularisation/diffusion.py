"""Diffusion regularisation: squared differences between neighbouring displacement vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def diffusion_strength(weight: float, spacing_mm: np.ndarray) -> np.ndarray:
    """``(3, 3)`` strengths that make the diffusion term in voxels the one in millimetres.

    A difference of component c along axis a is ``spacing_c / spacing_a`` of its value in voxels; equal spacings give
    ``weight`` everywhere.
    """
    ratio = spacing_mm.reshape(3, 1) / spacing_mm.reshape(1, 3)
    return (weight * ratio**2).astype(np.float32)


def add_diffusion(field: Array, strength: np.ndarray, gradient: Array) -> float:
    """Sum of ``strength[c, a] * (forward difference of component c along axis a)^2``; its gradient is added in place.

    Args:
        field: ``(3, I, J, K)``.
        strength: ``(3, 3)`` from :func:`diffusion_strength`.
        gradient: ``(3, I, J, K)``, changed.
    """
    if not isinstance(field, np.ndarray):
        return add_diffusion_torch(field, strength, gradient)
    from anamorph.regularisation import _diffusion_numba

    return sum(over_slabs(_diffusion_numba.add_diffusion, field.shape[1], field, strength, gradient))


def add_diffusion_torch(field: torch.Tensor, strength: np.ndarray, gradient: torch.Tensor) -> float:
    """The readable twin of :func:`add_diffusion`."""
    total = 0.0
    for axis in range(3):
        weight = field.new_tensor(strength[:, axis].tolist()).reshape(3, 1, 1, 1)
        difference = field.diff(dim=axis + 1)
        total += float((weight * difference**2).sum())
        n = field.shape[axis + 1]
        gradient.narrow(axis + 1, 0, n - 1).sub_(2 * weight * difference)
        gradient.narrow(axis + 1, 1, n - 1).add_(2 * weight * difference)
    return total
