"""ITK affines in MATLAB level 4 files (.mat), as ANTs writes them."""

from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.atomic import atomic_path
from anamorph.transforms.affine import Affine
from anamorph.transforms.base import Transform
from anamorph.transforms.files.itk_linear import AFFINE_TYPE, check_size, from_itk, to_itk


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    from scipy.io import savemat

    parameters, centre = to_itk(transform)
    with atomic_path(path) as temporary:
        savemat(temporary, {AFFINE_TYPE: parameters[:, None], "fixed": centre[:, None]}, format="4", appendmat=False)


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read an affine."""
    from scipy.io import loadmat
    from scipy.io.matlab import matfile_version

    check_size(path)
    try:
        if matfile_version(path, appendmat=False)[0] != 0:  # later levels may be packed, and swell
            raise ValueError("not of level 4")
        content = loadmat(path, appendmat=False)
    except Exception as error:  # scipy raises ValueError, NotImplementedError or its own
        raise UserError(
            "no ITK transform; FSL's .mat text must first become an ITK transform (c3d_affine_tool)"
        ) from error
    names = [name for name in content if name != "fixed" and not name.startswith("__")]
    if len(names) != 1 or "fixed" not in content:
        raise UserError(f"no ITK transform: expected one matrix and 'fixed', found {', '.join(sorted(content))}")
    return from_itk(names[0], content[names[0]].ravel(), content["fixed"].ravel())
