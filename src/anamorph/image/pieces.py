"""Connected pieces of a label map, such as single bones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels

FEWEST_VOXELS = 8
"""A piece of fewer voxels is noise of a mask."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected part of a label map.

    Args:
        voxels: ``(N, 3)`` indices of its voxels.
        grid: of the label map.
        name: what messages call it.
    """

    voxels: np.ndarray
    grid: Grid
    name: str = "piece"

    @cached_property
    def centres_mm(self) -> np.ndarray:
        """``(N, 3)`` RAS positions of its voxel centres."""
        return self.grid.voxel_to_world(self.voxels)

    @property
    def volume_mm3(self) -> float:
        """Volume of its voxels."""
        return len(self.voxels) * abs(float(np.linalg.det(self.grid.affine[:3, :3])))

    @cached_property
    def faces(self) -> tuple[np.ndarray, np.ndarray]:
        """The outside of its voxels as squares: ``(C, 3)`` voxel coordinates of corners, and ``(F, 4)`` of their rows.

        The corners of a square go round so that its normal points outwards in voxel coordinates.
        """
        low = self.voxels.min(axis=0) - 1
        inside = np.zeros(self.voxels.max(axis=0) - low + 2, np.int8)
        inside[tuple((self.voxels - low).T)] = 1
        squares = []
        for axis in range(3):
            after, last = (axis + 1) % 3, (axis + 2) % 3
            steps = np.zeros((4, 3), int)
            steps[1:3, after] = steps[2:, last] = 1
            change = np.diff(inside, axis=axis)
            for sign in (-1, 1):  # -1 where the piece ends, so that its outside lies farther along the axis
                lowest = np.argwhere(change == sign)
                lowest[:, axis] += 1
                squares.append(lowest[:, None] + (steps if sign < 0 else steps[::-1]))
        corners, rows = np.unique(np.concatenate(squares).reshape(-1, 3), axis=0, return_inverse=True)
        return corners + low - 0.5, rows.reshape(-1, 4)


def pieces_of(labels: Labels) -> tuple[list[Piece], int]:
    """The connected pieces of each label, and how many were left out because they are tiny.

    Voxels that share a corner are connected; pieces of different labels are apart even where they touch.
    """
    from scipy.ndimage import find_objects, label

    values = labels.present()
    ranks = np.where(labels.data[0] != 0, np.searchsorted(values, labels.data[0]) + 1, 0)
    found, tiny = [], 0
    for rank, box in enumerate(find_objects(ranks), 1):
        parts, _ = label(ranks[box] == rank, np.ones((3, 3, 3)))
        own = [
            np.argwhere(parts[inner] == n) + [side.start + outer.start for side, outer in zip(inner, box, strict=True)]
            for n, inner in enumerate(find_objects(parts), 1)
        ]
        kept = sorted((voxels for voxels in own if len(voxels) >= FEWEST_VOXELS), key=len, reverse=True)
        tiny += len(own) - len(kept)
        for number, voxels in enumerate(kept, 1):
            name = f"label {values[rank - 1]}" + (f", piece {number}" if len(kept) > 1 else "")
            found.append(Piece(voxels, labels.grid, f"{labels.name}, {name}"))
    return found, tiny
