"""Linear transforms of FreeSurfer (.lta): moving (src) to fixed (dst), in RAS mm or in voxels, with both grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_linear import affine_alone, check_size
from anamorph.transforms.files.others import library
from anamorph.transforms.maps import Affine, Transform


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine as LINEAR_RAS_TO_RAS; without a moving scan that is taken to have the grid of the fixed one."""
    linear = library("nitransforms.io.lta").FSLinearTransform
    matrix = affine_alone(transform).matrix
    # nitransforms calls the source of the coordinates reference; the source of FreeSurfer's matrix is the moving scan.
    theirs = linear.from_ras(matrix, reference=moving_grid or fixed_grid, moving=fixed_grid)
    write_text(path, theirs.to_string())


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read the one transform of a file."""
    check_size(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        theirs = library("nitransforms.io.lta").FSLinearTransform.from_string(text)
    except (AssertionError, ValueError, IndexError):
        raise UserError("no LTA of FreeSurfer with one transform; is it complete?") from None
    if theirs["type"] == 0 and not (theirs["src"]["valid"] and theirs["dst"]["valid"]):
        raise UserError("counts in voxels of scans that it does not describe; write it again with lta_convert")
    return Affine(np.asarray(theirs.to_ras(), np.float64))


LTA = TransformFormat("affine with both grids: FreeSurfer", (".lta",), write=write, read=read)
