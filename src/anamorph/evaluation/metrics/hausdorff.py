from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.label_regions import label_boxes
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Distances in mm from every surface voxel of a label to the nearest one of the other map, in both directions."""

    to_warped_mm: np.ndarray
    to_fixed_mm: np.ndarray


def hd95_mm(fixed: Labels, warped: Labels, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Symmetric 95 % Hausdorff distance of each label in millimetres.

    The surface of a label is its voxels with a face neighbour outside the label; beyond the border of the image counts
    as outside. Every surface voxel has a distance, centre to centre, to the nearest surface voxel of the other map; the
    result is the **larger of the two directed 95th percentiles** (Huttenlocher et al. 1993 with the percentile in place
    of the maximum). Voxel centres are compared in world coordinates, so spacing, obliqueness and shear all count.

    Args:
        fixed: the reference.
        warped: the other label map on the same grid.
        labels: which labels to compare; those of ``fixed`` by default. One that occurs in neither map is left out, one
            that occurs in a single map is as far away as can be: the diagonal of the image.

    Raises:
        ValueError: the shapes differ.
    """
    return {label: _p95(one) for label, one in surface_distances_mm(fixed, warped, labels).items()}


def surface_distances_mm(fixed: Labels, warped: Labels, labels: Iterable[int] | None = None) -> dict[int, Surfaces]:
    """The distances between the surfaces of each label; arguments and errors as of :func:`hd95_mm`.

    Nearest neighbours come from a k-d tree over the surfaces, which is exact and touches no voxel off the surface. A
    label of a single map has one distance each way, the diagonal of the image.
    """
    if fixed.data.shape != warped.data.shape:
        raise ValueError(f"label maps of shapes {fixed.data.shape} and {warped.data.shape} are not on the same grid")
    boxes = label_boxes(fixed.data[0]), label_boxes(warped.data[0])
    names = [name for name in sorted(boxes[0] if labels is None else labels) if name in boxes[0] or name in boxes[1]]

    def distances(begin: int, end: int) -> list[Surfaces]:
        found = []
        for name in names[begin:end]:
            if name in boxes[0] and name in boxes[1]:
                both = zip((fixed, warped), boxes, strict=True)
                found.append(_between(*(surface_mm(one, name, box[name]) for one, box in both)))
            else:
                far = np.array([diagonal_mm(fixed.grid)])
                found.append(Surfaces(far, far))
        return found

    several = over_slabs(distances, len(names)) if names else []
    return dict(zip(names, (one for found in several for one in found), strict=True))


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


def _between(fixed_mm: np.ndarray, warped_mm: np.ndarray) -> Surfaces:
    from scipy.spatial import cKDTree

    # Surfaces on a lattice are spread evenly: sliding midpoint trees build faster and answer as fast as balanced ones.
    fixed, warped = (cKDTree(points, balanced_tree=False, compact_nodes=False) for points in (fixed_mm, warped_mm))
    return Surfaces(warped.query(fixed_mm)[0], fixed.query(warped_mm)[0])


def _p95(surfaces: Surfaces) -> float:
    return float(max(np.percentile(surfaces.to_warped_mm, 95), np.percentile(surfaces.to_fixed_mm, 95)))


def _measure(pair: RegisteredPair) -> dict[int, float]:
    return {label: _p95(one) for label, one in pair.surfaces.items()}


def _phrase(after: Numbers) -> str:
    return f"HD95 {after.mean('hd95_mm'):.3g} mm"


HD95 = Metric(
    name="hd95_mm",
    title="HD95",
    unit="mm",
    better="lower",
    measure=_measure,
    needs=("labels",),
    per="label",
    meaning="95 % Hausdorff distance of labels in mm; the diagonal of the image for a label that vanished",
    digits=1,
    prominence="tile",
    phrase=_phrase,
)
