"""Files of meshes and streamlines whose points are moved while all else stays: cells, values, headers.

Meshes are .vtk (legacy, also of streamlines), .gii, and what meshio reads: .stl, .ply, .obj, .off, .vtu. GIFTI, TCK and
TRK files are RAS mm by definition. The others cannot say their frame but by ``SPACE=RAS`` or ``SPACE=LPS`` in a header,
as 3D Slicer writes it, so they are taken as LPS mm, as ITK and 3D Slicer write them, unless a frame is given.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.point_files import Frame, frame_named
from anamorph.image.points import FARTHEST_MM
from anamorph.image.quiet import quiet_libraries
from anamorph.image.vtk_points import VtkPoints
from anamorph.reading import reason_of

MESHES = (".vtk", ".vtu", ".stl", ".ply", ".obj", ".off")
"""Meshes that cannot say their frame, but in a comment of their header."""
STREAMLINES = (".tck", ".trk")
SHAPES = (*MESHES, ".gii", *STREAMLINES)
HEADER_BYTES = 512
"""Where 3D Slicer says in which frame a mesh is."""
MARGIN_VOX = 1.5


@dataclass(frozen=True, eq=False, repr=False)
class Shape:
    """A mesh or streamlines as points, and what writes the same file with other points.

    Args:
        positions_mm: ``(N, 3)`` float64, RAS.
        save: writes the shape with other positions, RAS mm, to a path; the grid is that of the scan they belong to.
        notes: what was assumed in reading it, for people.
    """

    positions_mm: np.ndarray
    save: Callable[[np.ndarray, Path, Grid | None], None]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Shape({len(self.positions_mm)} points in RAS mm)"

    def check_inside(self, grid: Grid, name: str) -> str | None:
        """A note if points lie outside the scan.

        Args:
            grid: of the scan.
            name: what messages call it.

        Raises:
            UserError: most lie outside, and fewer in the other frame.
        """
        inside, flipped = (
            grid.contains(places, MARGIN_VOX).mean() for places in (self.positions_mm, flip_ras_lps(self.positions_mm))
        )
        if inside < 0.5 and flipped > inside:
            raise UserError(
                f"{100 * (1 - inside):.0f} % of the points lie outside {name}, and {100 * (1 - flipped):.0f} % with x "
                "and y negated: LPS taken for RAS, or the reverse; name the frame with --frame"
            )
        return f"{100 * (1 - inside):.3g} % of the points lie outside {name}" if inside < 1 else None


def read_shape(path: str | os.PathLike[str], frame: Frame | None = None) -> Shape:
    """Read the points of a mesh or of streamlines.

    Args:
        path: a file of one of the formats above; its suffix says which.
        frame: of a mesh, instead of what its header says.

    Raises:
        UserError: missing, damaged or unknown file, a frame that the format does not leave open.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    name = path.name.lower()
    if frame == "voxel" or (frame == "lps" and not name.endswith(MESHES)):
        raise UserError(f"{path}: --frame {frame} does not fit; TCK, TRK and GIFTI are RAS mm, meshes RAS or LPS")
    try:
        with quiet_libraries():
            shape = _read(path, frame)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged files make the libraries raise anything
        raise UserError(f"{path}: damaged file of a mesh or of streamlines ({reason_of(error)})") from error
    if not len(shape.positions_mm) or not (np.abs(shape.positions_mm) <= FARTHEST_MM).all():
        raise UserError(f"{path}: holds no points, or coordinates that are no numbers of mm")
    return shape


def _read(path: Path, frame: Frame | None) -> Shape:
    name = path.name.lower()
    if name.endswith(STREAMLINES):
        return _read_streamlines(path)
    return _read_gifti(path) if name.endswith(".gii") else _read_mesh(path, frame)


