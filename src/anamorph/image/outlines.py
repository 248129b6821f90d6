"""Curves and surfaces: curve markups of 3D Slicer (.mrk.json), meshes (.vtk, .stl, .ply, .obj), outlines of labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.image import Labels
from anamorph.image.label_like import is_label_map
from anamorph.image.point_files import markups_in, positions_of
from anamorph.image.read import read_labels
from anamorph.image.shape_files import MESHES, frame_in_header, read_meshio
from anamorph.reading import understood

CURVES = ("Curve", "ClosedCurve", "Line")
SAMPLES = 5000
"""Points that stand for a curve or a surface."""


@dataclass(frozen=True, eq=False, repr=False)
class Outline:
    """A curve or a surface of a scan.

    Args:
        positions_mm: ``(N, 3)`` points spread evenly over it, RAS mm.
        name: what messages call it.
        notes: what was assumed in reading it, for people.
    """

    positions_mm: np.ndarray
    name: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Outline({self.name}, {len(self.positions_mm)} points)"

    @classmethod
    def of_label(cls, labels: Labels, value: int) -> Outline:
        """The surface of a label: middles of the faces between its voxels and others; where a scan ends is none.

        Raises:
            UserError: the map has no such label, or nothing else.
        """
        inside = labels.data[0] == value
        faces = []
        for axis in range(3):
            at = np.argwhere(np.diff(inside.astype(np.int8), axis=axis)).astype(np.float64)
            at[:, axis] += 0.5
            faces.append(at)
        found = np.concatenate(faces)
        if not len(found):
            raise UserError(
                f"{labels.name} has no label {value}" if not inside.any() else f"{labels.name} is all {value}"
            )
        some = np.random.default_rng(0).permutation(len(found))[:SAMPLES]
        return cls(labels.grid.voxel_to_world(found[some]), str(value))


def read_outlines(path: str | os.PathLike[str]) -> list[Outline]:
    """Read the curves of a markup file, the surface of a mesh, or those of all labels of a map.

    Meshes are taken as LPS mm, as ITK and 3D Slicer write them, unless their header says ``SPACE=RAS``.

    Raises:
        UserError: missing or unknown file, or one that holds no curve or surface.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    name = path.name.lower()
    if not name.endswith((".mrk.json", *MESHES)):
        labels = read_labels(path)
        if not is_label_map(labels):
            raise UserError(f"{path}: no curve, mesh or label map; use .mrk.json, {', '.join(MESHES)}, or labels")
        return [Outline.of_label(labels, value) for value in labels.present()]
    with understood(path, "damaged file of curves or surfaces", "expected a curve of 3D Slicer or a mesh"):
        try:
            return _read_curves(path) if name.endswith(".mrk.json") else [_read_mesh(path)]
        except UserError as error:
            raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def _read_curves(path: Path) -> list[Outline]:
    """Curves through their control points, straight between them."""
    found = []
    for number, markup in enumerate(markups_in(path), 1):
        kind = markup.get("type")
        if kind not in CURVES:
            continue
        places, _ = positions_of(markup)
        if len(places) < 2:
            raise UserError(f"curve {number} has {len(places)} points; it needs two or more")
        corners = np.array([*places, places[0]] if kind == "ClosedCurve" else places)
        found.append(Outline(_along(corners), str(markup.get("label") or markup.get("name") or number)))
    if not found:
        raise UserError("holds no curve; give its points as landmarks, by --fixed-points and --moving-points")
    return found


def _along(corners: np.ndarray) -> np.ndarray:
    """Points at equal steps along a line ``(N, 3)``."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    steps = np.linspace(0, length[-1], SAMPLES)
    return np.stack([np.interp(steps, length, axis) for axis in corners.T], axis=1)


def _read_mesh(path: Path) -> Outline:
    frame, notes = frame_in_header(path)
    mesh = read_meshio(path)
    places = np.asarray(mesh.points, np.float64)
    faces = _triangles(mesh.cells_dict)
    if places.ndim != 2 or places.shape[1] != 3 or not len(faces) or not np.isfinite(places).all():
        raise UserError("holds no surface of triangles or quadrangles with points in three dimensions")
    places = flip_ras_lps(places) if frame == "lps" else places
    return Outline(_over(places[faces]), path.name.partition(".")[0], notes)


def _triangles(cells: dict[str, np.ndarray]) -> np.ndarray:
    """``(N, 3)`` corners of the triangles, and of quadrangles cut in two."""
    squares = cells.get("quad", np.empty((0, 4), int))
    parts = (cells.get("triangle", np.empty((0, 3), int)), squares[:, [0, 1, 2]], squares[:, [0, 2, 3]])
    return np.concatenate(parts).astype(int)


def _over(corners: np.ndarray) -> np.ndarray:
    """Points spread over triangles ``(N, 3, 3)`` by their area, the same ones every time."""
    first, *others = np.moveaxis(corners, 1, 0)
    along, aside = (other - first for other in others)
    area = np.cumsum(np.linalg.norm(np.cross(along, aside), axis=1))
    chosen = np.searchsorted(area, (np.arange(SAMPLES) + 0.5) / SAMPLES * area[-1])
    u, v = np.random.default_rng(0).random((2, SAMPLES, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return first[chosen] + u * along[chosen] + v * aside[chosen]
