"""The surface of a label as DeepMind's ``surface-distance`` measures it: elements between voxels, weighted by area."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

Corner = tuple[int, int, int]
CORNERS: tuple[Corner, ...] = tuple((n >> 2, (n >> 1) & 1, n & 1) for n in range(8))
_TRIANGLE = math.sqrt(3) / 8  # cuts one corner off a unit cube, through the middles of its three edges


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """Surface elements of one label; a cell sits between eight voxels, those outside the image being background.

    ``cells`` is ``(N, 3)``, the voxel at the upper corner of the cell; ``areas`` is ``(N,)`` in squared voxels.
    """

    cells: np.ndarray
    areas: np.ndarray

    @cached_property
    def tree(self) -> Any:
        """Nearest neighbours among the cells; sliding midpoint trees build faster on a lattice than balanced ones."""
        from scipy.spatial import cKDTree

        return cKDTree(self.cells, balanced_tree=False, compact_nodes=False)


def surface_elements(labels: np.ndarray) -> dict[int, SurfaceElements]:
    """The surface of every label of an ``(I, J, K)`` map, without background (0)."""
    padded = np.pad(labels, 1)
    corners = [padded[tuple(slice(a, n - 1 + a) for a, n in zip(c, padded.shape, strict=True))] for c in CORNERS]
    mixed = np.zeros(corners[0].shape, bool)
    for corner in corners[1:]:
        mixed |= corner != corners[0]
    cells, around = np.argwhere(mixed).astype(np.int32), np.stack([corner[mixed] for corner in corners])
    found = []
    for n, label in enumerate(around):
        codes = np.packbits(around == label, axis=0)[0]  # corner n is bit 7 - n
        (at,) = np.nonzero((label != 0) & (codes >> (8 - n) == 0))  # no earlier corner has the same label
        found.append((label[at], cells[at], codes[at]))
    names, cells, codes = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(names, kind="stable")
    names, cells, areas = names[order], cells[order], areas_by_code()[codes[order]]
    present, starts = np.unique(names, return_index=True)
    ends = np.append(starts, len(names))[1:]
    return {
        int(name): SurfaceElements(cells[start:end], areas[start:end])
        for name, start, end in zip(present, starts, ends, strict=True)
    }


@cache
def areas_by_code() -> np.ndarray:
    """``(256,)`` area of the surface in a unit cell whose corner n is inside the label where bit 7 - n is set.

    Marching cubes (Lorensen and Cline 1987) separates each group of corners joined by edges from the rest; of inside
    and outside the side with fewer corners is cut off.
    """
    areas = np.zeros(256)
    for code in range(256):
        inside = {CORNERS[n] for n in range(8) if code >> (7 - n) & 1}
        fewer = inside if len(inside) <= 4 else set(CORNERS) - inside
        areas[code] = sum(_area_around(group) for group in _groups(fewer))
    return areas


def _groups(corners: set[Corner]) -> list[set[Corner]]:
    """Corners joined by edges of the cube belong together."""
    groups: list[set[Corner]] = []
    for corner in sorted(corners):
        joined = [group for group in groups if any(_share_edge(corner, other) for other in group)]
        groups = [group for group in groups if group not in joined] + [{corner}.union(*joined)]
    return groups


def _share_edge(a: Corner, b: Corner) -> bool:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) == 1


def _area_around(group: set[Corner]) -> float:
    """Area of the surface that cuts a joined group of one to four corners off the cube."""
    degrees = sorted(sum(_share_edge(corner, other) for other in group) for corner in group)
    return {
        (0,): _TRIANGLE,
        (1, 1): math.sqrt(2) / 2,  # an edge
        (1, 1, 2): 0.5 + 3 * _TRIANGLE,  # three corners of a face
        (2, 2, 2, 2): 1.0,  # a face
        (1, 1, 1, 3): 6 * _TRIANGLE,  # a corner and its three neighbours: a regular hexagon
        (1, 1, 2, 2): math.sqrt(2) / 2 + 4 * _TRIANGLE,  # a path that leaves its face
    }[tuple(degrees)]
