"""What a voxel without data is worth, and how warped values return to their type."""

from __future__ import annotations

import numpy as np

from anamorph.image.image import Image

CT_AIR_HU = -1024.0


def looks_like_ct(image: Image) -> bool:
    """True when the values can only be Hounsfield units: air well below zero and tissue or bone above."""
    values = image.data[0]
    return bool(np.nanmin(values) <= -500 and 100 <= np.nanmax(values) <= 40000)


def background_value(image: Image) -> float:
    """CT air for CT (never below the file's own minimum), else the minimum of the image."""
    lowest = float(np.nanmin(image.data))
    return max(lowest, CT_AIR_HU) if looks_like_ct(image) else lowest


def cast_like(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bring interpolated values back to a dtype: rounded and clipped for integers."""
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        highest = values.dtype.type(limits.max)
        if int(highest) > limits.max:  # the largest 32 and 64 bit integers round up to a float that no longer fits
            highest = np.nextafter(highest, values.dtype.type(0))
        return np.clip(np.rint(values), limits.min, highest).astype(dtype)
    if dtype.kind == "b":
        return values >= 0.5
    return values.astype(dtype)
