"""Warps of FSL: fields that FNIRT, convertwarp and applywarp exchange, and the spline coefficients of FNIRT, read.

Vectors are millimetres of FSL: voxels times spacing, x reversed where a header is right-handed; a relative field adds
them to the place in the fixed scan, an absolute one is the place in the moving scan. Nothing but the numbers says
which, so what is read is guessed as FSL itself does. fslpy, FSL's own library, does the arithmetic: nitransforms takes
the vectors for RAS, which holds for scans along the axes only.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.convert import place
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.image.write import save_nifti
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import NIFTI
from anamorph.transforms.files.others import both_grids, library, nifti_head
from anamorph.transforms.maps import Displacement, Transform

FIELD, CUBIC, DCT, QUADRATIC = 2006, 2007, 2008, 2009
"""Intent codes of FSL."""


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None, form: str) -> None:
    """Write a field with a vector per fixed voxel."""
    import nibabel

    fixed, moving = both_grids(fixed_grid, moving_grid, "FSL")
    nonlinear = library("fsl.transform.nonlinear")
    vectors = np.moveaxis(transform.displacement_on(fixed).vectors_mm(), 0, -1)
    spaces = {"src": _header(moving), "ref": _header(fixed)}
    ours = nonlinear.DeformationField(
        _nifti(vectors, fixed), **spaces, srcSpace="world", refSpace="world", defType="relative"
    )
    theirs = nonlinear.convertDeformationSpace(ours, "fsl", "fsl")
    values = theirs.data if form == "relative" else nonlinear.convertDeformationType(theirs, "absolute")
    nifti = nibabel.Nifti1Image(np.asarray(values, np.float32), fixed.affine)
    nifti.header["intent_code"] = FIELD
    place(nifti, fixed)
    save_nifti(nifti, path)


def read(path: Path, grid: Grid | None, moving_grid: Grid | None, form: str | None = None) -> Displacement:
    """Read a field, or the coefficients of cubic splines, at the voxels of the fixed scan.

    Args:
        path: the file.
        grid: of the fixed scan.
        moving_grid: of the moving scan.
        form: whether a field is relative or absolute; guessed by default.
    """
    import nibabel

    fixed, moving = both_grids(grid, moving_grid, "FSL")
    with opened(path) as image:
        if len(image.shape) != 4 or image.shape[3] != 3:
            raise UserError(f"holds an array of shape {tuple(image.shape)}, no warp of FSL: that is (X, Y, Z, 3)")
        intent = int(image.header["intent_code"])
        theirs = nibabel.Nifti1Image(np.asarray(image.dataobj, np.float64), image.affine, image.header)
        check_rest(image)
    if intent in (DCT, QUADRATIC):
        raise UserError("coefficients of cosines or quadratic splines; make a field of them with fnirtfileutils")
    coefficients = intent == CUBIC
    if not coefficients and theirs.shape[:3] != fixed.shape:
        raise UserError(f"a field of {theirs.shape[:3]} vectors does not fit the fixed scan of {fixed.shape} voxels")
    warp = library("fsl.transform.fnirt").readFnirt(
        theirs, _header(moving), _header(fixed), defType=form, intent=CUBIC if coefficients else FIELD
    )
    world = library("fsl.transform.nonlinear").convertDeformationSpace(
        warp.asDeformationField() if coefficients else warp, "world", "world"
    )
    relative = world.data if world.relative else library("fsl.transform.nonlinear").convertDeformationType(world)
    return Displacement.from_world(np.moveaxis(np.asarray(relative), -1, 0), fixed)


def _nifti(values: np.ndarray, grid: Grid) -> Any:
    import nibabel

    nifti = nibabel.Nifti1Image(values, grid.affine)
    place(nifti, grid)
    return nifti


def _header(grid: Grid) -> Any:
    """A scan as fslpy sees it, without its voxels."""
    nifti = _nifti(np.broadcast_to(np.int8(0), grid.shape), grid)
    return library("fsl.data.image").Nifti(nifti.header)


def _shows(path: Path) -> bool:
    head = nifti_head(path)
    return len(head.shape) == 4 and head.intent in (FIELD, CUBIC, DCT, QUADRATIC)


FSL_WARP = TransformFormat(
    "relative warp, and coefficients of FNIRT read: FSL (applywarp --rel)",
    NIFTI,
    write=partial(write, form="relative"),
    read=read,
    shows=_shows,
    needs_moving=True,
)
FSL_WARP_ABSOLUTE = TransformFormat(
    "absolute warp: FSL (applywarp --abs)",
    NIFTI,
    write=partial(write, form="absolute"),
    read=partial(read, form="absolute"),
    shows=lambda path: False,  # as a relative one, which guesses
    needs_moving=True,
)
