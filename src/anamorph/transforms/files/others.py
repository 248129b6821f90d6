"""What readers of other programs' files share: matrices as text, headers, and the libraries that know the formats."""

from __future__ import annotations

import struct
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import BoundedGzip
from anamorph.transforms.files.itk_linear import check_size
from anamorph.transforms.maps import Displacement

_HEADER_BYTES, _HEAD_BYTES = 348, 360
"""Of NIfTI, and with the code of the first extension."""


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


class NiftiHead(NamedTuple):
    """What the first bytes of a NIfTI file say about a transform in it."""

    shape: tuple[int, ...]
    intent: int
    intent_name: bytes
    description: bytes
    extension: int


def nifti_head(path: Path) -> NiftiHead:
    """Look at a NIfTI file without opening it as an image, which takes ten times as long.

    Raises:
        ValueError: it is none of version 1.
        OSError: it cannot be read.
    """
    with BoundedGzip(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
    order = next((order for order in "<>" if struct.unpack_from(f"{order}i", head)[0] == _HEADER_BYTES), None)
    if order is None:
        raise ValueError("no NIfTI header")
    dimensions = struct.unpack_from(f"{order}8h", head, 40)
    intent = struct.unpack_from(f"{order}h", head, 68)[0]
    extension = struct.unpack_from(f"{order}i", head, 356)[0] if head[_HEADER_BYTES] else 0
    return NiftiHead(dimensions[1 : 1 + dimensions[0]], intent, head[328:344], head[148:228], extension)


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
