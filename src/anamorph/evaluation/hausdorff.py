from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anamorph.evaluation.label_regions import label_boxes
from anamorph.geometry import Grid
from anamorph.image import Labels


def hd95_mm(fixed: Labels, warped: Labels, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Symmetric 95 % Hausdorff distance of each label in millimetres.

    The surface of a label is its voxels with a face neighbour outside the label; beyond the border of the image counts
    as outside. Every surface voxel has a distance, centre to centre, to the nearest surface voxel of the other map; the
    result is the **larger of the two directed 95th percentiles** (Huttenlocher et al. 1993 with the percentile in place
    of the maximum). Voxel centres are compared in world coordinates, so spacing, obliqueness and shear all count.
    Nearest neighbours come from a k-d tree over the surfaces, which is exact and touches no voxel off the surface.

    Args:
        fixed: the reference.
        warped: the other label map on the same grid.
        labels: which labels to compare; those of ``fixed`` by default. One that occurs in neither map is left out, one
            that occurs in a single map is as far away as can be: the diagonal of the image.

    Raises:
        ValueError: the shapes differ.
    """
    if fixed.data.shape != warped.data.shape:
        raise ValueError(f"label maps of shapes {fixed.data.shape} and {warped.data.shape} are not on the same grid")
    boxes = label_boxes(fixed.data[0]), label_boxes(warped.data[0])
    distances = {}
    for name in sorted(boxes[0] if labels is None else labels):
        if name in boxes[0] and name in boxes[1]:
            surfaces = [surface_mm(m, name, box[name]) for m, box in zip((fixed, warped), boxes, strict=True)]
            distances[name] = _symmetric_p95(*surfaces)
        elif name in boxes[0] or name in boxes[1]:
            distances[name] = diagonal_mm(fixed.grid)
    return distances


def diagonal_mm(grid: Grid) -> float:
    """Longest distance between two corners of the field of view."""
    corners = grid.corners_mm()
    return float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max())


def surface_mm(labels: Labels, name: int, box: tuple[slice, ...]) -> np.ndarray:
    """``(N, 3)`` RAS mm of the surface voxels of one label, which lies within the box."""
    mask = np.pad(labels.data[0][box] == name, 1)
    inner = mask.copy()
    for axis, length in enumerate(labels.grid.shape):
        if length > 1:  # a 2D image has no neighbours along its third axis
            inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    surface = np.argwhere(mask & ~inner) - 1 + [s.start for s in box]
    return labels.grid.voxel_to_world(surface)


def _symmetric_p95(a_mm: np.ndarray, b_mm: np.ndarray) -> float:
    from scipy.spatial import cKDTree

    # Surfaces on a lattice are spread evenly: sliding midpoint trees build faster and answer as fast as balanced ones.
    tree_a, tree_b = (cKDTree(points, balanced_tree=False, compact_nodes=False) for points in (a_mm, b_mm))
    return float(max(np.percentile(tree_b.query(a_mm)[0], 95), np.percentile(tree_a.query(b_mm)[0], 95)))
