"""MIND-SSC: the modality independent neighbourhood descriptor in its self-similarity context form.

Heinrich et al., MICCAI 2013: twelve distances between patches of the six-neighbourhood of a voxel, normalised by their
local mean. It compares structure, not intensity, so it serves CT, MR and pairs of both. `describe` adds comparable
intensities in the lanes left free by padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from anamorph.features.intensity import INTENSITY_LANES, IntensityKind, intensity_lanes, local_intensities
from anamorph.geometry.averaging import pool_volume, pool_volume_torch
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs, thread_count

if TYPE_CHECKING:
    import torch


ENTRIES = 12
"""Entries of the descriptor of one image channel."""
LANES = 16
"""Channels are padded to a multiple of this, one vector register of float32."""

VARIANCE_BOUNDS = (0.001, 1000.0)
"""The local variance estimate stays within these multiples of its mean over the image."""

_NEIGHBOURS = np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])


@cache
def patch_pairs() -> np.ndarray:
    """``(12, 2, 3)``: the two neighbours of each entry, all pairs at a squared distance of 2."""
    pairs = [(a, b) for n, a in enumerate(_NEIGHBOURS) for b in _NEIGHBOURS[:n] if ((a - b) ** 2).sum() == 2]
    return np.array(pairs)


@cache
def _difference_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The six shifts whose differences make all entries, and which entry reads which of them at which offset."""
    shifts: list[tuple[int, ...]] = []
    entry_shift, entry_offset = [], []
    for a, b in patch_pairs():
        difference = tuple(int(v) for v in a - b)
        start = b
        if difference < (0, 0, 0):
            difference, start = tuple(-v for v in difference), a
        if difference not in shifts:
            shifts.append(difference)
        entry_shift.append(shifts.index(difference))
        entry_offset.append(start)
    return np.array(shifts), np.array(entry_shift), np.array(entry_offset)


