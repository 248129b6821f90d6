from __future__ import annotations

import numpy as np

from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs, rows_worth

Box = tuple[slice, ...]

_DENSE_LIMIT = 1 << 16  # above this, a table with one entry per possible label would cost more than sorting


_FEW = 1024
"""With more possible labels, tables for every plane would take more memory than they are worth."""


def _planes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """How often each label ``0..N - 1`` occurs in each plane, ``(I, N)``, and its ends there; None for many labels.

    The ends ``(I, N, 4)`` are first and last row, first and last column; the last ones are -1 where it does not occur.
    """
    if labels.ndim != 3 or labels.size == 0 or labels.dtype.kind not in "iu" or labels.min() < 0:
        return None
    names = int(labels.max()) + 1
    if names > _FEW:
        return None
    if kernels is None:
        return _planes_numpy(labels, names)
    counts, ends = np.empty((len(labels), names), np.int64), np.empty((len(labels), names, 4), np.int64)
    native = np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    over_slabs(kernels.label_planes, len(labels), native, counts, ends, least=rows_worth(labels[0].size))
    return counts, ends


def _planes_numpy(labels: np.ndarray, names: int) -> tuple[np.ndarray, np.ndarray]:
    """The readable twin of the kernel."""
    counts = np.array([np.bincount(plane.ravel(), minlength=names) for plane in labels])
    ends = np.tile([labels.shape[1], -1, labels.shape[2], -1], (*counts.shape, 1))
    for i, name in np.argwhere(counts):
        rows, columns = np.nonzero(labels[i] == name)
        ends[i, name] = rows.min(), rows.max(), columns.min(), columns.max()
    return counts, ends


def voxel_counts(labels: np.ndarray) -> dict[int, int]:
    """Number of voxels of every label that occurs, without background (0).

    Args:
        labels: integers of any shape.
    """
    if labels.size == 0:
        return {}
    planes = _planes(labels.reshape(-1, *labels.shape[-2:])) if labels.ndim > 2 else None
    if planes is not None:
        counts = planes[0].sum(axis=0)
        return {int(name): int(counts[name]) for name in np.flatnonzero(counts) if name}
    if labels.min() >= 0 and labels.max() < _DENSE_LIMIT:
        counts = np.zeros(int(labels.max()) + 1, np.int64)
        for part in np.array_split(labels.ravel(), max(1, labels.size >> 20)):  # bincount copies to 64 bit: in pieces
            counts += np.bincount(part, minlength=len(counts))
        return {int(name): int(counts[name]) for name in np.flatnonzero(counts) if name}
    names, totals = np.unique(labels, return_counts=True)
    return {int(name): int(total) for name, total in zip(names, totals, strict=True) if name}


def label_boxes(labels: np.ndarray) -> dict[int, Box]:
    """Smallest box around every label that occurs, without background (0), as slices of the array."""
    planes = _planes(labels)
    if planes is not None:
        counts, ends = planes
        found = {}
        for name in np.flatnonzero(counts.sum(axis=0)):
            i = np.flatnonzero(counts[:, name])
            j, k = ((ends[:, name, n].min(), ends[:, name, n + 1].max()) for n in (0, 2))
            found[int(name)] = tuple(slice(int(a), int(b) + 1) for a, b in ((i[0], i[-1]), j, k))
        found.pop(0, None)
        return found
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
