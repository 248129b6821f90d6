"""MIND-SSC in 60 bits: twelve self-similarities of six levels each, compared by counting the bits that differ.

Heinrich et al., MICCAI 2013 (self-similarity context); the quantisation is that of the published deeds. The code of a
level is a thermometer (0, 1, 11, 111, ...), so the Hamming distance of two codes is the L1 distance of their levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs, thread_count

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

BITS = 60
_SHIFTS = np.array([(1, 1, 0), (-1, 1, 0), (0, -1, 1), (-1, 0, 1), (0, 1, 1), (1, 0, 1)])
"""Pairs of neighbours of a voxel, as the way from one to the other, in steps."""
_ENTRY_SHIFT = np.repeat(np.arange(6), 2)
_ENTRY_OFFSET = np.array(
    [
        (0, -1, 0), (-1, 0, 0), (0, -1, 0), (1, 0, 0), (0, 0, -1), (0, 1, 0),
        (0, 0, -1), (1, 0, 0), (0, 0, -1), (0, -1, 0), (0, 0, -1), (-1, 0, 0),
    ]
)  # fmt: skip
"""Where each of the twelve pairs starts, seen from the voxel."""
_THRESHOLDS = -np.log((np.arange(5) + 1.5) / 6).astype(np.float32)


def quantised_mind_ssc(image: Array, step: Cell) -> Array:
    """Describe every voxel of an image.

    The patch distances are box sums over ``2 * step + 1`` voxels of squared differences, 0 outside the image; an entry
    whose patch would start outside is read at the voxel itself.

    Args:
        image: ``(I, J, K)`` float32; a scale or an offset of the intensities changes nothing.
        step: distance of the neighbours and radius of the patches per axis, voxels; 0 along axes of one voxel.

    Returns:
        ``(I, J, K)`` uint64 for an array, int64 for a tensor: entry t in bits ``5 t`` to ``5 t + 4``.
    """
    if not isinstance(image, np.ndarray):
        return quantised_mind_ssc_torch(image, step)
    image = np.ascontiguousarray(image, np.float32)
    if kernels is None:
        return by_twin(quantised_mind_ssc_torch, image, step).astype(np.uint64)
    steps = np.asarray(step)
    out = np.empty(image.shape, np.uint64)
    # Each slab computes some planes of its neighbours again: no more of them than threads.
    least = -(-len(image) // thread_count())
    tables = (_SHIFTS * steps, _ENTRY_SHIFT, _ENTRY_OFFSET * steps, _THRESHOLDS)
    over_slabs(kernels.quantised_mind_ssc, len(image), image, step, *tables, out, least=least)
    return out


def quantised_mind_ssc_torch(image: torch.Tensor, step: Cell) -> torch.Tensor:
    """The readable twin of :func:`quantised_mind_ssc`, on any device."""
    import torch

    steps = np.asarray(step)
    boxes = []
    for shift in _SHIFTS * steps:
        there, inside = _shifted(image, shift)
        boxes.append(_box_sum((there - image) ** 2 * inside, step))
    entries = []
    for n, offset in zip(_ENTRY_SHIFT, _ENTRY_OFFSET * steps, strict=True):
        there, inside = _shifted(boxes[n], offset)
        entries.append(torch.where(inside, there, boxes[n]))
    distances = torch.stack(entries)
    distances = distances - distances.amin(dim=0)
    total = torch.zeros_like(image)
    for distance in distances:
        total = total + distance
    ratio = distances / (total / 12).clamp_min(1e-6)
    code = torch.zeros(image.shape, dtype=torch.int64, device=image.device)
    for t in range(12):
        for level, threshold in enumerate(_THRESHOLDS):
            code |= (ratio[t] < float(threshold)).long() << (5 * t + level)
    return code


def _shifted(volume: torch.Tensor, offset: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The volume read at ``x + offset``, the border repeated, and where that lies inside."""
    import torch

    places = [torch.arange(n, device=volume.device) + int(o) for n, o in zip(volume.shape, offset, strict=True)]
    inside = [(p >= 0) & (p < n) for p, n in zip(places, volume.shape, strict=True)]
    i, j, k = (p.clamp(0, n - 1) for p, n in zip(places, volume.shape, strict=True))
    return volume[i][:, j][:, :, k], inside[0][:, None, None] & inside[1][:, None] & inside[2]


def _box_sum(volume: torch.Tensor, radius: Cell) -> torch.Tensor:
    from torch.nn.functional import avg_pool3d, pad

    window = [2 * r + 1 for r in radius]
    padded = pad(volume[None, None], [r for r in reversed(radius) for _ in range(2)])
    return avg_pool3d(padded, window, stride=1, divisor_override=1)[0, 0]
