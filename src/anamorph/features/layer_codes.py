"""Supervoxel layers as feature vectors and as places: every layer is described by a few codes.

Of SLIC-Reg (Heinrich and Hansen, MIDL 2021, published code). Several supervoxels share a code; which ones is drawn anew
for every layer, so that all layers together tell them apart. Codes are blurred so that they can be followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    from torch import Tensor


CODES = 16
BLUR = 5
"""Voxels of the features over which they are averaged."""


@dataclass(frozen=True, eq=False)
class CodedLayers:
    """Features ``(I, J, K, C)`` float32 on a grid, C codes of all layers one after the other."""

    values: Tensor
    grid: Grid

    def at(self, points_mm: np.ndarray) -> Tensor:
        """``(N, C)``: the features at RAS positions ``(N, 3)``, linear, the border repeated."""
        from anamorph.geometry.sampling import sample_torch

        positions = self.values.new_tensor(self.grid.world_to_voxel(points_mm).T)
        return sample_torch(self.values.permute(3, 0, 1, 2), positions).T


def draw_codes(layers: int, classes: int, rng: np.random.Generator, codes: int = CODES) -> np.ndarray:
    """Which code each label has: ``(layers, classes)`` integers below ``codes``.

    Every run of ``codes`` labels is a permutation of all codes.
    """
    runs = -(-classes // codes)
    drawn = rng.permuted(np.broadcast_to(np.arange(codes), (layers, runs, codes)), axis=2)
    return drawn.reshape(layers, -1)[:, :classes]


def code_labels(labels: Tensor, grid: Grid, codes: np.ndarray) -> CodedLayers:
    """Features of label maps at half their resolution.

    Args:
        labels: ``(L, I, J, K)`` uint8.
        grid: of the labels.
        codes: of :func:`draw_codes`.
    """
    step = [2 if n > 1 else 1 for n in labels.shape[1:]]
    affine = grid.affine.copy()
    affine[:3, :3] *= step
    i, j, k = (-(-n // s) for n, s in zip(labels.shape[1:], step, strict=True))
    return CodedLayers(_blurred(_shares(labels, codes)), Grid((i, j, k), affine))


def code_scores(scores: Iterable[Tensor], grid: Grid, codes: np.ndarray) -> CodedLayers:
    """Features of what a network predicts, which keep how sure it is.

    Args:
        scores: for each layer ``(S, I, J, K)`` before the softmax.
        grid: of the scores.
        codes: of :func:`draw_codes`.
    """
    import torch

    count = int(codes.max()) + 1
    parts = []
    for layer, code in zip(scores, codes, strict=True):
        members = layer.new_zeros((count, len(code)))
        members[code, np.arange(len(code))] = 1
        parts.append(torch.tensordot(members, layer.softmax(dim=0), dims=1).float())
    return CodedLayers(_blurred(torch.cat(parts).permute(1, 2, 3, 0).contiguous()), grid)


def draw_signs(layers: int, classes: int, rng: np.random.Generator, channels: int = CODES) -> np.ndarray:
    """``(layers, channels, classes)`` signs that project probabilities to few channels.

    Squared distances stay the same on average: those of the probabilities, mean over the layers (Achlioptas, Journal of
    Computer and System Sciences 2003).
    """
    drawn = rng.choice(np.array([-1, 1], np.float32), (layers, channels, classes))
    return drawn / np.float32(np.sqrt(layers * channels))


def project_scores(scores: Tensor, signs: np.ndarray) -> Tensor:
    """What a network predicts of a layer in few channels ``(C, I, J, K)``, to be added to those of the other layers.

    Where a network is unsure, probabilities are spread over many supervoxels, and differ little from others.

    Args:
        scores: ``(S, I, J, K)`` before the softmax.
        signs: ``(C, S)``, of :func:`draw_signs`.
    """
    import torch

    return torch.tensordot(scores.new_tensor(signs), scores.softmax(dim=0), dims=1).float()


def _needs_twin(tensor: Tensor) -> bool:
    return kernels is None or tensor.device.type != "cpu"


def _shares(labels: Tensor, codes: np.ndarray) -> Tensor:
    if _needs_twin(labels):
        return shares_torch(labels, codes)
    import torch

    count = int(codes.max()) + 1
    i, j, k = (-(-n // 2) for n in labels.shape[1:])
    out = np.zeros((i, j, k, len(labels) * count), np.float32)
    table = np.ascontiguousarray(codes, np.int64)
    over_slabs(kernels.count_codes, i, labels.contiguous().numpy(), table, count, out)
    return torch.from_numpy(out)


def shares_torch(labels: Tensor, codes: np.ndarray) -> Tensor:
    """How much of the 27 voxels around every second voxel has each code, ``(I / 2, J / 2, K / 2, C)``."""
    import torch

    parts = []
    for layer, code in zip(labels, torch.as_tensor(codes, device=labels.device), strict=True):
        coded = code[layer.long()]
        one_hot = torch.stack([coded == value for value in range(int(codes.max()) + 1)]).float()
        parts.append(_mean_torch(one_hot, (3, 3, 3), 2))
    return torch.cat(parts).permute(1, 2, 3, 0).contiguous()


def _blurred(volume: Tensor) -> Tensor:
    """Averages over ``BLUR^3`` voxels of ``(I, J, K, C)``, axis by axis; the border averages what there is."""
    return blurred_torch(volume) if _needs_twin(volume) else _blurred_on_cpu(volume)


def _blurred_on_cpu(volume: Tensor) -> Tensor:
    import torch

    values = volume.numpy()
    shape = values.shape
    for axis in range(3):
        lines = values.reshape(int(np.prod(shape[:axis])), shape[axis], -1)
        out = np.empty_like(lines)
        over_slabs(kernels.average_lines, len(lines), lines, BLUR // 2, out)
        values = out.reshape(shape)
    return torch.from_numpy(values)


def blurred_torch(volume: Tensor) -> Tensor:
    """The readable twin of the averages over ``BLUR^3`` voxels of ``(I, J, K, C)``."""
    channels_first = volume.permute(3, 0, 1, 2)
    for axis in range(3):
        channels_first = _mean_torch(channels_first, tuple(BLUR if a == axis else 1 for a in range(3)), 1)
    return channels_first.permute(1, 2, 3, 0).contiguous()


def _mean_torch(volume: Tensor, width: tuple[int, ...], step: int) -> Tensor:
    """Averages of ``(C, I, J, K)`` over odd windows around each ``step``-th voxel; a border averages what there is."""
    from torch.nn.functional import avg_pool3d, pad

    margin = [w // 2 for w in reversed(width) for _ in range(2)]
    sums, shares = (avg_pool3d(pad(v, margin), width, step) for v in (volume, volume.new_ones(volume[:1].shape)))
    return sums / shares


def supervoxel_centres(labels: np.ndarray) -> np.ndarray:
    """The centre of mass of every supervoxel of every layer, voxels ``(N, 3)``.

    Args:
        labels: ``(L, I, J, K)``, 0 background.
    """
    centres = label_centres(labels, int(labels.max(initial=0)) + 1)[:, 1:].reshape(-1, 3)
    return centres[np.isfinite(centres).all(axis=1)]


def label_centres(labels: np.ndarray, classes: int) -> np.ndarray:
    """The centre of mass of each label of each layer, voxels ``(L, classes, 3)``; NaN for labels that do not occur."""
    axes = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in labels.shape[1:]), indexing="ij", sparse=True)
    centres = np.full((len(labels), classes, 3), np.nan)
    for layer, out in zip(labels, centres, strict=True):
        flat = layer.reshape(-1).astype(np.intp)
        sizes = np.bincount(flat, minlength=classes)
        sums = [np.bincount(flat, np.broadcast_to(axis, layer.shape).reshape(-1), classes) for axis in axes]
        present = sizes > 0
        out[present] = np.stack(sums, axis=1)[present] / sizes[present, None]
    return centres


def random_points(foreground: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random voxels of a mask ``(I, J, K)`` on every second voxel of each axis, ``(N, 3)``; fewer where it is small.

    The published program draws from this half grid; a small mask is drawn from in full.
    """
    coarse = np.argwhere(foreground[::2, ::2, ::2]) * 2
    candidates = coarse if len(coarse) >= count else np.argwhere(foreground)
    chosen = rng.permutation(len(candidates))[:count]
    return candidates[chosen].astype(np.float64)
