"""Transforms of NiftyReg: matrices as text, and fields, displacements and spline grids as NIfTI, in RAS mm.

All map points of the reference (fixed) to the floating (moving) scan. The first parameter of the intent says what the
vectors are, the name of the intent that they are NiftyReg's. No library reads them; the program itself is the test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.image.convert import nibabel_grid, place
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.image.write import save_nifti
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import INTENT_VECTOR, NIFTI
from anamorph.transforms.files.itk_linear import affine_alone
from anamorph.transforms.files.others import from_places, matrix_in, matrix_text, nifti_head
from anamorph.transforms.maps import Affine, Displacement, Transform

NAME = b"NREG_TRANS"
PLACES, DISPLACEMENTS, CUBIC_SPLINE, LINEAR_SPLINE = 0, 1, 2, 6
VELOCITIES = (3, 4, 5)


def write_affine(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    write_text(path, matrix_text(affine_alone(transform).matrix))


def read_affine(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read an affine."""
    matrix = matrix_in(path)
    if matrix is None:
        raise UserError("no matrix of NiftyReg: that is four lines of four numbers")
    return Affine(matrix)


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write a displacement per fixed voxel."""
    import nibabel

    vectors = np.moveaxis(transform.displacement_on(fixed_grid).vectors_mm(), 0, -1)
    nifti = nibabel.Nifti1Image(vectors[:, :, :, None], fixed_grid.affine)
    nifti.header.set_intent(INTENT_VECTOR, name=NAME.decode())
    nifti.header["intent_p1"] = DISPLACEMENTS
    place(nifti, fixed_grid)
    save_nifti(nifti, path)


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a field on its own grid, or a grid of splines at the voxels of the fixed scan."""
    with opened(path) as image:
        if len(image.shape) != 5 or image.shape[3:] != (1, 3):
            raise UserError(f"an array of shape {tuple(image.shape)}, no NiftyReg transform in three dimensions")
        own = Grid(image.shape[:3], nibabel_grid(image, "field").affine)
        kind = int(image.header["intent_p1"])
        vectors = np.asarray(image.dataobj, np.float64)[:, :, :, 0]
        check_rest(image)
    if kind == PLACES:
        return from_places(vectors, own)
    if kind == DISPLACEMENTS:
        return Displacement.from_world(np.moveaxis(vectors, -1, 0), own)
    if kind in (CUBIC_SPLINE, LINEAR_SPLINE):
        return _spline(from_places(vectors, own), grid, 3 if kind == CUBIC_SPLINE else 1)
    what = "a velocity" if kind in VELOCITIES else f"of kind {kind}"
    raise UserError(f"a NiftyReg transform that is {what}; write it as a field: reg_transform -ref FIXED -def IN OUT")


def _spline(points: Displacement, grid: Grid | None, order: int) -> Displacement:
    """The spline of control points at the voxels of a scan: their displacements are the coefficients."""
    from scipy.ndimage import map_coordinates

    if grid is None:
        raise UserError("a grid of splines is read at the voxels of the fixed scan; give that too")
    at = np.tensordot(grid.voxel_to_voxel(points.grid)[:3, :3], np.indices(grid.shape), 1)
    at += grid.voxel_to_voxel(points.grid)[:3, 3, None, None, None]
    values: list[Any] = [
        map_coordinates(component, at, order=order, prefilter=False, mode="nearest")
        for component in points.vectors_mm()
    ]
    return Displacement.from_world(np.stack(values), grid)


def _shows(path: Path) -> bool:
    return nifti_head(path).intent_name.startswith(b"NREG")


NIFTYREG = TransformFormat(
    "displacements, RAS mm; fields and spline grids read: NiftyReg", NIFTI, write=write, read=read, shows=_shows
)
NIFTYREG_AFFINE = TransformFormat(
    "affine as text, RAS mm: NiftyReg",
    (".txt",),
    write=write_affine,
    read=read_affine,
    dense=False,
    shows=lambda path: False,  # any program may write four lines of four numbers
)
