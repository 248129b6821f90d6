"""What the tissue of two scans and their marks ask of the refinement, on its control grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.image.pieces import Piece
from anamorph.methods.tissue import NOTHING_KNOWN, RIGID_PULL, VOLUME_PULL, Tissue
from anamorph.optimise.pulls import MarkPull, Pulls, RigidPull, VolumePull, shared_out
from anamorph.optimise.sliding import Surface
from anamorph.transforms.inversion import affine_part
from anamorph.transforms.maps import Affine, Reading, Transform
from anamorph.transforms.marks import Marks

MARK_PULL = 2.0
"""Of marks in the refinement: distances of one standard deviation weigh about as much as what descriptors tell."""
FITTED_POINTS = 200
"""More of a piece tell nothing new of a rigid motion."""


@dataclass(frozen=True, eq=False)
class Demands:
    """What the tissue of two scans and their marks ask of a velocity field in the frame of one of them.

    Args:
        here: tissue of the scan in whose frame the field is.
        there: tissue of the other scan.
        start: linear map from this scan to the other.
        whole: the start as it is given, which may bend.
        marks: with the places of the other scan brought to this frame.
    """

    here: Tissue
    there: Tissue
    start: Affine
    whole: Transform
    marks: Marks | None = None

    @classmethod
    def of(
        cls, tissues: tuple[Tissue, Tissue], start: Transform, frame: Grid, marks: Marks | None = None
    ) -> Demands | None:
        """The demands of two scans, or None where nothing is known of them; of a start that bends the linear part."""
        if tissues == (NOTHING_KNOWN, NOTHING_KNOWN) and marks is None:
            return None
        linear = start
        if not isinstance(linear, Affine):
            linear = Affine(frame.affine @ affine_part(start, frame) @ np.linalg.inv(frame.affine))
        return cls(*tissues, linear, start, marks)

    def pulls(self, control: Grid) -> Pulls | None:
        """The demands of pieces and marks on a control grid; None if there are none."""
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
                    rigid.append(
                        RigidPull(kept.pull(RIGID_PULL), cover, _some(places), to_source, to_target, is_forward)
                    )
            for kept in tissue.volume:
                covers = [
                    _cover(control.world_to_voxel(back.map_world(piece.centres_mm)), piece, to_source, control.shape)
                    for piece in kept.pieces
                ]
                volume.append(VolumePull(kept.pull(VOLUME_PULL), np.maximum.reduce(covers), divergence, is_forward))
        marks = None if self.marks is None else MarkPull(MARK_PULL, self.marks, control)
        return Pulls(rigid, volume, marks) if rigid or volume or marks else None

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
    cover = shared_out(places, np.full((len(places), 1), share), shape)[0]
    return np.minimum(cover, np.float32(1))