def frame_in_header(path: Path) -> tuple[Frame, tuple[str, ...]]:
    """The frame of a mesh by its header, LPS if that does not say it, and a note then."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES).decode("latin-1")
    _, said, space = head.partition("SPACE=")
    if said:
        return frame_named(space[:3]), ()
    return "lps", (
        f"{path.name} does not say its frame, so taken as LPS mm; if it is RAS, write SPACE=RAS in its header",
    )


def read_meshio(path: Path) -> Any:
    """A mesh of meshio.

    Raises:
        UserError: meshio is not installed, or cannot read it.
    """
    try:
        import meshio
    except ImportError:
        raise UserError("meshes are read by meshio: pip install 'anamorph[mesh]'") from None
    try:
        return meshio.read(path)
    except (SystemExit, meshio.ReadError) as error:  # meshio ends the program on some damaged files
        raise UserError(f"no mesh that meshio can read: {' '.join(str(error).split())[:100]}") from error


def _read_mesh(path: Path, given: Frame | None) -> Shape:
    frame, notes = (given, ()) if given else frame_in_header(path)
    if notes:
        notes = (f"{path.name} does not say its frame, so taken as LPS mm, as 3D Slicer writes it; --frame ras if not",)
    mesh = VtkPoints.read(path) if path.name.lower().endswith(".vtk") else read_meshio(path)
    if getattr(mesh, "has_normals", False):
        notes = (*notes, f"{path.name}: normals stay as they are; compute them again where they matter")

    def in_frame(positions: np.ndarray) -> np.ndarray:
        return flip_ras_lps(positions) if frame == "lps" else positions

    def save(positions_mm: np.ndarray, target: Path, grid: Grid | None) -> None:
        mesh.points = in_frame(positions_mm).astype(np.asarray(mesh.points).dtype)
        with atomic_path(target) as temporary:
            if isinstance(mesh, VtkPoints):
                mesh.write(temporary)
            else:
                mesh.write(temporary, file_format=path.suffix.lower().lstrip("."))

    return Shape(in_frame(np.asarray(mesh.points, np.float64)), save, notes)


def _read_gifti(path: Path) -> Shape:
    import nibabel

    image: Any = nibabel.load(path)
    arrays = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET") if isinstance(image, nibabel.GiftiImage) else []
    if len(arrays) != 1 or arrays[0].data.shape[1:] != (3,):
        raise UserError(f"{path}: holds no surface, but {len(arrays)} sets of points; give the .surf.gii")
    (points,) = arrays
    offset = [float(points.meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"]
    notes = (
        f"{path.name}: taken as RAS mm of the scan; FreeSurfer counts from the centre of its volume, at "
        f"{offset[0]:g}, {offset[1]:g}, {offset[2]:g} mm, unless written with --to-scanner"
        if any(offset)
        else "",
    )

    def save(positions_mm: np.ndarray, target: Path, grid: Grid | None) -> None:
        points.data = positions_mm.astype(np.float32)
        with atomic_path(target) as temporary:
            temporary.write_bytes(image.to_bytes())

    return Shape(np.asarray(points.data, np.float64), save, tuple(note for note in notes if note))


def _read_streamlines(path: Path) -> Shape:
    from nibabel import streamlines
    from nibabel.streamlines.array_sequence import ArraySequence
    from nibabel.streamlines.tractogram import Tractogram
    from nibabel.streamlines.tractogram_file import HeaderWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = streamlines.load(path)
    notes = tuple(
        f"{path.name}: {' '.join(str(one.message).split())}"
        for one in caught
        if issubclass(one.category, HeaderWarning)
    )
    lines = file.tractogram.streamlines
    if not lines:
        raise UserError(f"{path}: holds no streamlines")
    ends = np.cumsum([len(line) for line in lines])
    trackvis = path.name.lower().endswith(".trk")

    def save(positions_mm: np.ndarray, target: Path, grid: Grid | None) -> None:
        moved = Tractogram(
            ArraySequence(np.split(positions_mm.astype(np.float32), ends[:-1])),
            file.tractogram.data_per_streamline,
            file.tractogram.data_per_point,
            affine_to_rasmm=np.eye(4),
        )
        header = _placed(file.header, grid) if trackvis and grid is not None else file.header
        with atomic_path(target) as temporary:
            type(file)(moved, header).save(str(temporary))

    return Shape(np.concatenate(list(lines)).astype(np.float64), save, notes)


def _placed(header: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """A header of TrackVis that counts in the voxels of a grid."""
    return header | {
        "voxel_to_rasmm": grid.affine.astype(np.float32),
        "voxel_sizes": grid.spacing_mm.astype(np.float32),
        "dimensions": np.array(grid.shape, np.int16),
        "voxel_order": grid.orientation.encode(),
    }
