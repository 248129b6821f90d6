"""The descriptor that ``convex`` compares: MIND-SSC, with comparable intensities in the lanes that padding leaves free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.features.intensity import IntensityKind, intensity_lanes
from anamorph.features.mind_ssc import ENTRIES, LANES, mind_ssc
from anamorph.geometry.pooling import pool_volume


@dataclass(frozen=True)
class DescriptorSettings:
    """Patch radius and neighbour distance of MIND-SSC in voxels, and the weight of squared intensity differences."""

    radius: int
    dilation: int
    intensity_weight: float


def describe(
    channels: np.ndarray, settings: DescriptorSettings, kind: IntensityKind, pool: tuple[int, int, int]
) -> np.ndarray:
    """Describe prepared channels and average over cells.

    Args:
        channels: ``(C, I, J, K)`` float32 from :func:`anamorph.features.intensity.prepared_channels`.
        settings: see there.
        kind: which intensities to add.
        pool: cell size in voxels per axis.

    Returns:
        ``(*cells, 16 C)`` float32: 12 MIND-SSC entries, up to 3 weighted intensities and zeros for each channel.
    """
    shape = channels.shape[1:]
    # An axis of one voxel has no neighbours, and thick slices are their own patch.
    radius = tuple(settings.radius if n > 1 else 0 for n in shape)
    dilation = tuple(settings.dilation if n > 2 * settings.dilation else 1 for n in shape)
    out = None
    scale = np.float32(np.sqrt(settings.intensity_weight))
    for index, channel in enumerate(channels):
        described = mind_ssc(channel, radius, dilation, pool)
        if scale > 0:
            for lane, values in enumerate(intensity_lanes(channel, kind), start=ENTRIES):
                described[..., lane] = scale * pool_volume(values[None], pool)[0]
        if len(channels) == 1:
            return described
        if out is None:
            out = np.empty((*described.shape[:3], LANES * len(channels)), np.float32)
        out[..., LANES * index : LANES * (index + 1)] = described
    return out
