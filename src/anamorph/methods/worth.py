"""Whether a deformation is worth having, or a linear start says all that two scans tell."""

from __future__ import annotations

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry import Grid
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.start.search import WEAK_UNLIKE
from anamorph.methods.working_frame import Scan
from anamorph.optimise.velocity import data_term
from anamorph.runtime.device import to_device
from anamorph.transforms import Composite, Displacement, Transform

LEAST_EXPLAINED = 0.2
"""A start that explains less is not deformed without a guide: between such scans chance leads a deformation astray."""
NOT_DEFORMED = (
    "the scans explain too little of each other to be deformed, so that the result is the linear start alone; "
    "where their headers are right, init=world deforms from there"
)
WEAK_LEFT = 0.6
"""Of the mismatch: a deformation between scans whose start explains little has to leave less."""
ONLY_NOISE = "not deformed: a deformation would explain no more than noise ({left:.2f} of the mismatch is left)"
LEAST_REMOVED = 0.3
"""Of what the intensities of one scan leave open about the other, a deformation has to settle this share."""
NOTHING_LEFT = (
    "not deformed: after the start, a deformation would explain nothing ({left:.2f} of the differences are left)"
)
FEWEST_VOXELS = 20_000
"""In smaller scans too few voxels tell what a deformation explains."""
INTENSITY_BINS = 32


def noise_followed(
    pair: DescribedPair, grid: Grid, deformation: Displacement, explained: float, kind: IntensityKind
) -> str | None:
    """A line for a deformation that follows noise alone, None for one that is worth having.

    Only deformations between scans whose intensities do not compare and whose start explains little are doubted.

    Args:
        pair: both scans after the linear start, described.
        grid: of their descriptors.
        deformation: of the fixed frame.
        explained: by the linear start.
        kind: how the intensities compare.
    """
    if kind != "none" or explained >= WEAK_UNLIKE:
        return None
    left = mismatch_left(pair, deformation.displacement_on(grid).disp_vox.astype(np.float32, copy=False))
    return ONLY_NOISE.format(left=left) if left > WEAK_LEFT else None


def mismatch_left(pair: DescribedPair, disp_vox: np.ndarray) -> float:
    """The mismatch under a field ``(3, I, J, K)`` as a share of the mismatch without one; 1 where there is none."""
    here = disp_vox if isinstance(pair.fixed, np.ndarray) else to_device(disp_vox, pair.fixed.device.type)
    before, after = (data_term(pair.fixed, pair.fixed_weight, pair.moving, u)[0] for u in (0 * here, here))
    return after / before if before > 0 else 1.0


def nothing_left(fixed: Scan, moving: Scan, start: Transform, deformation: Displacement, grid: Grid) -> str | None:
    """A line for a deformation after which the intensities agree no better than after the start, else None.

    Between scans of different people, or of one person who breathes, a deformation that is right settles half of what
    the intensities left open and more; where the start says all, as between two contrasts of one head, what is left is
    noise, and the deformation that the descriptors want fits that.

    Args:
        fixed: prepared scan.
        moving: prepared scan.
        start: of fixed to moving points.
        deformation: of the fixed frame.
        grid: of the fixed frame, on which to compare.
    """
    here, before = fixed.onto(grid), moving.onto(grid, start)
    after = moving.onto(grid, Composite.of(deformation, start))
    inside = (here.weight > 0) & (before.weight > 0) & (after.weight > 0)
    if np.count_nonzero(inside) < FEWEST_VOXELS:
        return None
    shares = []
    for one, two, three in zip(here.channels, before.channels, after.channels, strict=True):
        here_values, others = one[inside], (two[inside], three[inside])
        opens = [unexplained(here_values, other) + unexplained(other, here_values) for other in others]
        shares.append(opens[1] / opens[0] if opens[0] > 0 else 1.0)
    left = float(np.mean(shares))
    return NOTHING_LEFT.format(left=left) if left > 1 - LEAST_REMOVED else None


def unexplained(known: np.ndarray, values: np.ndarray) -> float:
    """The share of the variance of values ``(n,)`` that the known ones leave open, whatever curve relates them.

    One minus the correlation ratio (Roche et al., MICCAI 1998), with bins of equal width.
    """
    low, high = np.quantile(known, (0.005, 0.995))
    scale = INTENSITY_BINS / max(float(high - low), 1e-6)
    bins = np.clip((known - low) * scale, 0, INTENSITY_BINS - 1).astype(np.intp)
    centred = values - values.mean(dtype=np.float64)
    total = float((centred**2).sum())
    if total == 0:
        return 0.0
    counts = np.bincount(bins, minlength=INTENSITY_BINS)
    sums = np.bincount(bins, centred, minlength=INTENSITY_BINS)
    return 1 - float((sums**2 / np.maximum(counts, 1)).sum()) / total
