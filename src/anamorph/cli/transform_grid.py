"""A transform from a file with the grid it lives on, and outputs that do not overwrite by accident."""

from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.transforms import Composite, Displacement, Transform


def read_with_grid(path: Path, like: str | None, moving_grid: Grid | None = None) -> tuple[Transform, Grid | None]:
    """Read a transform and the fixed grid: that of ``like`` if given, else the field's own, else None.

    Raises:
        UserError: a file cannot be read.
    """
    from anamorph.image.read import read_image
    from anamorph.transforms.files import read_transform

    grid = None if like is None else read_image(like).grid
    transform = read_transform(path, grid=grid, moving_grid=moving_grid)
    return transform, grid or own_grid(transform)


def own_grid(transform: Transform) -> Grid | None:
    """The grid of a dense field that sees the fixed points first; a field behind an affine lies elsewhere."""
    first = transform.parts[0] if isinstance(transform, Composite) else transform
    return first.grid if isinstance(first, Displacement) else None


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Do not overwrite a file that nobody gave up.

    Raises:
        UserError: it exists and ``overwrite`` is off.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another name or pass --overwrite to replace it")
