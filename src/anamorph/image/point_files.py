"""Landmark files: CSV, 3D Slicer (.fcsv, .mrk.json), elastix text, and NIfTI images of labelled voxels.

CSV columns name the frame: ``x,y,z`` and ``x_ras,y_ras,z_ras`` are RAS mm, ``x_lps,y_lps,z_lps`` LPS mm, ``i,j,k``
voxel indices of the image the points belong to; ``label`` (or ``name``) is optional. A ``frame`` column or a comment
line ``# frame: LPS`` says what ``x,y,z`` are. A file without a header line holds voxel indices, as in Learn2Reg.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.atomic import write_text
from anamorph.image.points import Points

Frame = Literal["ras", "lps", "voxel"]
_COLUMNS: dict[tuple[str, str, str], Frame] = {
    ("x_ras", "y_ras", "z_ras"): "ras",
    ("x_lps", "y_lps", "z_lps"): "lps",
    ("i", "j", "k"): "voxel",
    ("x", "y", "z"): "ras",
}
_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FORMATS = ".csv, .fcsv, .mrk.json, .txt or .pts (elastix), .nii.gz of labelled voxels"


def read_points(path: str | os.PathLike[str], grid: Grid | None = None, frame: Frame | None = None) -> Points:
    """Read landmarks.

    Args:
        path: a file of one of the formats above, told by its suffix.
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
        (".csv", ".tsv"): lambda: _read_csv(path, grid, frame),
        (".mrk.json",): lambda: _read_markups(path),
        (".txt", ".pts"): lambda: _read_elastix(path, grid),
        (".nii", ".nii.gz"): lambda: _read_voxels(path),
    }
    for suffixes, read in readers.items():
        if name.endswith(suffixes):
            try:
                return read()
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise UserError(f"{path}: damaged point file ({error}); expected one of {_FORMATS}") from error
    raise UserError(f"{path}: unknown point format; use {_FORMATS}")


def write_points(points: Points, path: str | os.PathLike[str], grid: Grid | None = None) -> None:
    """Write landmarks as CSV (RAS mm, or voxel indices ``i,j,k`` if a grid is given), .fcsv or .mrk.json (both LPS mm).

    Raises:
        UserError: another suffix, or an unwritable folder.
    """
    name = Path(path).name.lower()
    labels = points.labels or tuple(str(n + 1) for n in range(len(points)))
    if name.endswith(".fcsv"):
        text = _fcsv_text(flip_ras_lps(points.positions_mm), labels)
    elif name.endswith(".mrk.json"):
        text = _markups_text(flip_ras_lps(points.positions_mm), labels)
    elif name.endswith(".csv"):
        header = "label,x_ras,y_ras,z_ras" if grid is None else "label,i,j,k"
        rows = points.positions_mm if grid is None else points.to_voxel(grid)
        quoted = [f'"{one}"' if "," in one else one for one in labels]
        lines = [",".join((one, *(f"{v:.6f}" for v in row))) for one, row in zip(quoted, rows, strict=True)]
        text = "\n".join((header, *lines)) + "\n"
    else:
        raise UserError(f"cannot write points to {Path(path).name}; use .csv, .fcsv or .mrk.json")
    write_text(path, text)


def _points(rows: np.ndarray, frame: Frame, grid: Grid | None, labels: tuple[str, ...] = ()) -> Points:
    rows = np.asarray(rows, np.float64).reshape(-1, 3)
    if not len(rows):
        raise UserError("holds no points")
    if frame == "voxel":
        if grid is None:
            raise UserError("voxel indices need the image they belong to; give it, or use world coordinates")
        return Points.from_voxel(rows, grid, labels)
    return Points(flip_ras_lps(rows) if frame == "lps" else rows, labels)


def _frame(text: str) -> Frame:
    """Slicer writes RAS, LPS, 0 (RAS) or 1 (LPS)."""
    found: Frame | None = {"ras": "ras", "0": "ras", "lps": "lps", "1": "lps", "voxel": "voxel", "ijk": "voxel"}.get(  # type: ignore[assignment]
        text.strip().lower()
    )
    if found is None:
        raise UserError(f"unknown coordinate frame '{text.strip()}'; use RAS, LPS or voxel")
    return found


