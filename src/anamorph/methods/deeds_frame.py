"""What the search of deeds works on: two scans on one grid, and how to read the moving one anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anamorph.geometry import Grid
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.working_frame import Scan, Side
from anamorph.transforms import Affine, Composite, Displacement, Transform


@dataclass(frozen=True)
class DeedsFrame:
    """Both scans and the start.

    ``fixed`` and ``moving`` (under the linear start) are on the working grid. Warping always begins with ``original``,
    which ``start`` maps to; ``placed`` leads on from there to the user's moving scan. A displacement u of a fixed voxel
    p leads to ``start(p + turn u)``: ``turn`` is the identity, or the inverse of the start's linear part, which makes
    ``start(p) + u`` of that scan.
    """

    fixed: Side
    moving: Side
    original: Scan
    start: Transform
    levels: tuple[DeedsLevel, ...]
    placed: Transform = field(default_factory=Affine.identity)
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def grid(self) -> Grid:
        """The working grid."""
        return self.fixed.scan.grid

    def displacement(self, disp_vox: np.ndarray, control: Grid) -> Displacement:
        """A field ``(3, *cells)`` in working voxels as a displacement in the fixed frame."""
        scale = (control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return Displacement(disp_vox / scale[:, None, None, None], control)

    def forward(self, disp_vox: np.ndarray, control: Grid) -> Transform:
        """Fixed points to moving points."""
        turned = (self.turn.astype(np.float32) @ disp_vox.reshape(3, -1)).reshape(disp_vox.shape)
        return Composite.of(self.displacement(turned, control), self.start)

    def warped_moving(self, disp_vox: np.ndarray, control: Grid) -> np.ndarray:
        """The channels of the moving scan, read once from the original, under a field of the fixed frame."""
        return self.original.channels_on(self.grid, self.forward(disp_vox, control))

    def warped_fixed(self, disp_vox: np.ndarray, control: Grid) -> np.ndarray:
        """The channels of the fixed scan under a field of the other direction."""
        return self.fixed.scan.channels_on(self.grid, self.displacement(disp_vox, control))

    def on_level(self, disp_vox: np.ndarray, control: Grid, level: DeedsLevel) -> np.ndarray:
        """A field in working voxels brought to the control grid of another level."""
        field_there = self.displacement(disp_vox, control).displacement_on(level.control).disp_vox
        scale = (level.control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return field_there * scale[:, None, None, None]
