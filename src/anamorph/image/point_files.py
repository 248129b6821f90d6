"""Landmark files: tables, 3D Slicer (.fcsv, .mrk.json), elastix text, and NIfTI images of labelled voxels.

Columns of a table name the frame: ``x,y,z`` and ``x_ras,y_ras,z_ras`` are RAS mm, ``x_lps,y_lps,z_lps`` LPS mm,
``x,y,z,t`` (ANTs) LPS mm, ``i,j,k`` voxel indices of the image the points belong to; ``label`` (or ``name``) and
``sigma_mm``, how exactly a point is known, are optional. A ``frame`` column, or a comment line such as ``# frame: LPS``
or ``# lps``, says what ``x,y,z`` are. A file without a heading holds voxel indices, as in Learn2Reg, unless a comment
says otherwise.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.image.points import Points
from anamorph.reading import read_json, read_text, understood

Frame = Literal["ras", "lps", "voxel"]
_COLUMNS: dict[tuple[str, str, str], Frame | None] = {
    ("x_ras", "y_ras", "z_ras"): "ras",
    ("x_lps", "y_lps", "z_lps"): "lps",
    ("i", "j", "k"): "voxel",
    ("x", "y", "z"): None,
}
_ANTS_COLUMNS = {"x", "y", "z", "t"}
SIGMA = "sigma_mm"
"""The column that says how exactly each point is known."""
# Slicer writes RAS, LPS, 0 (RAS) or 1 (LPS).
_FRAMES: dict[str, Frame] = {
    **dict.fromkeys(("ras", "0", "right anterior superior"), "ras"),
    **dict.fromkeys(("lps", "1", "left posterior superior"), "lps"),
    **dict.fromkeys(("voxel", "voxels", "ijk"), "voxel"),
}
_FRAME_KEYS = ("frame", "space", "coordinates", "coordinatesystem", "coordinateframe", "coordinatespace")


def points_of(
    rows: np.ndarray,
    frame: Frame,
    grid: Grid | None,
    labels: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    sigma_mm: np.ndarray | None = None,
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
        rows = grid.voxel_to_world(rows)
    return Points(flip_ras_lps(rows) if frame == "lps" else rows, labels, notes, sigma_mm)


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
    sigma_mm = _numbers(body, [header.index(SIGMA)], 2).ravel() if SIGMA in header else None
    own = _COLUMNS[names]
    stated = _frame_in_column(header, body) or stated
    notes: tuple[str, ...] = ()
    if own is not None and stated not in (None, own):
        raise UserError(f"the columns {','.join(names)} are {own}, but the file says {stated}; keep one of the two")
    if own is None and stated is None and frame is None and set(header) >= _ANTS_COLUMNS:
        own, notes = "lps", (
            f"{path.name}: columns x,y,z,t are those of ANTs, so taken as LPS mm; if they are RAS, begin the file with "
            "the line # frame: RAS",
        )  # fmt: skip
    return points_of(rows, own or frame or stated or "ras", grid, labels, notes, sigma_mm)


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


_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FORMATS = ".csv, .fcsv, .mrk.json, .txt or .pts (elastix), .nii.gz of labelled voxels"


def read_points(path: str | os.PathLike[str], grid: Grid | None = None, frame: Frame | None = None) -> Points:
    """Read landmarks.

    Args:
        path: a file of one of the formats above; its suffix says which.
        grid: of the image the points belong to; needed for voxel indices.
        frame: of plain ``x,y,z`` columns of a CSV, instead of what the file says.

    Raises:
        UserError: missing or unknown file, columns that are not understood, voxel indices without a grid.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    name = path.name.lower()
    readers: dict[tuple[str, ...], Callable[[], Points]] = {
        (".fcsv",): lambda: _read_fcsv(path),
        (".csv", ".tsv"): lambda: read_table(path, grid, frame),
        (".mrk.json",): lambda: _read_markups(path),
        (".txt", ".pts"): lambda: _read_text(path, grid, frame),
        (".nii", ".nii.gz"): lambda: _read_voxels(path),
    }
    for suffixes, read in readers.items():
        if name.endswith(suffixes):
            with understood(path, "damaged point file", f"expected one of {_FORMATS}"):
                try:
                    return read()
                except UserError as error:
                    raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    raise UserError(f"{path}: unknown point format; use {_FORMATS}")


def write_points(points: Points, path: str | os.PathLike[str], grid: Grid | None = None) -> None:
    """Write landmarks as CSV (RAS mm, or voxel indices ``i,j,k`` if a grid is given), .fcsv or .mrk.json (both LPS mm).

    Raises:
        UserError: another suffix, a name that the format cannot hold, or an unwritable folder.
    """
    name = Path(path).name.lower()
    labels = points.labels or tuple(str(n + 1) for n in range(len(points)))
    if name.endswith(".mrk.json"):
        text = _markups_text(flip_ras_lps(points.positions_mm), labels)
    elif name.endswith((".csv", ".fcsv")):
        _check_labels(labels)
        if name.endswith(".fcsv"):
            text = _fcsv_text(flip_ras_lps(points.positions_mm), labels)
        else:
            header = ["label", "x_ras", "y_ras", "z_ras"] if grid is None else ["label", "i", "j", "k"]
            rows = (points.positions_mm if grid is None else points.to_voxel(grid)).tolist()
            cells = ([label, *(f"{v:.6f}" for v in row)] for label, row in zip(labels, rows, strict=True))
            text = _csv_text([header, *cells])
    else:
        raise UserError(f"cannot write points to {Path(path).name}; use .csv, .fcsv or .mrk.json")
    write_text(path, text)


