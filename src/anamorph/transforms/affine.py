"""An affine map of the world."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import advance_affine
from anamorph.transforms.base import Transform


class Affine(Transform):
    """An affine map of fixed points to moving points, RAS mm.

    Args:
        matrix: ``(4, 4)``; ``moving = matrix @ [fixed, 1]``.

    Raises:
        UserError: the matrix is not a finite, invertible 4x4.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        matrix = np.array(matrix, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise UserError("an affine transform must be a finite, invertible 4x4 matrix")
        if not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise UserError("the last row of an affine transform must be 0 0 0 1")
        matrix.flags.writeable = False
        self.matrix = matrix

    @classmethod
    def identity(cls) -> Affine:
        """The map that leaves every point where it is."""
        return cls(np.eye(4))

    @classmethod
    def translation(cls, offset_mm: np.ndarray) -> Affine:
        """A shift in RAS mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = offset_mm
        return cls(matrix)

    def __repr__(self) -> str:
        return f"Affine({self.direction}, RAS mm, {np.round(self.matrix[:3], 3).tolist()})"

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        matrix = np.linalg.inv(grid.affine) @ self.matrix @ grid.affine
        advance_affine(positions_vox, matrix)

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        return np.asarray(points_mm, np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self) -> Affine:
        return self._turned(Affine(np.linalg.inv(self.matrix)))
