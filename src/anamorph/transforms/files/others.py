"""What readers of other programs' files share: matrices as text, headers, and the libraries that know the formats."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.nibabel_files import opened
from anamorph.transforms.files.itk_linear import check_size
from anamorph.transforms.maps import Displacement


def library(module: str) -> Any:
    """A module of a library that reads and writes the files of another program.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        package = {"fsl": "fslpy"}.get(module.partition(".")[0], module.partition(".")[0])
        raise UserError(f"this format needs the package {package}: pip install 'anamorph[transforms]'") from None


def matrix_in(path: Path) -> np.ndarray | None:
    """``(4, 4)``, the numbers of a text file without comments; None if it holds anything else."""
    check_size(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        numbers = np.array([line.split() for line in lines if line.strip() and line[0] != "#"], np.float64)
    except ValueError:
        return None
    return numbers if numbers.shape == (4, 4) else None


def matrix_text(matrix: np.ndarray) -> str:
    """Four lines of four numbers."""
    return "".join(" ".join(f"{value:.10g}" for value in row) + "\n" for row in matrix)


def nifti_header(path: Path) -> tuple[Any, tuple[int, ...]]:
    """The header of a NIfTI file, and the shape of its array."""
    with opened(path) as image:
        return image.header, tuple(image.shape)


def both_grids(grid: Grid | None, moving_grid: Grid | None, program: str) -> tuple[Grid, Grid]:
    """The grids of the fixed and the moving scan.

    Raises:
        UserError: one of them is not known.
    """
    if grid is None or moving_grid is None:
        missing = " and ".join(name for name, known in (("fixed", grid), ("moving", moving_grid)) if known is None)
        raise UserError(
            f"files of {program} say nothing about the scans; give the {missing} scan too (--like, --moving)"
        )
    return grid, moving_grid


def from_places(places_mm: np.ndarray, grid: Grid) -> Displacement:
    """The field that sends every point of a grid to a place, ``(I, J, K, 3)`` RAS mm."""
    own = np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return Displacement.from_world(np.moveaxis(places_mm - own, -1, 0), grid)
