"""Things of one scan brought to another: images, labels, points and meshes, each the way it is moved."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.label_like import is_label_map
from anamorph.image.points import Points
from anamorph.image.read import needs_scan, read_image, read_labels, read_points
from anamorph.image.shape_files import SHAPES
from anamorph.image.types import ImageLike, MeshLike, PointMesh, VertexMesh
from anamorph.transforms.maps import PointFrame, Transform

Kind = Literal["image", "labels", "points", "shape"]
Direction = Literal["moving_to_fixed", "fixed_to_moving"]
POINT_SUFFIXES = (".csv", ".tsv", ".fcsv", ".mrk.json", ".txt", ".pts")
MeshT = TypeVar("MeshT", bound=MeshLike)

log = logging.getLogger(__name__)


def kind_of(source: str | Path) -> tuple[Kind, str]:
    """What a file holds, and how that was seen: points and shapes by the suffix, labels by their constant pieces.

    Raises:
        UserError: the file cannot be read.
    """
    from anamorph.image.segments import read_segments

    if str(source).lower().endswith(POINT_SUFFIXES):
        return "points", "its suffix"
    if str(source).lower().endswith(SHAPES):
        return "shape", "its suffix"
    if not Path(source).is_dir() and needs_scan(source):
        return "labels", "contours or segments of DICOM"
    if read_segments(Path(source)) or is_label_map(read_image(source)):
        return "labels", "constant pieces of whole values"
    return "image", "no constant pieces of whole values"


@dataclass(frozen=True)
class Carrier:
    """Brings things from a source scan to a target scan.

    Args:
        pull: maps points of the target scan to points of the source scan, and so pulls images of the source scan.
        push: maps points of the source scan to points of the target scan.
        source: grid of the source scan.
        target: grid of the target scan.
        background: value where the source scan has no voxel; ``"auto"`` is CT air for CT, else the image's minimum.
    """

    pull: Transform
    push: Transform
    source: Grid
    target: Grid
    background: float | Literal["auto"] = "auto"

    def image(self, image: Image) -> Image:
        """An image, a mask or a label map of the source scan on the grid of the target scan."""
        if isinstance(image, Labels):
            return self.pull.warp_labels(image, self.target)
        if isinstance(image, Mask):
            return Mask(self.pull.warp_image(image, self.target, background=0).data, self.target, image.name)
        return self.pull.warp_image(image, self.target, self.background)

    def positions(self, positions_mm: np.ndarray, frame: PointFrame = "ras") -> np.ndarray:
        """``(N, 3)`` positions of the source scan, in the target scan.

        Raises:
            UserError: they are no table of three columns.
        """
        given = np.asarray(positions_mm, np.float64)
        if given.ndim != 2 or given.shape[1] != 3:
            raise UserError(f"points must be an (N, 3) table of millimetres, not an array of shape {given.shape}")
        ras = flip_ras_lps(given) if frame == "lps" else given
        outside = int((~self.source.contains(ras, 1.5)).sum())
        if outside:
            log.warning(
                "%d of %d points lie outside the scan they belong to, where the transform goes on as at its border; "
                "check that they are in mm and in the frame '%s'",
                outside,
                len(ras),
                frame,
            )
        mapped = self.push.map_world(ras)
        return flip_ras_lps(mapped) if frame == "lps" else mapped

    def points(self, points: Points) -> Points:
        """Landmarks of the source scan, in the target scan."""
        return Points(self.positions(points.positions_mm), points.labels)

    def mesh(self, mesh: MeshT, frame: PointFrame = "ras") -> MeshT:
        """A copy of a mesh of the source scan whose vertices lie in the target scan."""
        name = "vertices" if hasattr(mesh, "vertices") else "points"
        moved = mesh.copy() if hasattr(mesh, "copy") else copy.deepcopy(mesh)
        setattr(moved, name, self.positions(getattr(mesh, name), frame))
        return moved

    def anything(
        self,
        thing: ImageLike | Points | np.ndarray | MeshLike,
        kind: Kind | Literal["auto"] = "auto",
        frame: PointFrame = "ras",
    ) -> Image | Points | np.ndarray | MeshLike:
        """Whatever of these a thing is; a file and the image of another package are read first.

        Raises:
            UserError: the thing is none of them, or cannot be read.
        """
        if isinstance(thing, Image) and kind == "auto":
            return self.image(thing)
        if isinstance(thing, Points):
            return self.points(thing)
        if isinstance(thing, (list, tuple, np.ndarray)):
            return self.positions(np.asarray(thing), frame)
        if isinstance(thing, (VertexMesh, PointMesh)):
            return self.mesh(thing, frame)
        if kind == "auto":
            kind = kind_of(thing)[0] if isinstance(thing, (str, Path)) else self._kind_of_image(thing)
        if kind == "shape":
            raise UserError(f"{thing}: anamorph apply moves files of meshes and streamlines; give the mesh itself")
        if kind == "points":
            assert isinstance(thing, (str, Path))
            return self.points(read_points(thing, grid=self.source))
        return self.image(read_labels(thing) if kind == "labels" else read_image(thing))

    @staticmethod
    def _kind_of_image(thing: ImageLike) -> Kind:
        return "labels" if is_label_map(read_image(thing)) else "image"