def _check_labels(labels: Sequence[str]) -> None:
    """Tables hold a point per line of UTF-8.

    Raises:
        UserError: a name has line breaks or characters of no alphabet.
    """
    for label in labels:
        if len(label.splitlines()) > 1 or label != label.strip() or label.startswith(("#", "//", "%")):
            raise UserError(f"the point name {label!r} does not fit into a table; write .mrk.json")
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the point name {label!r} is no UTF-8; write .mrk.json") from error


def _read_fcsv(path: Path) -> Points:
    comments, lines = split_comments(read_text(path))
    frame: Frame = frame_in_comments(comments) or "ras"  # Slicer before 4.11 wrote RAS as 0, and always wrote the line
    columns = ["id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label"]
    for comment in comments:
        key, _, value = comment.partition("=")
        if key.strip() == "columns":
            columns = [column.strip() for column in value.split(",")]
    table = list(csv.reader(lines))
    rows = np.array([[float(row[columns.index(axis)]) for axis in "xyz"] for row in table])
    return points_of(rows, frame, None, tuple(row[columns.index("label")] for row in table))


def _fcsv_text(positions_lps: np.ndarray, labels: tuple[str, ...]) -> str:
    header = (
        "# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    )
    rows = zip(positions_lps.tolist(), labels, strict=True)
    return header + _csv_text(
        [n, *(f"{v:.6f}" for v in row), 0, 0, 0, 1, 1, 1, 0, label, "", ""] for n, (row, label) in enumerate(rows, 1)
    )


def _csv_text(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read_markups(path: Path) -> Points:
    points, labels, curves = [], [], []
    for markup in markups_in(path):
        places, names = positions_of(markup)
        points += places
        labels += names
        if "Curve" in str(markup.get("type")):
            curves.append(str(markup.get("label") or markup["type"]))
    note = (
        f"{path.name}: the points of {', '.join(curves)} are taken as landmarks; --fixed-outlines takes curves as such"
    )
    return points_of(np.array(points), "ras", None, tuple(labels) if all(labels) else (), (note,) if curves else ())


def markups_in(path: Path) -> list[dict[str, Any]]:
    """The markups of a file of 3D Slicer.

    Raises:
        UserError: it holds none.
    """
    content = read_json(path)
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or not all(isinstance(one, dict) for one in markups):
        raise UserError("holds no list of markups; save the points from 3D Slicer again")
    return markups


def positions_of(markup: dict[str, Any]) -> tuple[list[np.ndarray], list[str]]:
    """The control points of a markup of 3D Slicer that are set, in RAS mm, and their names.

    Raises:
        UserError: they are not what 3D Slicer writes, or not in mm.
    """
    if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
        raise UserError(f"the points are in {str(markup['coordinateUnits'])[:40]}; save them in mm")
    lps = frame_named(str(markup.get("coordinateSystem", "LPS"))) == "lps"
    places, names = [], []
    for point in _listed(markup, "controlPoints"):
        if point.get("positionStatus", "defined") != "defined":
            continue
        position = np.array(_listed(point, "position", (int, float)), np.float64)
        if position.shape != (3,):
            raise UserError(f"a point has {position.size} coordinates; it needs three")
        places.append(flip_ras_lps(position) if lps else position)
        names.append(str(point.get("label", "")))
    return places, names


def _listed(holder: dict[str, Any], key: str, kind: Any = dict) -> list[Any]:
    """A list of values of one kind.

    Raises:
        UserError: it is something else.
    """
    found = holder.get(key)
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise UserError(f"'{key}' is not what 3D Slicer writes there; save the points again")
    return found


def _markups_text(positions_lps: np.ndarray, labels: tuple[str, ...]) -> str:
    control = [
        {"id": str(n + 1), "label": label, "position": [round(float(v), 6) for v in row], "positionStatus": "defined"}
        for n, (row, label) in enumerate(zip(positions_lps, labels, strict=True))
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control}
    return json.dumps({"@schema": _MARKUPS_SCHEMA, "markups": [markup]}, indent=1) + "\n"


def _read_text(path: Path, grid: Grid | None, frame: Frame | None) -> Points:
    """Points of elastix, which count themselves, or a table."""
    comments, lines = split_comments(read_text(path))
    words = " ".join(lines).split()
    if not words or words[0] not in ("index", "point"):
        if lines and is_table(lines[0]):
            return read_table(path, grid, frame)
        raise UserError("a point text file starts with 'index' or 'point' and the number of points (elastix)")
    rows = np.array(words[2:], np.float64)
    if len(rows) % 3 or words[1:2] != [str(len(rows) // 3)]:
        raise UserError(
            f"announces {' '.join(words[1:2])[:20] or 'no'} points but holds {len(rows) / 3:g}; is it complete?"
        )
    if words[0] == "index":
        return points_of(rows, "voxel", grid)
    return points_of(rows, frame_in_comments(comments) or "lps", grid)


def _read_voxels(path: Path) -> Points:
    """Each label of the image is one point: the centroid of its voxels, named by its value."""
    from anamorph.image.read import read_labels

    labels = read_labels(path)
    sites = np.argwhere(labels.data[0] != 0)
    values = labels.data[0][tuple(sites.T)]
    names = labels.present()
    centres = np.array([sites[values == name].mean(axis=0) for name in names])
    return Points.from_voxel(centres, labels.grid, tuple(map(str, names)))
