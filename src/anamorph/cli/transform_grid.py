"""A transform from a file with the grid it lives on, and outputs that do not overwrite by accident."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from anamorph.cli.logs import say
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.transforms import Displacement, Transform


def read_with_grid(path: Path, like: str | None, moving_grid: Grid | None = None) -> tuple[Transform, Grid | None]:
    """Read a transform and the fixed grid: that of ``like`` if given, else what the field says of itself, else None.

    A field says on which grid its scan lies, or else lies on it. The fields inside a composite lie on grids of their
    own making, often coarse ones.

    Raises:
        UserError: a file cannot be read.
    """
    from anamorph.image.read import read_image
    from anamorph.transforms.files import read_transform

    grid = None if like is None else read_image(like).grid
    transform = read_transform(path, grid=grid, moving_grid=moving_grid)
    _tell_assumptions(path, moving_grid)
    if grid is None and isinstance(transform, Displacement):
        grid = transform.scan_grid or transform.grid
    return transform, grid


def _tell_assumptions(path: Path, moving_grid: Grid | None) -> None:
    """Files of deeds do not say which scans and which matrix belong to them."""
    from anamorph.transforms.files.deeds import FIELD_SUFFIX, is_deeds, matrix_path

    if not is_deeds(path):
        return
    if path.name.lower().endswith(FIELD_SUFFIX) and not matrix_path(path).is_file():
        say(f"{path.name}: no {matrix_path(path).name} beside it, so taken to have no linear part")
    if moving_grid is None:
        say(f"{path.name}: the moving scan is taken to have the grid of the fixed one; name it with --moving if not")


def chosen_kind(out: Path, asked: str | None) -> str:
    """The format asked for, else the first one that the suffix of the output may be.

    Raises:
        UserError: neither says one.
    """
    from anamorph.transforms.files import FORMATS

    kind = asked or next((kind for kind in FORMATS if out.name.lower().endswith(FORMATS.find(kind).suffixes)), None)
    if kind is None:
        raise UserError(f"{out.name} does not say a format; choose one with --to: {', '.join(FORMATS)}")
    return kind


def refuse_existing(path: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Do not overwrite a file that nobody gave up.

    Raises:
        UserError: it exists and ``overwrite`` is off, or it is one of the ``inputs``.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another name or pass --overwrite to replace it")
    if path.exists() and any(given is not None and Path(given).exists() and path.samefile(given) for given in inputs):
        raise UserError(f"{path} is read and not replaced; choose another name")
