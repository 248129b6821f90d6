"""Fields given by their diagonal derivatives, each integrated along its own axis.

A network that ends in a sigmoid gives ``s`` in (0, 1): ``2 s_a`` is the derivative of coordinate ``a`` along axis ``a``
(Stergios et al., RAMBO 2018; Estienne et al., Front. Comput. Neurosci. 2020). In voxels the inclusive sum along the
axis gives the place ``2 cumsum(s_a)(p) - 1``, and so the displacement ``cumsum(2 s_a - 1)(p)``: exactly 0 for 0.5. A
line of voxels keeps its order, but the determinant of the map may still be negative, as the six other derivatives are
free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def integrate_gradients(gradients: Array) -> Array:
    """The displacement whose diagonal derivatives are given.

    Args:
        gradients: ``(..., 3, I, J, K)`` in (0, 1), channel order i, j, k; 0.5 is the identity.

    Returns:
        ``(..., 3, I, J, K)`` in voxels: what is added to a voxel's index. NumPy arrays are summed in float64, tensors
        in their own type, but at least float32.
    """
    if isinstance(gradients, np.ndarray):
        excess = 2 * gradients.astype(np.float64) - 1
        summed = [np.cumsum(excess[..., axis, :, :, :], axis=axis - 3) for axis in range(3)]
        return np.stack(summed, axis=-4).astype(np.float32)
    import torch

    excess = 2 * (gradients if gradients.dtype == torch.float64 else gradients.float()) - 1
    return torch.stack([excess[..., axis, :, :, :].cumsum(axis - 3) for axis in range(3)], dim=-4)


def diagonal_gradients(disp_vox: Array) -> Array:
    """The gradients that integrate to a displacement: the inverse of :func:`integrate_gradients`.

    Args:
        disp_vox: ``(..., 3, I, J, K)`` in voxels.

    Returns:
        The same shape; values outside (0, 1) say that the map turns a line of voxels back on itself, or stretches it
        beyond twice its length, which this form cannot express.
    """
    if isinstance(disp_vox, np.ndarray):
        steps = [np.diff(disp_vox[..., axis, :, :, :], axis=axis - 3, prepend=0) for axis in range(3)]
        return (np.stack(steps, axis=-4) + 1) / 2
    import torch

    parts = [disp_vox[..., axis, :, :, :] for axis in range(3)]
    first = [part.narrow(axis - 3, 0, 1) * 0 for axis, part in enumerate(parts)]
    steps = [part.diff(dim=axis - 3, prepend=zero) for axis, (part, zero) in enumerate(zip(parts, first, strict=True))]
    return (torch.stack(steps, dim=-4) + 1) / 2