def _read_csv(path: Path, grid: Grid | None, frame: Frame | None) -> Points:
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise UserError("holds no points")
    delimiter = max(",;\t", key=lines[0].count)
    table = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    if all(_is_number(cell) for cell in table[0]):
        return _points(np.array([[float(cell) for cell in row[:3]] for row in table]), frame or "voxel", grid)
    header = [cell.strip().lower() for cell in table[0]]
    names = next((columns for columns in _COLUMNS if set(columns) <= set(header)), None)
    if names is None:
        raise UserError(f"columns {', '.join(header)}; name them x_ras,y_ras,z_ras (or x_lps.., or i,j,k), and label")
    body = table[1:]
    rows = np.array([[float(row[header.index(column)]) for column in names] for row in body])
    stated = _COLUMNS[names]
    if names == ("x", "y", "z"):
        stated = frame or _stated_frame(comments, header, body) or stated
    label = next((header.index(column) for column in ("label", "name") if column in header), None)
    return _points(rows, stated, grid, () if label is None else tuple(row[label].strip() for row in body))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _stated_frame(comments: list[str], header: list[str], body: list[list[str]]) -> Frame | None:
    if "frame" in header:
        frames = {_frame(row[header.index("frame")]) for row in body}
        if len(frames) > 1:
            raise UserError("mixes coordinate frames; use one per file")
        return frames.pop()
    for comment in comments:
        key, _, value = comment.replace("=", ":").partition(":")
        if key.strip().lower() in ("frame", "coordinatesystem"):
            return _frame(value)
    return None


def _read_fcsv(path: Path) -> Points:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    frame: Frame = "ras"  # Slicer before 4.11 wrote RAS as 0, and always wrote the line
    columns = ["id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label"]
    for line in lines:
        key, _, value = line.lstrip("# ").partition("=")
        if key.strip() == "CoordinateSystem":
            frame = _frame(value)
        if key.strip() == "columns":
            columns = [column.strip() for column in value.split(",")]
    table = list(csv.reader(line for line in lines if line.strip() and not line.startswith("#")))
    rows = np.array([[float(row[columns.index(axis)]) for axis in "xyz"] for row in table])
    return _points(rows, frame, None, tuple(row[columns.index("label")] for row in table))


def _fcsv_text(positions_lps: np.ndarray, labels: tuple[str, ...]) -> str:
    header = (
        "# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    )
    rows = zip(positions_lps, labels, strict=True)
    return header + "".join(
        f"{n + 1},{x:.6f},{y:.6f},{z:.6f},0,0,0,1,1,1,0,{label.replace(',', ' ')},,\n"
        for n, ((x, y, z), label) in enumerate(rows)
    )


def _read_markups(path: Path) -> Points:
    markups = json.loads(path.read_text(encoding="utf-8"))["markups"]
    points, labels = [], []
    for markup in markups:
        lps = _frame(markup.get("coordinateSystem", "LPS")) == "lps"
        for point in markup["controlPoints"]:
            if point.get("positionStatus", "defined") != "defined":
                continue
            position = np.array(point["position"], np.float64)
            points.append(flip_ras_lps(position) if lps else position)
            labels.append(str(point.get("label", "")))
    return _points(np.array(points), "ras", None, tuple(labels) if all(labels) else ())


def _markups_text(positions_lps: np.ndarray, labels: tuple[str, ...]) -> str:
    control = [
        {"id": str(n + 1), "label": label, "position": [round(float(v), 6) for v in row], "positionStatus": "defined"}
        for n, (row, label) in enumerate(zip(positions_lps, labels, strict=True))
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control}
    return json.dumps({"@schema": _MARKUPS_SCHEMA, "markups": [markup]}, indent=1) + "\n"


def _read_elastix(path: Path, grid: Grid | None) -> Points:
    words = path.read_text(encoding="utf-8").split()
    if not words or words[0] not in ("index", "point"):
        raise UserError("a point text file starts with 'index' or 'point' and the number of points (elastix)")
    count = int(words[1])
    rows = np.array(words[2:], np.float64).reshape(-1, 3)
    if len(rows) != count:
        raise UserError(f"announces {count} points but holds {len(rows)}")
    return _points(rows, "voxel" if words[0] == "index" else "lps", grid)


def _read_voxels(path: Path) -> Points:
    """Each label of the image is one point: the centroid of its voxels, named by its value."""
    from anamorph.image.read import read_labels

    labels = read_labels(path)
    sites = np.argwhere(labels.data[0] != 0)
    values = labels.data[0][tuple(sites.T)]
    names = labels.present()
    centres = np.array([sites[values == name].mean(axis=0) for name in names])
    return Points.from_voxel(centres, labels.grid, tuple(map(str, names)))
