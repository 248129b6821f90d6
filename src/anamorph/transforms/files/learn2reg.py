"""Learn2Reg displacement fields as NIfTI, (X, Y, Z, 3).

``warped(p) = moving(p + u(p))`` with p a voxel of the fixed image and p + u a voxel of the moving image, which has the
same shape; headers are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions
from anamorph.image.convert import nibabel_grid, place
from anamorph.image.write import save_nifti
from anamorph.transforms.base import Transform
from anamorph.transforms.displacement import Displacement


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at full resolution, float32."""
    import nibabel

    nifti = nibabel.Nifti1Image(np.moveaxis(to_voxels(transform, fixed_grid, moving_grid), 0, -1), fixed_grid.affine)
    place(nifti, fixed_grid)
    save_nifti(nifti, path)


def from_nifti(image: Any, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """The field of a 4D nibabel image on the fixed grid, or on the grid in its own header."""
    own = Grid(image.shape[:3], nibabel_grid(image.slicer[..., :1], "field").affine)
    return from_voxels(np.moveaxis(np.asarray(image.dataobj, np.float32), -1, 0), grid or own, moving_grid)


def to_voxels(transform: Transform, fixed_grid: Grid, moving_grid: Grid | None) -> np.ndarray:
    """``(3, I, J, K)``: moving voxel minus fixed voxel.

    Raises:
        UserError: the two images differ in shape.
    """
    moving_grid = moving_grid or fixed_grid
    if moving_grid.shape != fixed_grid.shape:
        raise UserError(
            f"Learn2Reg fields need fixed and moving images of one shape, not {fixed_grid.shape} and "
            f"{moving_grid.shape}; choose itk, or resample first"
        )
    return transform.moving_positions(fixed_grid, moving_grid) - identity_positions(fixed_grid.shape)


def from_voxels(disp_vox: np.ndarray, grid: Grid, moving_grid: Grid | None) -> Displacement:
    """The field whose fixed voxel p is found at voxel p + u(p) of the moving grid.

    Raises:
        UserError: the shape is not that of the grid.
    """
    if disp_vox.shape != (3, *grid.shape):
        raise UserError(f"a field of {disp_vox.shape[1:]} vectors does not fit the fixed image of {grid.shape} voxels")
    if moving_grid is None or np.array_equal(moving_grid.affine, grid.affine):
        return Displacement(disp_vox, grid)
    matrix = moving_grid.voxel_to_voxel(grid)
    places = np.einsum("ab,bijk->aijk", matrix[:3, :3], disp_vox + identity_positions(grid.shape), optimize=True)
    places += matrix[:3, 3, None, None, None]
    return Displacement(places - identity_positions(grid.shape), grid)
