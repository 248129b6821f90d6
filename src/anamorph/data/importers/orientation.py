"""Which way round a label map without position lies in its scan."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.image import Image, Labels

FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))
_RING_VOX = 3
_LEAST_CONTRAST = 0.5
_CLEARLY = 0.7


def matching_flip(labels: Labels, image: Image) -> tuple[int, ...]:
    """The axes to mirror (rows, slices, both or neither) so that the labels outline an organ of the scan.

    An organ differs from what surrounds it and is even inside: the flip is taken whose contrast, the difference between
    the mean in the label and the mean in a ring of 3 voxels around it in units of the deviation inside, is the largest.

    Args:
        labels: of the shape of the image; everything labelled counts as one organ.
        image: a CT scan.

    Raises:
        UserError: no flip gives a contrast of 0.5, or the second best comes to 0.7 of the best.
    """
    contrasts = {
        axes: _contrast(np.flip(labels.data[0] != 0, axes) if axes else labels.data[0] != 0, image) for axes in FLIPS
    }
    best, second = sorted(contrasts, key=lambda axes: -contrasts[axes])[:2]
    if contrasts[best] < _LEAST_CONTRAST or contrasts[second] > _CLEARLY * contrasts[best]:
        shown = ", ".join(f"{value:.2f}" for value in contrasts.values())
        raise UserError(
            f"{labels.name}: fits its scan in no way clearly (contrasts {shown}); check that both are of one patient"
        )
    return best


def _contrast(inside: np.ndarray, image: Image) -> float:
    from scipy import ndimage

    sites = np.argwhere(inside)
    low = np.maximum(sites.min(axis=0) - _RING_VOX, 0)
    box = tuple(slice(a, b + _RING_VOX + 1) for a, b in zip(low, sites.max(axis=0), strict=True))
    inside, values = inside[box], np.clip(image.data[0][box].astype(np.float32), -200, 300)
    ring = ndimage.binary_dilation(inside, iterations=_RING_VOX) & ~inside
    return abs(float(values[inside].mean() - values[ring].mean())) / (float(values[inside].std()) + 1)
