"""The record of a format of transform files.

A package adds one as an entry point of the group ``anamorph.transform_formats``. Its name is what ``anamorph convert
--to`` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.transforms.maps import Transform


class OtherFormat(UserError):
    """A file has a suffix of the format but is of another one: the next format with that suffix is tried."""


def _itself(path: Path) -> tuple[Path, ...]:
    return (path,)


@dataclass(frozen=True)
class TransformFormat:
    """A format of transform files.

    Args:
        summary: what a file holds and which programs read it, in a line.
        suffixes: of the files that are written, the usual one first.
        write: takes the transform, the path, the fixed grid and the moving grid or None; None for formats that are read
            only.
        read: takes the path, the fixed grid or None and the moving grid or None, and returns a transform that maps
            fixed points to moving points; None for formats that are written only. May raise :class:`OtherFormat`.
        also_read: suffixes of files that are read but not written.
        dense: whether a file holds vectors on the grid of the fixed scan, so that this must be known.
        files: what writing to a path makes or replaces.
    """

    summary: str
    suffixes: tuple[str, ...]
    write: Callable[[Transform, Path, Grid, Grid | None], None] | None = None
    read: Callable[[Path, Grid | None, Grid | None], Transform] | None = None
    also_read: tuple[str, ...] = ()
    dense: bool = True
    files: Callable[[Path], tuple[Path, ...]] = _itself
