"""Where the body is in a CT: everything but the air around it."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.averaging import pool_volume
from anamorph.geometry.lengths import patient_mm

BODY_HU = -500.0
"""Above this a CT voxel belongs to the body, the table or the clothes."""
CELL_MM = 8.0
LEAST_TISSUE = 0.03
"""Fraction of tissue from which a cell counts as body."""


def body_mask(values: np.ndarray, grid: Grid, reach_mm: float, above: float = BODY_HU) -> np.ndarray:
    """The body with a margin, air inside it (lungs, bowel) included.

    Air is outside when it is connected to the border of the scan at the sides, front or back; the head and foot ends do
    not count, since they cut through the lungs.

    Args:
        values: ``(I, J, K)``.
        grid: of the scan.
        reach_mm: margin, in which the outline is still information.
        above: a voxel of more belongs to the body; as it stands for Hounsfield units.

    Lengths are those of a patient, and in proportion for a scan of another size.

    Returns:
        ``(I, J, K)`` bool, in cells of about 8 mm.
    """
    from scipy.ndimage import label, maximum_filter

    spacing = grid.spacing_mm / patient_mm(grid)
    cell = tuple(int(c) for c in np.clip(np.rint(CELL_MM / spacing), 1, grid.shape))
    tissue = pool_volume((values > above)[None].astype(np.float32), cell)[0] > LEAST_TISSUE  # type: ignore[arg-type]
    regions, _ = label(~tissue)
    lateral = [a for a in range(3) if grid.shape[a] > 1 and a != int(np.abs(grid.directions[2]).argmax())]
    ends = [regions.take(end, axis=a).ravel() for a in lateral for end in (0, -1)]
    if not ends:
        return np.ones(grid.shape, bool)
    inside = ~np.isin(regions, np.setdiff1d(np.concatenate(ends), 0))
    reach = np.maximum(np.rint(reach_mm / (spacing * cell)), 1).astype(int)
    near = maximum_filter(inside, 2 * reach + 1, mode="constant")
    for axis, size in enumerate(cell):
        near = near.repeat(size, axis=axis).take(np.arange(grid.shape[axis]), axis=axis)
    return near
