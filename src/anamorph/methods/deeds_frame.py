"""What the search of deeds works on: two scans on one grid, and how to read the moving one anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anamorph.features.intensity import comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.deeds_config import DeedsConfig
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan, body_weight
from anamorph.transforms import Affine, Composite, Displacement, Transform

AIR_REACH_MM = 10.0
"""Air this close to the body counts: its outline is information."""


@dataclass(frozen=True)
class DeedsFrame:
    """Both scans and the start.

    ``fixed`` and ``moving_there`` (the moving scan under the linear start) are on the working grid. Warping always
    begins with ``moving``, which ``start`` maps to; ``placed`` leads on from there to the user's moving scan. A
    displacement u of a fixed voxel p leads to ``start(p + turn u)``: ``turn`` is the identity, or the inverse of the
    start's linear part, which makes ``start(p) + u`` of it.
    """

    fixed: Scan
    moving: Scan
    moving_there: Scan
    start: Transform
    levels: tuple[DeedsLevel, ...]
    placed: Transform = field(default_factory=Affine.identity)
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))
    trace: list[float] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        """The working grid."""
        return self.fixed.grid

    def displacement(self, disp_vox: np.ndarray, control: Grid) -> Displacement:
        """A field ``(3, *cells)`` in working voxels as a displacement in the fixed frame."""
        scale = (control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return Displacement(disp_vox / scale[:, None, None, None], control)

    def forward(self, disp_vox: np.ndarray, control: Grid) -> Transform:
        """Fixed points to moving points."""
        turned = (self.turn.astype(np.float32) @ disp_vox.reshape(3, -1)).reshape(disp_vox.shape)
        return Composite.of(self.displacement(turned, control), self.start)

    def on_level(self, disp_vox: np.ndarray, control: Grid, level: DeedsLevel) -> np.ndarray:
        """A field in working voxels brought to the control grid of another level."""
        field_there = self.displacement(disp_vox, control).displacement_on(level.control).disp_vox
        scale = (level.control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return field_there * scale[:, None, None, None]


def centred_frame(
    config: DeedsConfig,
    fixed: Image,
    moving: Image,
    fixed_mask: Mask | None,
    moving_mask: Mask | None,
    init: Transform | None,
) -> DeedsFrame:
    """Our own start and conventions: prepared intensities, any grids, weights for what is body."""
    fixed_scan, moving_scan = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
    start: Transform
    if init is None:
        found, kind = linear_start(fixed_scan, moving_scan, config.init)
        start, trace, steps = found.transform, found.costs, found.steps
    else:
        kind = comparable_intensities(fixed, moving)
        start, trace, steps = init, [], []
    working = config.working_grid(fixed.grid)
    sides = []
    for scan, transform in ((fixed_scan, None), (moving_scan, start)):
        read = scan.onto(working, transform)
        sides.append(Scan(read.channels, body_weight(read, kind == "ct", AIR_REACH_MM, config.air_weight), working))
    return DeedsFrame(sides[0], moving_scan, sides[1], start, config.levels(working), trace=trace, steps=steps)
