from __future__ import annotations

import numpy as np

Box = tuple[slice, ...]

_DENSE_LIMIT = 1 << 16  # above this, a table with one entry per possible label would cost more than sorting


def voxel_counts(labels: np.ndarray) -> dict[int, int]:
    """Number of voxels of every label that occurs, without background (0).

    Args:
        labels: integers of any shape.
    """
    if labels.size == 0:
        return {}
    if labels.min() >= 0 and labels.max() < _DENSE_LIMIT:
        counts = np.zeros(int(labels.max()) + 1, np.int64)
        for part in np.array_split(labels.ravel(), max(1, labels.size >> 20)):  # bincount copies to 64 bit: in pieces
            counts += np.bincount(part, minlength=len(counts))
        return {int(name): int(counts[name]) for name in np.flatnonzero(counts) if name}
    names, totals = np.unique(labels, return_counts=True)
    return {int(name): int(total) for name, total in zip(names, totals, strict=True) if name}


def label_boxes(labels: np.ndarray) -> dict[int, Box]:
    """Smallest box around every label that occurs, without background (0), as slices of the array."""
    from scipy.ndimage import find_objects

    names = sorted(voxel_counts(labels))
    if not names:
        return {}
    if names[0] > 0 and names[-1] < _DENSE_LIMIT:
        boxes = find_objects(labels.astype(np.int32, copy=False))
        return {name: boxes[name - 1] for name in names}
    compact = np.searchsorted(names, labels) + 1
    compact[labels == 0] = 0
    return dict(zip(names, find_objects(compact), strict=True))
