"""Matrices of FSL's FLIRT: from moving to fixed, in voxels times spacing, x reversed where the header is right-handed.

So a matrix means something only beside the grids of both scans.
"""

from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_linear import affine_alone
from anamorph.transforms.files.others import both_grids, library, matrix_in, matrix_text
from anamorph.transforms.maps import Affine, Transform


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    fixed, moving = both_grids(fixed_grid, moving_grid, "FLIRT")
    linear = library("nitransforms.io.fsl").FSLLinearTransform
    theirs = linear.from_ras(affine_alone(transform).matrix, moving=moving, reference=fixed)
    write_text(path, matrix_text(theirs["parameters"]))


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read an affine."""
    fixed, moving = both_grids(grid, moving_grid, "FLIRT")
    matrix = matrix_in(path)
    if matrix is None:
        raise UserError("no matrix of FLIRT: that is four lines of four numbers")
    theirs = library("nitransforms.io.fsl").FSLLinearTransform(parameters=matrix)
    return Affine(theirs.to_ras(moving=moving, reference=fixed))


FLIRT = TransformFormat(
    "matrix of FLIRT, between both scans' own millimetres: FSL",
    (".mat",),
    write=write,
    read=read,
    shows=lambda path: matrix_in(path) is not None,
    needs_moving=True,
)
