"""Reading a volume between its voxels: NumPy arrays go to the fused CPU kernels, torch tensors to their twins.

The convention is voxel centres at whole indices everywhere (``align_corners=True``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np

from anamorph.geometry.frames import to_grid_sample_order, voxel_to_normalised
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import POINTS, over_slabs, rows_worth

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

Interpolation = Literal["linear", "nearest"]


def native(array: np.ndarray) -> np.ndarray:
    """The same values as the kernels want them: C-contiguous, in the machine's byte order; copied only if need be."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    out = np.empty(array.shape, dtype)
    copy_planes(array, out)
    return out


def copy_planes(source: np.ndarray, target: np.ndarray) -> None:
    """Copy an array into one of another order of axes.

    Of three axes that are turned round, each plane along the middle one fits into the cache, where a whole volume does
    not: three times as fast.
    """
    if source.ndim < 3:
        target[...] = source
        return
    over_slabs(_copy_planes, source.shape[-2], source, target, least=8)


def _copy_planes(begin: int, end: int, source: np.ndarray, target: np.ndarray) -> None:
    for j in range(begin, end):
        target[..., j, :] = source[..., j, :]


def identity_positions(shape: tuple[int, int, int]) -> np.ndarray:
    """``(3, I, J, K)`` float32: every voxel's own index."""
    out = np.empty((3, *shape), np.float32)
    for axis, index in enumerate(np.ogrid[tuple(map(slice, shape))]):
        out[axis] = index
    return out


