"""What tells a label map from a scan: constant pieces with sharp edges."""

from __future__ import annotations

import numpy as np

from anamorph.image.image import Image

FEW_LABELS = 8
"""With no more values than these a smooth course from piece to piece says nothing."""
MOST_SAMPLES = 60_000
_LEAST_EQUAL = 0.35
_MOST_SMOOTH = 0.85
_NEXT = 2


def is_label_map(image: Image) -> bool:
    """True if an image is made of constant pieces, as label maps and masks are.

    All values are whole. Of the neighbours of a voxel that are not background (the commonest value), at least 35 % have
    the same value, in the median over all values. With more than 8 values, the steps between the pieces are jumps: at
    most 85 % lead to one of the next two values in order, as nearly all steps of a smooth scan do.
    """
    if image.channels != 1:
        return False
    pairs = _neighbours(image.data[0])
    if not _whole(pairs):
        return False
    names, ranks = np.unique(pairs, return_inverse=True)
    here, there = ranks.reshape(pairs.shape)
    if len(names) > 2 and not _in_pieces(here, there, len(names)):
        return False
    return all(_whole(part) for part in image.data[0])


def _in_pieces(here: np.ndarray, there: np.ndarray, count: int) -> bool:
    background = np.bincount(here, minlength=count).argmax()
    inner = (here != background) & (there != background)
    same = here == there
    touching = np.bincount(here[inner], minlength=count) + np.bincount(there[inner], minlength=count)
    alike = 2 * np.bincount(here[inner & same], minlength=count)
    shown = touching > 0
    if shown.any() and np.median(alike[shown] / touching[shown]) < _LEAST_EQUAL:
        return False
    steps = np.abs(here[~same] - there[~same])
    return count <= FEW_LABELS or steps.size == 0 or float((steps <= _NEXT).mean()) <= _MOST_SMOOTH


def _neighbours(volume: np.ndarray) -> np.ndarray:
    """``(2, N)`` values of neighbouring voxels along each axis, evenly spread over the volume."""
    step = max(int(np.ceil((volume.size / MOST_SAMPLES) ** (1 / max(sum(n > 1 for n in volume.shape), 1)))), 1)
    even = tuple(slice(None, None, step) for _ in range(3))
    pairs = []
    for axis, length in enumerate(volume.shape):
        if length > 1:
            first = tuple(slice(0, n - 1, step) if a == axis else even[a] for a, n in enumerate(volume.shape))
            second = tuple(slice(1, n, step) if a == axis else even[a] for a, n in enumerate(volume.shape))
            pairs.append(np.stack([volume[first].ravel(), volume[second].ravel()]))
    return np.concatenate(pairs, axis=1) if pairs else np.stack([volume.ravel()] * 2)


def _whole(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool((np.isfinite(values) & (values == np.rint(values))).all())
