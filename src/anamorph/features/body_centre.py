"""Where the body is in a scan: the centre around which it is cropped."""

from __future__ import annotations

import numpy as np

from anamorph.features.intensity import prepared_channels
from anamorph.image import Image

TISSUE_HU = 250.0
"""Width of the window of soft tissue, from 0 HU."""


def body_centre_mm(image: Image, is_ct: bool) -> np.ndarray:
    """Centre of mass of the body, RAS mm.

    The weight of a CT voxel is ``sigmoid(10 - 10 |2 HU / 250 - 1|)``, about 1 for soft tissue, eroded by 3 x 3 x 3
    voxels against noise and thin structures such as the table (SLIC-Reg, Heinrich and Hansen 2021, published code).
    Other scans have no calibrated values: there it is the intensity between the 1st and 99th percentile, eroded alike.

    Args:
        image: the first channel counts.
        is_ct: whether its values are Hounsfield units.
    """
    from scipy.ndimage import minimum_filter

    weight = minimum_filter(body_share(image, is_ct), 3, mode="nearest")
    total = 1e-4 + weight.sum(dtype=np.float64)
    middle = (np.array(weight.shape) - 1) / 2
    offset = [
        (weight.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64) @ (np.arange(n) - middle[axis]))
        / total
        for axis, n in enumerate(weight.shape)
    ]
    return image.grid.voxel_to_world(middle + offset)


def body_share(image: Image, is_ct: bool) -> np.ndarray:
    """``(I, J, K)`` float32 in [0, 1]: soft tissue of a CT, else the intensity between its percentiles."""
    return tissue_weight(image.data[0]) if is_ct else np.minimum(prepared_channels(image)[0], 1)


def tissue_weight(hounsfield: np.ndarray) -> np.ndarray:
    """``sigmoid(10 - 10 |2 HU / 250 - 1|)`` in float32: 1 inside (0, 250) HU, half at its ends."""
    exponent = np.abs(hounsfield.astype(np.float32) * (2 / TISSUE_HU) - 1) * 10 - 10
    return 1 / (1 + np.exp(np.minimum(exponent, 80)))
