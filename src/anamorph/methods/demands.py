"""What the tissue of two scans asks of the refinement, on its control grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.image.pieces import Piece
from anamorph.methods.tissue import NOTHING_KNOWN, Tissue
from anamorph.optimise.pulls import Pulls, RigidPull, VolumePull
from anamorph.optimise.sliding import Surface
from anamorph.transforms.inversion import affine_part
from anamorph.transforms.maps import Affine, Reading, Transform

FITTED_POINTS = 200
"""More of a piece tell nothing new of a rigid motion."""


@dataclass(frozen=True, eq=False)
class Demands:
    """What the tissue of two scans asks of a velocity field in the frame of one of them.

    Args:
        here: tissue of the scan in whose frame the field is.
        there: tissue of the other scan.
        start: linear map from this scan to the other.
        whole: the start as it is given, which may bend.
    """

    here: Tissue
    there: Tissue
    start: Affine
    whole: Transform

    @classmethod
    def of(cls, tissues: tuple[Tissue, Tissue], start: Transform, frame: Grid) -> Demands | None:
        """The demands of two scans, or None where nothing is known of them; of a start that bends the linear part."""
        if tissues == (NOTHING_KNOWN, NOTHING_KNOWN):
            return None
        linear = start
        if not isinstance(linear, Affine):
            linear = Affine(frame.affine @ affine_part(start, frame) @ np.linalg.inv(frame.affine))
        return cls(*tissues, linear, start)

    def pulls(self, control: Grid) -> Pulls | None:
        """The demands of pieces on a control grid; None if there are no pieces."""
        here, there = control.affine, self.start.matrix @ control.affine
        # The linear start changes volumes too, and the whole map is to keep them.
        divergence = -float(np.log(abs(np.linalg.det(self.start.matrix[:3, :3]))))
        rigid, volume = [], []
        for tissue, start, is_forward in ((self.here, Affine.identity(), True), (self.there, self.start, False)):
            to_source, to_target = (here, there) if is_forward else (there, here)
            back = start.inverse()
            for kept in tissue.rigid:
                for piece in kept.pieces:
                    places = control.world_to_voxel(back.map_world(piece.centres_mm))
                    cover = _cover(places, piece, to_source, control.shape)
                    rigid.append(RigidPull(kept.pull, cover, _some(places), to_source, to_target, is_forward))
            for kept in tissue.volume:
                covers = [
                    _cover(control.world_to_voxel(back.map_world(piece.centres_mm)), piece, to_source, control.shape)
                    for piece in kept.pieces
                ]
                volume.append(VolumePull(kept.pull, np.maximum.reduce(covers), divergence, is_forward))
        return Pulls(rigid, volume) if rigid or volume else None

    @property
    def slides(self) -> bool:
        """Whether there is a surface along which tissue slides."""
        return self.here.sliding is not None or self.there.sliding is not None

    def surface(self, control: Grid, cell: Cell, shape: tuple[int, int, int]) -> Surface | None:
        """The surface along which tissue slides, on a control grid with so many descriptor voxels to a cell."""
        if not self.slides:
            return None
        here, there = self.depths_mm(control)
        finest = np.float32(control.finest_mm)
        return Surface(here if here is None else here / finest, there if there is None else there / finest, cell, shape)

    def depths_mm(self, grid: Grid) -> tuple[np.ndarray | None, np.ndarray | None]:
        """``(I, J, K)`` depth below that surface in both scans, the other one after the start, where it is known."""
        return (
            _read(self.here.sliding, Affine.identity(), grid, None),
            _read(self.there.sliding, self.whole, grid, None),
        )

    def stiffness(self, control: Grid) -> np.ndarray | None:
        """``(I, J, K)`` factors of the diffusion on a control grid: the geometric mean of what both scans say."""
        both = (self.here.stiffness, Affine.identity()), (self.there.stiffness, self.whole)
        read = [np.log(found) for found in (_read(*one, control, 1.0) for one in both) if found is not None]
        return np.exp(np.mean(read, axis=0)).astype(np.float32) if read else None


def _read(image: Image | None, start: Transform, grid: Grid, fill: float | None) -> np.ndarray | None:
    """What is known of a scan on a grid of the leading frame; None where nothing is."""
    if image is None:
        return None
    return Reading.of(image.grid, grid, start).read(image.data.astype(np.float32), fill=fill)[0]


def _some(places: np.ndarray) -> np.ndarray:
    """A few of many places, evenly among them."""
    few = np.linspace(0, len(places) - 1, min(len(places), FITTED_POINTS)).astype(int)
    return places[few]


def _cover(places: np.ndarray, piece: Piece, to_source: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """``(*shape)`` float32: how much of each control cell the voxels of a piece fill, shared out trilinearly."""
    share = piece.volume_mm3 / len(piece.voxels) / abs(np.linalg.det(to_source[:3, :3]))
    low = np.floor(places).astype(int)
    upper = places - low
    cover = np.zeros(shape, np.float64)
    for corner in np.ndindex(2, 2, 2):
        at = np.clip(low + corner, 0, np.array(shape) - 1)
        weight = np.prod(np.where(corner, upper, 1 - upper), axis=1)
        np.add.at(cover, tuple(at.T), share * weight)
    return np.minimum(cover, 1).astype(np.float32)
