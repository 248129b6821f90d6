"""Landmarks as tables: CSV, TSV and columns of text; which frame the numbers are in."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.points import Points
from anamorph.reading import read_text

Frame = Literal["ras", "lps", "voxel"]
_COLUMNS: dict[tuple[str, str, str], Frame | None] = {
    ("x_ras", "y_ras", "z_ras"): "ras",
    ("x_lps", "y_lps", "z_lps"): "lps",
    ("i", "j", "k"): "voxel",
    ("x", "y", "z"): None,
}
_ANTS_COLUMNS = {"x", "y", "z", "t"}
# Slicer writes RAS, LPS, 0 (RAS) or 1 (LPS).
_FRAMES: dict[str, Frame] = {
    **dict.fromkeys(("ras", "0", "right anterior superior"), "ras"),
    **dict.fromkeys(("lps", "1", "left posterior superior"), "lps"),
    **dict.fromkeys(("voxel", "voxels", "ijk"), "voxel"),
}
_FRAME_KEYS = ("frame", "space", "coordinates", "coordinatesystem", "coordinateframe", "coordinatespace")


def points_of(
    rows: np.ndarray, frame: Frame, grid: Grid | None, labels: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> Points:
    """Landmarks of an ``(N, 3)`` table of numbers in a frame.

    Raises:
        UserError: there are none, or they are voxel indices and there is no grid.
    """
    rows = np.asarray(rows, np.float64).reshape(-1, 3)
    if not len(rows):
        raise UserError("holds no points")
    if frame == "voxel":
        if grid is None:
            raise UserError("voxel indices need the image they belong to; give it, or use world coordinates")
        return Points.from_voxel(rows, grid, labels)
    return Points(flip_ras_lps(rows) if frame == "lps" else rows, labels, notes)


def frame_named(text: str) -> Frame:
    """The frame that a word stands for.

    Raises:
        UserError: none.
    """
    found = _FRAMES.get(" ".join(re.split(r"[\s_-]+", text.strip().lower())))
    if found is None:
        raise UserError(f"unknown coordinate frame '{text.strip()[:40]}'; use RAS, LPS or voxel")
    return found


def frame_in_comments(comments: Sequence[str]) -> Frame | None:
    """The frame that comment lines state: ``frame: LPS`` and the like, else the word LPS or RAS among others.

    Raises:
        UserError: they name an unknown frame, or two.
    """
    for comment in comments:
        key, _, value = comment.replace("=", ":").partition(":")
        if re.sub(r"[\s_-]", "", key.lower()) in _FRAME_KEYS and value.strip():
            return frame_named(value)
    named = {word for comment in comments for word in re.findall(r"[a-z]+", comment.lower()) if word in ("ras", "lps")}
    if len(named) > 1:
        raise UserError("comments name both RAS and LPS; begin with the line # frame: LPS, or # frame: RAS")
    return _FRAMES[named.pop()] if named else None


def split_comments(text: str) -> tuple[list[str], list[str]]:
    """Comments without their marks, and all other lines that are not empty."""
    lines = [line for line in text.splitlines() if line.strip()]
    comments = [line.lstrip("#/% \t").strip() for line in lines if line.lstrip().startswith(("#", "//", "%"))]
    return comments, [line for line in lines if not line.lstrip().startswith(("#", "//", "%"))]


def is_table(line: str) -> bool:
    """Whether a first line can be that of a table: three numbers, or columns that name a frame."""
    cells = _cells([line])[0]
    return len(cells) >= 3 and (all(map(_is_number, cells[:3])) or _columns(cells) is not None)


def read_table(path: Path, grid: Grid | None, frame: Frame | None) -> Points:
    """Read a table with a heading, or of voxel indices without one.

    Args:
        path: the file.
        grid: of the image the points belong to; needed for voxel indices.
        frame: of plain ``x,y,z`` columns, instead of what the file says.

    Raises:
        UserError: no points, unknown columns, or two frames.
        ValueError: a cell that holds no number.
    """
    comments, lines = split_comments(read_text(path))
    if not lines:
        raise UserError("holds no points")
    table = _cells(lines)
    stated = frame_in_comments(comments)
    if all(_is_number(cell) for cell in table[0]):
        return points_of(_numbers(table, (0, 1, 2), 1), frame or stated or "voxel", grid)
    header = [cell.strip().lower() for cell in table[0]]
    names = _columns(header)
    if names is None:
        raise UserError(
            f"columns {', '.join(header)[:80]}; name them x_ras,y_ras,z_ras (or x_lps.., or i,j,k), and label"
        )
    body = table[1:]
    rows = _numbers(body, [header.index(column) for column in names], 2)
    label = next((header.index(column) for column in ("label", "name") if column in header), None)
    labels = () if label is None else tuple(_cell(row, label, n) for n, row in enumerate(body, 2))
    own = _COLUMNS[names]
    stated = _frame_in_column(header, body) or stated
    if own is not None:
        if stated not in (None, own):
            raise UserError(f"the columns {','.join(names)} are {own}, but the file says {stated}; keep one of the two")
        return points_of(rows, own, grid, labels)
    if stated is None and frame is None and set(header) >= _ANTS_COLUMNS:
        note = (
            f"{path.name}: columns x,y,z,t are those of ANTs, so taken as LPS mm; if they are RAS, begin the file with "
            "the line # frame: RAS"
        )
        return points_of(rows, "lps", grid, labels, (note,))
    return points_of(rows, frame or stated or "ras", grid, labels)


def _columns(header: Sequence[str]) -> tuple[str, str, str] | None:
    there = {cell.strip().lower() for cell in header}
    return next((columns for columns in _COLUMNS if set(columns) <= there), None)


def _cells(lines: Sequence[str]) -> list[list[str]]:
    """Cells by the separator that the first line holds most of, else by blanks."""
    delimiter = max(",;\t", key=lines[0].count)
    if delimiter not in lines[0]:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _numbers(rows: Sequence[Sequence[str]], columns: Sequence[int], first: int) -> np.ndarray:
    return np.array([[float(_cell(row, column, n)) for column in columns] for n, row in enumerate(rows, first)])


def _cell(row: Sequence[str], column: int, number: int) -> str:
    if column >= len(row):
        raise UserError(f"row {number} has {len(row)} columns, fewer than the first one; complete it")
    return row[column].strip()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _frame_in_column(header: Sequence[str], body: Sequence[Sequence[str]]) -> Frame | None:
    if "frame" not in header:
        return None
    frames = {frame_named(_cell(row, header.index("frame"), n)) for n, row in enumerate(body, 2)}
    if len(frames) > 1:
        raise UserError("mixes coordinate frames; use one per file")
    return frames.pop() if frames else None
