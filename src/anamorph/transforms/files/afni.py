"""Transforms of AFNI: 3 x 4 matrices (.1D) and warps of 3dQwarp (NIfTI), fixed to moving in LPS mm.

AFNI drops the obliqueness of headers before it applies a matrix, so a matrix means something only beside the grids of
both scans; nitransforms knows how. A warp lies on a grid along the axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.image.convert import place
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.image.write import save_nifti
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import INTENT_DISPVECT, INTENT_VECTOR, NIFTI
from anamorph.transforms.files.itk_linear import affine_alone, check_size
from anamorph.transforms.files.others import both_grids, library, nifti_head
from anamorph.transforms.maps import Affine, Displacement, Transform

AFNI_EXTENSION = 4
HEAD = ".head"
MARK = b"warp of AFNI, LPS mm"
MOST_OBLIQUE_DEG = 0.01


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine in one line."""
    fixed, moving = both_grids(fixed_grid, moving_grid, "AFNI")
    linear = library("nitransforms.io.afni").AFNILinearTransform
    with _plumb_axes():
        matrix = linear.from_ras(affine_alone(transform).matrix, moving=moving, reference=fixed)["parameters"]
    numbers = " ".join(f"{value:.10g}" for value in matrix[:3].ravel())
    write_text(path, f"# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):\n{numbers}\n")


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read an affine of one line of twelve numbers, or three of four."""
    fixed, moving = both_grids(grid, moving_grid, "AFNI")
    check_size(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    try:
        numbers = np.array(rows, np.float64)
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) > 1 and numbers.shape[1:] == (12,):
        raise UserError(f"holds {len(numbers)} matrices, one for each volume of a series; keep the line of one")
    if numbers.shape not in ((1, 12), (3, 4)):
        raise UserError("no matrix of AFNI: that is one line of twelve numbers, or three of four")
    matrix = np.vstack([numbers.reshape(3, 4), (0, 0, 0, 1)])
    theirs = library("nitransforms.io.afni").AFNILinearTransform(parameters=matrix)
    with _plumb_axes():
        return Affine(theirs.to_ras(moving=moving, reference=fixed))


@contextmanager
def _plumb_axes() -> Iterator[None]:
    try:
        yield
    except np.linalg.LinAlgError:
        raise UserError("a scan is so oblique that two of its axes have one nearest axis; AFNI needs others") from None


def write_warp(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write a field with a vector per fixed voxel.

    Raises:
        UserError: the grid is oblique, which AFNI drops.
    """
    import nibabel

    _check_plumb(fixed_grid)
    vectors = flip_ras_lps(np.moveaxis(transform.displacement_on(fixed_grid).vectors_mm(), 0, -1))
    nifti = nibabel.Nifti1Image(vectors[:, :, :, None], fixed_grid.affine)
    nifti.header["descrip"] = MARK
    place(nifti, fixed_grid)
    save_nifti(nifti, path)


def read_warp(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a field on its own grid, from NIfTI or from a pair of .HEAD and .BRIK."""
    with opened(path) as image:
        shape = tuple(image.shape)
        if shape[3:] not in ((1, 3), (3,)) or (len(shape) == 4 and not path.name.lower().endswith(HEAD)):
            raise UserError(f"holds an array of shape {shape}, no warp of AFNI: that is (X, Y, Z, 1, 3)")
        own = Grid(shape[:3], image.affine)
        _check_plumb(own)
        vectors = flip_ras_lps(np.asarray(image.dataobj, np.float32).reshape(*shape[:3], 3))
        check_rest(image)
    return Displacement.from_world(np.moveaxis(vectors, -1, 0), own)


def _check_plumb(grid: Grid) -> None:
    if grid.obliqueness_deg > MOST_OBLIQUE_DEG:
        raise UserError(
            f"AFNI drops the obliqueness of {grid.obliqueness_deg:.2g} degrees of a warp's grid; resample the scans to "
            "a grid along the axes (3dWarp -deoblique), or choose another format"
        )


def _shows_warp(path: Path) -> bool:
    if path.name.lower().endswith(HEAD):
        return True
    head = nifti_head(path)
    if len(head.shape) != 5 or head.shape[3:] != (1, 3) or head.intent in (INTENT_DISPVECT, INTENT_VECTOR):
        return False
    return head.description.startswith(MARK) or head.extension == AFNI_EXTENSION


AFNI = TransformFormat(
    "affine as text, LPS mm: AFNI (3dAllineate -1Dmatrix_apply)", (".1d",), write=write, read=read, needs_moving=True
)
AFNI_WARP = TransformFormat(
    "warp on a grid along the axes, LPS mm: AFNI (3dNwarpApply)",
    NIFTI,
    write=write_warp,
    read=read_warp,
    also_read=(HEAD,),
    shows=_shows_warp,
)
