"""Displacement and velocity fields: composition, resolution, exponential, logarithm, and from diagonal derivatives.

Fields are ``(3, I, J, K)`` float32 in voxels of their grid; a field u stands for the map ``x -> x + u(x)``. NumPy
arrays go to the fused CPU kernels, torch tensors to their twins.

A network that ends in a sigmoid gives ``s`` in (0, 1): ``2 s_a`` is the derivative of coordinate ``a`` along axis ``a``
(Stergios et al., RAMBO 2018; Estienne et al., Front. Comput. Neurosci. 2020). In voxels the inclusive sum along the
axis gives the place ``2 cumsum(s_a)(p) - 1``, and so the displacement ``cumsum(2 s_a - 1)(p)``: exactly 0 for 0.5. A
line of voxels keeps its order, but the determinant of the map may still be negative, as the six other derivatives are
free.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import NEIGHBOURS, Radius, box_smooth
from anamorph.geometry.sampling import identity_positions_torch, sample_torch
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import POINTS, over_slabs, rows_worth

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def compose(first: Array, second: Array, sign: float = 1.0) -> Array:
    """The field of "first, then second": ``first + sign * second(x + first)``."""
    if not isinstance(first, np.ndarray):
        return first + sign * sample_torch(second, identity_positions_torch(first) + first)
    if kernels is None:
        return by_twin(compose, first, second, sign)
    out, vectors = np.empty(first.shape, np.float32), np.empty((*second.shape[1:], 4), np.float32)
    least = rows_worth(second.shape[2] * second.shape[3], 2 * POINTS)
    over_slabs(kernels.interleave, len(vectors), _single(second), vectors, least=least)
    least = rows_worth(first.shape[2] * first.shape[3], POINTS // 2)
    over_slabs(kernels.compose, first.shape[1], _single(first), vectors, sign, out, least=least)
    return out


def upsample(field: Array, cell: tuple[int, int, int], shape: tuple[int, int, int]) -> Array:
    """A field on cells brought to the voxels of the cells, trilinear between cell centres, in fine voxels."""
    if max(cell) == 1:
        return field
    if not isinstance(field, np.ndarray):
        size = field.new_tensor(cell).reshape(3, 1, 1, 1)
        positions = (identity_positions_torch(field.new_empty(shape)) + 0.5) / size - 0.5
        return sample_torch(field, positions) * size
    if kernels is None:
        return by_twin(upsample, field, cell, shape)
    out = np.empty((3, *shape), np.float32)
    over_slabs(kernels.upsample, shape[0], _single(field), cell, out, least=rows_worth(shape[1] * shape[2]))
    return out


def warp_descriptor(descriptor: Array, disp_vox: Array) -> Array:
    """A channels-last descriptor ``(I, J, K, C)``, C a multiple of 16, pulled through a field."""
    if not isinstance(descriptor, np.ndarray):
        positions = identity_positions_torch(disp_vox) + disp_vox
        return sample_torch(descriptor.permute(3, 0, 1, 2), positions).permute(1, 2, 3, 0)
    if kernels is None:
        return by_twin(warp_descriptor, descriptor, disp_vox)
    out = np.empty(descriptor.shape, np.float32)
    over_slabs(kernels.warp_descriptor, len(descriptor), _single(descriptor), _single(disp_vox), out)
    return out


def _single(array: np.ndarray) -> np.ndarray:
    """The array as the kernels take it: C-contiguous float32."""
    return np.ascontiguousarray(array, np.float32)


def jacobian_determinant(disp_vox: Array) -> Array:
    """``(I, J, K)``: det(I + du/dx) by central differences, one-sided at the border.

    An axis of one voxel counts as unchanged.
    """
    if not isinstance(disp_vox, np.ndarray):
        return jacobian_determinant_torch(disp_vox)
    if kernels is None:
        return by_twin(jacobian_determinant_torch, disp_vox)
    out = np.empty(disp_vox.shape[1:], np.float32)
    over_slabs(kernels.jacobian_determinant, len(out), np.ascontiguousarray(disp_vox), out)
    return out


def jacobian_determinant_torch(disp_vox: torch.Tensor) -> torch.Tensor:
    """The twin of :func:`jacobian_determinant` for torch tensors."""
    import torch

    still = torch.zeros_like(disp_vox)
    slopes = [torch.gradient(disp_vox, dim=n)[0] if disp_vox.shape[n] > 1 else still for n in (1, 2, 3)]
    matrices = torch.stack(slopes, dim=-1).permute(1, 2, 3, 0, 4)
    return torch.linalg.det(matrices + torch.eye(3, dtype=disp_vox.dtype, device=disp_vox.device))


def exponential(velocity: Array, step_vox: float = 0.4) -> Array:
    """The displacement reached by flowing along a stationary velocity for unit time, by scaling and squaring.

    Arsigny et al., MICCAI 2006. The number of squarings keeps the first step below ``step_vox``, so the result is a
    diffeomorphism up to interpolation, and ``exponential(-v)`` is its inverse.
    """
    fastest = float(abs(velocity).max())
    squarings = max(0, math.ceil(math.log2(max(fastest, 1e-6) / step_vox)))
    disp = velocity * (0.5**squarings)
    for _ in range(squarings):
        disp = compose(disp, disp)
    return disp


def logarithm(disp_vox: Array, radius: Radius = NEIGHBOURS, iterations: int = 6, damping: float = 0.7) -> Array:
    """A smooth stationary velocity whose exponential is close to a displacement.

    ``v <- v + damping * smooth(u o exp(-v))``, the zeroth-order series of Bossa et al., MICCAI 2007, smoothed so that
    folds of u do not enter.
    """
    velocity = disp_vox * 1.0
    for _ in range(iterations):
        backward = exponential(-velocity)
        velocity = velocity + damping * box_smooth(compose(backward, disp_vox), radius)
    return velocity


def inverse_consistent(forward: Array, backward: Array, iterations: int = 10) -> tuple[Array, Array]:
    """Make two fields of opposite direction each other's inverse by averaging (deeds, ConvexAdam).

    ``u <- (u - u'(id + u)) / 2`` and the same with the roles exchanged, both at once.
    """
    for _ in range(iterations):
        forward, backward = _half_difference(forward, backward), _half_difference(backward, forward)
    return forward, backward


def _half_difference(field: Array, opposite: Array) -> Array:
    difference = compose(field, opposite, sign=-1.0)
    difference *= 0.5
    return difference


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
