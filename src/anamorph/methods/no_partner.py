"""What one scan shows and the other does not: resections, contrast in the bowel, ablation zones, ports and pads.

After a first, coarse refinement each scan is compared with what the field has brought to it. A value has a partner if
one like it lies within a few millimetres; by how far it lies outside the range of the values there, the smooth field
cannot explain it. Where that is much beside the contrast of tissue, and beside what the rest of the pair differs by,
over a piece of some size, the piece has no partner. What the field leads into such a piece has none either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.features.mind_ssc import ENTRIES, LANES
from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.methods.descriptors import DescribedPair
from anamorph.runtime.device import to_numpy

REACH_MM = 12.0
"""A partner lies at most so far from its place along each axis."""
CONTRAST = 0.1
"""A value without one lies so far outside the range there, in parts of that of the scan; of CT in 400 HU."""
NOISE = 3.0
"""And by so many standard deviations of what the pair differs by."""
DARK = 0.1
"""Where neither scan is brighter there is no tissue to measure that on."""
LEAST_ML = 4.0
"""A smaller piece may as well be a place that was not found well."""
HALF, PLATEAU = 0.5, 0.75
"""The outline of a piece is where it differs by half of this quantile of itself."""
NOT_LOOKED_FOR = (
    "what has no partner was not looked for: the intensities of these scans do not compare; "
    "give masks with --no-partner and --moving-no-partner"
)
MAD = 1.4826
"""Standard deviations of a normal distribution in a median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Unmatched:
    """What has no partner, ``(I, J, K)`` float32 on one grid, the moving scan under the linear start: 1, else 0."""

    fixed: np.ndarray
    moving: np.ndarray

    def spread(self, onward: np.ndarray, back: np.ndarray) -> Unmatched:
        """The same with what a field leads into what has no partner in the other scan.

        Args:
            onward: ``(3, I, J, K)`` from fixed to moving, in voxels.
            back: the other direction.
        """
        fixed = np.maximum(self.fixed, _pulled(self.moving, onward) > 0.5)
        return Unmatched(fixed, np.maximum(self.moving, _pulled(self.fixed, back) > 0.5))

    def widened(self) -> Unmatched:
        """The same with a rim of one voxel, whose patches reach into it."""
        from scipy.ndimage import binary_dilation

        fixed, moving = (binary_dilation(part > 0).astype(np.float32) for part in (self.fixed, self.moving))
        return Unmatched(fixed, moving)


def find_unmatched(
    pair: DescribedPair, grid: Grid, onward: np.ndarray, back: np.ndarray, channels: int, scale: float
) -> Unmatched | None:
    """Look for what has no partner, in both directions; None where everything has one.

    Args:
        pair: both scans, described with their intensities.
        grid: of the descriptors.
        onward: ``(3, I, J, K)`` from fixed to moving, in voxels.
        back: the other direction.
        channels: of each scan.
        scale: what the intensities in the descriptors were multiplied by.
    """
    lanes = range(ENTRIES, LANES * channels, LANES)
    fixed, moving = (np.stack([to_numpy(side[..., n]) for n in lanes]) / scale for side in (pair.fixed, pair.moving))
    counted = to_numpy(pair.fixed_weight) > 0.5, to_numpy(pair.moving_weight) > 0.5
    here, there = _alone(fixed, moving, counted, onward, grid), _alone(moving, fixed, counted[::-1], back, grid)
    return Unmatched(here.astype(np.float32), there.astype(np.float32)) if here.any() or there.any() else None


def _pulled(mask: np.ndarray, disp_vox: np.ndarray) -> np.ndarray:
    """A mask read where a field leads; 0 outside."""
    positions = identity_positions(mask.shape) + disp_vox
    return sample(mask[None].astype(np.float32), positions, fill=0.0)[0]


def _alone(
    here: np.ndarray, there: np.ndarray, counted: tuple[np.ndarray, np.ndarray], disp_vox: np.ndarray, grid: Grid
) -> np.ndarray:
    """Where the intensities ``(C, I, J, K)`` of one scan have no partner in those that a field brings to them."""
    from scipy.ndimage import find_objects, label, maximum_filter, minimum_filter

    compared = counted[0] & (_pulled(counted[1], disp_vox) > 0.5)
    found = np.zeros(grid.shape, bool)
    if not compared.any():
        return found
    brought = sample(there, identity_positions(grid.shape) + disp_vox)
    i, j, k = (int(n > 1) for n in grid.shape)
    here, there = np.split(box_smooth(np.concatenate([here, brought]), (i, j, k)), 2)
    spacing = grid.spacing_mm / patient_mm(grid)
    window = [2 * max(round(REACH_MM / s), 1) + 1 if n > 1 else 1 for s, n in zip(spacing, grid.shape, strict=True)]
    beyond = np.zeros(grid.shape, np.float32)
    for one, other in zip(here, there, strict=True):
        outside = np.maximum(one - maximum_filter(other, window), minimum_filter(other, window) - one)
        np.maximum(beyond, outside, out=beyond)
    tissue = compared & (np.maximum(here, there).max(axis=0) > DARK)
    apart = np.abs(here - there).max(axis=0)[tissue if tissue.any() else compared]
    parts, _ = label(compared & (beyond > max(CONTRAST, NOISE * MAD * float(np.median(apart)))), np.ones((3, 3, 3)))
    for number, box in enumerate(find_objects(parts), 1):
        piece = parts[box] == number
        # Smoothing makes a piece wider the more it differs, so its outline is not where it begins to differ.
        piece &= beyond[box] > HALF * np.quantile(beyond[box][piece], PLATEAU)
        if np.count_nonzero(piece) * np.prod(spacing) / 1000 >= LEAST_ML:
            found[box] |= piece
    return found
