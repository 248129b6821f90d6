from __future__ import annotations

import numpy as np

from anamorph.evaluation.label_regions import label_boxes
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.transforms import Displacement

Voxel = tuple[int, int, int]

_COARSE = 48  # samples per axis that are enough to find where something is going on


def focus_voxel(
    image: Image,
    labels: Labels | None = None,
    points: Points | None = None,
    displacement: Displacement | None = None,
) -> Voxel:
    """The voxel through which to cut an image: amid the labels, else the landmarks, else where structure moves."""
    if labels is not None and (found := _amid_labels(labels)) is not None:
        return _nearest(image.grid, labels.grid.voxel_to_world(found))
    if points is not None and len(points):
        return _nearest(image.grid, np.median(points.positions_mm, axis=0))
    return _amid_structure(image, displacement)


def _amid_labels(labels: Labels) -> np.ndarray | None:
    """Per axis the slice that shows most labels, each counted by its share of its own largest slice."""
    profiles = [np.zeros(n) for n in labels.grid.shape]
    for name, box in label_boxes(labels.data[0]).items():
        mask = labels.data[0][box] == name
        for axis, profile in enumerate(profiles):
            area = np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))
            profile[box[axis]] += area / area.max()
    if not profiles[0].any():
        return None
    return np.array([np.flatnonzero(p >= 0.98 * p.max()).mean() for p in profiles])


def _amid_structure(image: Image, displacement: Displacement | None) -> Voxel:
    """The median position of image gradient, weighted by how far the map moves it."""
    steps = [max(1, n // _COARSE) for n in image.grid.shape]
    thin = (slice(None), *(slice(None, None, step) for step in steps))
    values = np.nan_to_num(image.data[0][thin[1:]].astype(np.float32))
    low, high = np.percentile(values, [1, 99])
    values = np.clip(values, low, high)
    energy = np.zeros(values.shape, np.float32)
    for axis, length in enumerate(values.shape):
        if length > 1:
            energy += np.abs(np.gradient(values, axis=axis))
    if displacement is not None and displacement.grid.shape == image.grid.shape:
        vectors = displacement.disp_vox[thin]
        moved = np.linalg.norm(vectors - np.median(vectors, axis=(1, 2, 3), keepdims=True), axis=0)
        energy *= moved + max(float(moved.mean()), 1e-3)
    if not energy.any():
        energy += 1
    centre = []
    for axis, step in enumerate(steps):
        share = np.cumsum(energy.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64))
        centre.append(int(np.searchsorted(share, share[-1] / 2)) * step)
    return centre[0], centre[1], centre[2]


def _nearest(grid: Grid, position_mm: np.ndarray) -> Voxel:
    i, j, k = np.clip(np.rint(grid.world_to_voxel(position_mm)), 0, np.array(grid.shape) - 1).astype(int)
    return int(i), int(j), int(k)