def identity_positions_torch(like: torch.Tensor) -> torch.Tensor:
    """The twin of :func:`identity_positions`: shape, device and dtype of the last three axes of ``like``."""
    import torch

    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in like.shape[-3:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def advance_affine(positions_vox: np.ndarray, matrix: np.ndarray) -> None:
    """Map ``(3, N)`` float32 positions by a 3x4 or 4x4 matrix, in place."""
    matrix = matrix.astype(np.float32)
    if kernels is None:
        positions_vox[:] = matrix[:3, :3] @ positions_vox + matrix[:3, 3:]
        return
    over_slabs(kernels.advance_affine, positions_vox.shape[1], positions_vox, matrix, least=POINTS)


def advance_displacement(
    positions_vox: np.ndarray, disp_vox: np.ndarray, to_field: np.ndarray, from_field: np.ndarray
) -> None:
    """Map ``(3, N)`` float32 positions by ``p + L u(T p)`` in place, the border of u repeated.

    Args:
        positions_vox: voxel coordinates of any grid.
        disp_vox: ``(3, I, J, K)`` u, in voxels of its own grid.
        to_field: T, a 4x4 matrix from the positions' voxels to the field's.
        from_field: L, the 3x3 matrix that takes vectors back.
    """
    matrices = to_field.astype(np.float32), np.ascontiguousarray(from_field, np.float32)
    if kernels is None:
        there = matrices[0][:3, :3] @ positions_vox + matrices[0][:3, 3:]
        positions_vox += matrices[1] @ by_twin(sample_torch, disp_vox, there)
        return
    count = positions_vox.shape[1]
    over_slabs(kernels.advance_displacement, count, positions_vox, disp_vox, *matrices, least=POINTS)


def aligned_positions(
    shape: tuple[int, int, int], disp_vox: np.ndarray, scale: np.ndarray, offset: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """``(3, I, J, K)`` float32: where a field on a grid with the same axes takes every voxel.

    It is what :func:`advance_displacement` makes of all voxels, several times as fast as for voxels anywhere.

    Args:
        shape: of the grid whose voxels are moved.
        disp_vox: ``(3, ...)``, in voxels of its own grid, its border repeated.
        scale: ``(3,)``; with ``offset`` it leads from voxels of the grid to those of the field along each axis.
        offset: ``(3,)``.
        matrix: 3x4 or 4x4, applied to the places reached.
    """
    out = np.empty((3, *shape), np.float32)
    given = scale.astype(np.float64), offset.astype(np.float64), np.ascontiguousarray(matrix, np.float32), out
    over_slabs(kernels.aligned_positions, shape[0], disp_vox, *given, least=rows_worth(shape[1] * shape[2]))
    return out


def distances(positions_vox: np.ndarray, matrix: np.ndarray, axes: np.ndarray, out: np.ndarray) -> None:
    """How far the positions of all voxels of a grid lie from those voxels, written into ``out`` ``(I, J, K)`` float32.

    Args:
        positions_vox: ``(3, I, J, K)`` float32.
        matrix: 3x4 or 4x4, from the positions to voxels of the grid.
        axes: 3x3, the steps between voxels of the grid; their unit is that of the distances.
    """
    matrix, axes = np.ascontiguousarray(matrix, np.float32), np.ascontiguousarray(axes, np.float32)
    if kernels is None:
        flat = positions_vox.reshape(3, -1)
        apart = axes @ (matrix[:3, :3] @ flat + matrix[:3, 3:] - identity_positions(out.shape).reshape(3, -1))
        out[:] = np.sqrt((apart**2).sum(axis=0)).reshape(out.shape)
        return
    least = rows_worth(out.shape[1] * out.shape[2])
    over_slabs(kernels.distances, len(out), positions_vox, matrix, axes, out, least=least)


def sample(
    volume: Array, positions_vox: Array, interpolation: Interpolation = "linear", fill: float | None = None
) -> Array:
    """Read a volume at voxel positions.

    Args:
        volume: ``(C, I, J, K)``.
        positions_vox: ``(3, ...)`` voxel coordinates of the volume, order (i, j, k).
        interpolation: trilinear or nearest.
        fill: value for positions more than half a voxel outside; ``None`` repeats the border.

    Returns:
        ``(C, ...)``: float32 for linear, the volume's dtype for nearest.
    """
    if isinstance(volume, np.ndarray):
        return _sample_numpy(volume, positions_vox, interpolation, fill)
    return sample_torch(volume, positions_vox, interpolation, fill)


def _sample_numpy(
    volume: np.ndarray, positions_vox: np.ndarray, interpolation: Interpolation, fill: float | None
) -> np.ndarray:
    volume = native(volume)
    linear = interpolation == "linear"
    dtype = np.dtype(np.float32) if linear else volume.dtype
    flat = np.ascontiguousarray(positions_vox, np.float32).reshape(3, -1)
    background = np.asarray(0 if fill is None else fill).astype(dtype)
    if kernels is None:
        out = by_twin(sample_torch, volume.astype(dtype), flat, interpolation, fill)
    elif linear:
        out = np.empty((volume.shape[0], flat.shape[1]), dtype)
        over_slabs(
            kernels.sample_linear, flat.shape[1], volume, flat, fill is None, background.item(), out, least=POINTS
        )
    else:
        bits = np.dtype(f"u{dtype.itemsize}")
        out = np.empty((volume.shape[0], flat.shape[1]), dtype)
        given = volume.view(bits), flat, fill is None, background.view(bits).item(), out.view(bits)
        over_slabs(kernels.sample_nearest, flat.shape[1], *given, least=POINTS)
    return cast(np.ndarray, out.reshape(volume.shape[0], *positions_vox.shape[1:]))


def sample_torch(
    volume: torch.Tensor,
    positions_vox: torch.Tensor,
    interpolation: Interpolation = "linear",
    fill: float | None = None,
) -> torch.Tensor:
    """The twin of :func:`sample` for torch tensors, differentiable in both arguments."""
    import torch
    from torch.nn.functional import grid_sample

    shape = tuple(volume.shape[1:])
    flat = positions_vox.reshape(3, -1).T
    if interpolation == "nearest":
        # Half away from the lower voxel, as in the CPU kernel; grid_sample would round halves to even.
        flat = torch.floor(flat + 0.5)
    coordinates = to_grid_sample_order(voxel_to_normalised(flat, shape)).reshape(1, 1, 1, -1, 3)
    source = volume if volume.is_floating_point() else volume.float()
    out = grid_sample(
        source[None],
        coordinates.to(source.dtype),
        mode="bilinear" if interpolation == "linear" else "nearest",
        padding_mode="border",
        align_corners=True,
    ).reshape(volume.shape[0], -1)
    if fill is not None:
        last = positions_vox.new_tensor(shape).reshape(3, 1) - 0.5
        raw = positions_vox.reshape(3, -1)
        outside = ((raw < -0.5) | (raw > last) | ~torch.isfinite(raw)).any(dim=0)
        out = torch.where(outside, out.new_tensor(fill), out)
    if interpolation == "nearest":
        out = out.to(volume.dtype)
    return out.reshape(volume.shape[0], *positions_vox.shape[1:])


def sample_labels(labels: np.ndarray, positions_vox: np.ndarray, fill: int = 0) -> np.ndarray:
    """Read a label map at voxel positions as the argmax of linearly interpolated one-hot maps (ties: the lower label).

    Args:
        labels: ``(I, J, K)`` integers.
        positions_vox: ``(3, ...)`` voxel coordinates.
        fill: label of positions more than half a voxel outside.
    """
    labels = native(labels)
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    flat = np.ascontiguousarray(positions_vox, np.float32).reshape(3, -1)
    if kernels is None:
        return cast(np.ndarray, by_twin(sample_labels_torch, labels, flat, fill)).reshape(positions_vox.shape[1:])
    out = np.empty(flat.shape[1], labels.dtype)
    background = labels.dtype.type(fill).item()
    over_slabs(kernels.sample_labels, flat.shape[1], labels, flat, background, out, least=POINTS)
    return out.reshape(positions_vox.shape[1:])


def sample_labels_torch(labels: torch.Tensor, positions_vox: torch.Tensor, fill: int = 0) -> torch.Tensor:
    """The readable twin of :func:`sample_labels`: makes the one-hot maps and interpolates them."""
    import torch

    names = torch.unique(labels)
    one_hot = (labels[None] == names.reshape(-1, 1, 1, 1)).float()
    winner = names[sample_torch(one_hot, positions_vox).argmax(dim=0)]
    inside = sample_torch(torch.ones_like(one_hot[:1]), positions_vox, fill=0.0)[0] > 0
    return torch.where(inside, winner, torch.as_tensor(fill, dtype=labels.dtype))