def mind_ssc(
    image: np.ndarray, radius: tuple[int, int, int], dilation: tuple[int, int, int], pool: tuple[int, int, int]
) -> np.ndarray:
    """Describe an image and average the descriptor over cells.

    Args:
        image: ``(I, J, K)`` float32.
        radius: patch radius in voxels per axis.
        dilation: distance of the six neighbours in voxels per axis.
        pool: cell size in voxels per axis; the last cell may be smaller.

    Returns:
        ``(ceil(I / p), ceil(J / p), ceil(K / p), 16)`` float32 in [0, 1]; channels 12 to 15 are zero.
    """
    image = np.ascontiguousarray(image, np.float32)
    if kernels is None:
        return np.ascontiguousarray(by_twin(mind_ssc_torch, image, radius, dilation, pool))
    steps = np.asarray(dilation)
    shifts, entry_shift, entry_offset = _difference_table()
    cells = tuple(-(-n // p) for n, p in zip(image.shape, pool, strict=True))
    variance = np.zeros(image.shape[0])
    tables = (shifts * steps, radius, entry_shift, entry_offset * steps, pool)
    # Each slab computes some planes of its neighbours again: no more of them than threads.
    least = -(-cells[0] // thread_count())
    nothing = np.zeros((0, 0, 0, LANES), np.float32)
    over_slabs(kernels.mind_ssc, cells[0], image, *tables, 1.0, 1.0, nothing, variance, least=least)
    rows = image.shape[0] * -(-image.shape[1] // 4) * image.shape[2]
    typical = max(float(variance.sum()) / rows, 1e-12)
    out = np.empty((*cells, LANES), np.float32)
    floor, ceiling = (bound * typical for bound in VARIANCE_BOUNDS)
    over_slabs(kernels.mind_ssc, cells[0], image, *tables, floor, ceiling, out, variance, least=least)
    return out


def mind_ssc_torch(
    image: torch.Tensor, radius: tuple[int, int, int], dilation: tuple[int, int, int], pool: tuple[int, int, int]
) -> torch.Tensor:
    """The readable twin of :func:`mind_ssc` for torch tensors on any device."""
    import torch
    from torch.nn.functional import avg_pool3d, pad

    def shifted(volume: torch.Tensor, offset: np.ndarray) -> torch.Tensor:
        axes = [
            (torch.arange(n, device=volume.device) + int(o)).clamp(0, n - 1)
            for n, o in zip(volume.shape, offset, strict=True)
        ]
        return volume[axes[0]][:, axes[1]][:, :, axes[2]]

    shifts, entry_shift, entry_offset = _difference_table()
    steps = np.asarray(dilation)
    border = [r for r in reversed(radius) for _ in range(2)]
    window = [2 * r + 1 for r in radius]
    boxes = []
    for shift in shifts * steps:
        squared = (image - shifted(image, shift)) ** 2
        padded = pad(squared[None, None], border, mode="replicate")
        boxes.append(avg_pool3d(padded, window, stride=1, divisor_override=1)[0, 0])
    entries = torch.stack([shifted(boxes[s], o) for s, o in zip(entry_shift, entry_offset * steps, strict=True)])
    entries = entries - entries.amin(dim=0)
    variance = entries.mean(dim=0)
    typical = variance[:, ::4].mean().clamp_min(1e-12)
    variance = variance.clamp(VARIANCE_BOUNDS[0] * typical, VARIANCE_BOUNDS[1] * typical)
    described = torch.exp(-entries / variance)
    return pad(pool_volume_torch(described, pool).permute(1, 2, 3, 0), (0, LANES - ENTRIES))


@dataclass(frozen=True)
class DescriptorSettings:
    """Patch radius and neighbour distance of MIND-SSC in voxels, and weights of squared differences of intensities.

    ``intensity_weight`` is that of intensities as they are, ``local_weight`` that of :func:`local_intensities`, which
    are compared beside them alone.
    """

    radius: int
    dilation: int
    intensity_weight: float
    local_weight: float = 0.0

    def weights(self, kind: IntensityKind) -> list[float]:
        """Of the lanes of intensities of one channel, local ones last."""
        if kind == "none" or self.intensity_weight == 0:
            return []
        return [self.intensity_weight] * INTENSITY_LANES[kind] + [self.local_weight] * (self.local_weight > 0)


def lanes_used(channels: int, settings: DescriptorSettings, kind: IntensityKind) -> int:
    """How many lanes of :func:`describe` hold something, counted from the first; those after them are 0."""
    return LANES * (channels - 1) + ENTRIES + len(settings.weights(kind))


def describe(
    channels: np.ndarray,
    settings: DescriptorSettings,
    kind: IntensityKind,
    pool: tuple[int, int, int],
    intensities: np.ndarray | None = None,
) -> np.ndarray:
    """Describe prepared channels and average over cells.

    Args:
        channels: ``(C, I, J, K)`` float32 from :func:`anamorph.features.intensity.prepared_channels`.
        settings: of the method.
        kind: which intensities to add.
        pool: cell size in voxels per axis.
        intensities: channels whose intensities are added in place of those that are described.

    Returns:
        ``(*cells, 16 C)`` float32: 12 MIND-SSC entries, up to 4 weighted intensities and zeros for each channel.
    """
    # An axis of one voxel has no neighbours.
    ri, rj, rk = (settings.radius if n > 1 else 0 for n in channels.shape[1:])
    di, dj, dk = (settings.dilation if n > 2 * settings.dilation else 1 for n in channels.shape[1:])
    weights = settings.weights(kind)
    described = []
    for channel, shown in zip(channels, channels if intensities is None else intensities, strict=True):
        one = mind_ssc(channel, (ri, rj, rk), (di, dj, dk), pool)
        if weights:
            local = [local_intensities(shown, kind)] if settings.local_weight > 0 else []
            compared = zip(weights, intensity_lanes(shown, kind) + local, strict=True)
            for lane, (weight, values) in enumerate(compared, start=ENTRIES):
                one[..., lane] = np.float32(np.sqrt(weight)) * pool_volume(values[None], pool)[0]
        described.append(one)
    return described[0] if len(described) == 1 else np.concatenate(described, axis=-1)
