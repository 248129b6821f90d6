"""The descriptor that ``convex`` compares: MIND-SSC, and comparable intensities in the lanes left free by padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.features.intensity import IntensityKind, intensity_lanes
from anamorph.features.mind_ssc import ENTRIES, mind_ssc
from anamorph.geometry.averaging import pool_volume


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
    # An axis of one voxel has no neighbours.
    ri, rj, rk = (settings.radius if n > 1 else 0 for n in channels.shape[1:])
    di, dj, dk = (settings.dilation if n > 2 * settings.dilation else 1 for n in channels.shape[1:])
    scale = np.float32(np.sqrt(settings.intensity_weight))
    described = []
    for channel in channels:
        one = mind_ssc(channel, (ri, rj, rk), (di, dj, dk), pool)
        if scale > 0:
            for lane, values in enumerate(intensity_lanes(channel, kind), start=ENTRIES):
                one[..., lane] = scale * pool_volume(values[None], pool)[0]
        described.append(one)
    return described[0] if len(described) == 1 else np.concatenate(described, axis=-1)
