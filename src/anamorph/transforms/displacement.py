"""A dense displacement field."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.runtime.threads import POINTS, over_slabs
from anamorph.transforms.base import Transform


class Displacement(Transform):
    """A dense map of fixed points to moving points: ``moving = fixed + u(fixed)``.

    Outside its grid the field continues with the value at the border.

    Args:
        disp_vox: ``(3, I, J, K)`` float32, voxels of ``grid``, channel order i, j, k.
        grid: where the vectors sit.

    Raises:
        UserError: the shape does not fit the grid or there are values that are not finite.
    """

    def __init__(self, disp_vox: np.ndarray, grid: Grid) -> None:
        disp_vox = np.ascontiguousarray(disp_vox, np.float32)
        if disp_vox.shape != (3, *grid.shape):
            raise UserError(f"a displacement field of shape {disp_vox.shape} does not fit {grid!r}")
        if not np.isfinite(disp_vox).all():
            raise UserError("the displacement field holds values that are not finite")
        self.disp_vox = disp_vox
        self.grid = grid

    def __repr__(self) -> str:
        return f"Displacement({self.direction}, voxels of {self.grid!r})"

    @classmethod
    def from_world(cls, vectors_mm: np.ndarray, grid: Grid) -> Displacement:
        """A field given as ``(3, I, J, K)`` RAS millimetre vectors."""
        inverse = np.linalg.inv(grid.affine[:3, :3]).astype(np.float32)
        vectors = np.asarray(vectors_mm, np.float32).reshape(3, -1)
        return cls((inverse @ vectors).reshape(3, *grid.shape), grid)

    def vectors_mm(self) -> np.ndarray:
        """``(3, I, J, K)`` float32 RAS millimetre vectors."""
        linear = self.grid.affine[:3, :3].astype(np.float32)
        return (linear @ self.disp_vox.reshape(3, -1)).reshape(self.disp_vox.shape)

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        from anamorph.geometry import _sampling_numba

        to_field = grid.voxel_to_voxel(self.grid)
        back = np.linalg.inv(to_field[:3, :3])
        matrices = to_field.astype(np.float32), back.astype(np.float32)
        kernel = _sampling_numba.advance_displacement
        over_slabs(kernel, positions_vox.shape[1], positions_vox, self.disp_vox, *matrices, least=POINTS)

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        points_mm = np.asarray(points_mm, np.float64)
        vectors = sample(self.disp_vox, self.grid.world_to_voxel(points_mm).T.astype(np.float32))
        return points_mm + vectors.T.astype(np.float64) @ self.grid.affine[:3, :3].T

    def displacement_on(self, grid: Grid) -> Displacement:
        return self if grid == self.grid else super().displacement_on(grid)

    def jacobian_determinant(self, grid: Grid | None = None) -> np.ndarray:
        """``(I, J, K)`` float32 local change of volume on a grid, its own by default."""
        from anamorph.geometry import _sampling_numba

        field = self if grid is None else self.displacement_on(grid)
        out = np.empty(field.grid.shape, np.float32)
        over_slabs(_sampling_numba.jacobian_determinant, len(out), field.disp_vox, out)
        return out

    def inverse(self) -> Transform:
        from anamorph.transforms.inversion import invert

        return self._turned(invert(self, self.grid).transform)
