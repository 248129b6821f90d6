"""What a voxel without data is worth, which margins of a scan are padding, and how warped values keep their type."""

from __future__ import annotations

import numpy as np

from anamorph.geometry.lengths import patient_mm
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


Box = tuple[slice, slice, slice]

LEAST_CONTENT = 0.5
"""A margin that begins where so much of a plane is content was cut or padded; else it is the air around a body."""
OUTLINE_MM = 20.0
"""So much air around a body stays: its outline is information."""
LEAST_REMOVED = 0.05
"""Fraction of the voxels from which on removing a margin is worth it."""
FEWEST = 3
"""Voxels that stay along each axis."""


def content_box(image: Image) -> Box | None:
    """The part of a scan inside its margins of one constant value; None where there are none to speak of.

    A margin is a stack of whole planes at an end of an axis in which every voxel has one value. Where a body ends
    before the margin begins, as in scans without a skull or with air set to one value, a part stays. Lengths are those
    of a patient, and in proportion for a scan of another size.
    """
    reach_vox = np.ceil(OUTLINE_MM * patient_mm(image.grid) / image.grid.spacing_mm).astype(int)
    inside = np.zeros(image.grid.shape, bool)
    for channel in image.data:
        value = _margin_value(channel)
        if value is None:
            return None
        inside |= channel != value
    box = []
    for axis, size in enumerate(image.grid.shape):
        share = inside.mean(axis=tuple(a for a in range(3) if a != axis))
        content = np.flatnonzero(share)
        first, last = int(content[0]), int(content[-1])
        fullest = share.max()
        if share[first] < LEAST_CONTENT * fullest:
            first -= int(reach_vox[axis])
        if share[last] < LEAST_CONTENT * fullest:
            last += int(reach_vox[axis])
        first, last = max(first, 0), min(last, size - 1)
        if last - first + 1 < min(FEWEST, size):
            return None
        box.append(slice(first, last + 1))
    kept = np.prod([part.stop - part.start for part in box]) / inside.size
    return (box[0], box[1], box[2]) if kept < 1 - LEAST_REMOVED else None


def _margin_value(channel: np.ndarray) -> np.generic | None:
    """The value of a margin, which reaches the first or the last voxel of a scan; None if there can be none.

    A value between the others, as water is between air and bone, counts only where it fills a plane at an end: no
    tissue does.
    """
    low, high = channel.min(), channel.max()
    if low == high:
        return None
    ends = [channel.take(end, axis) for axis in range(3) for end in (0, -1) if channel.shape[axis] > 1]
    for value in (channel[0, 0, 0], channel[-1, -1, -1]):
        if value in (low, high) or any((plane == value).all() for plane in ends):
            return value
    return None
