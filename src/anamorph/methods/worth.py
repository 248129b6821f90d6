"""Whether a deformation is worth having, or a linear start says all that two scans tell."""

from __future__ import annotations

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry import Grid
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.start.search import WEAK_UNLIKE
from anamorph.optimise.velocity import data_term
from anamorph.runtime.device import to_device
from anamorph.transforms import Displacement

LEAST_EXPLAINED = 0.2
"""A start that explains less is not deformed without a guide: between such scans chance leads a deformation astray."""
NOT_DEFORMED = (
    "the scans explain too little of each other to be deformed, so that the result is the linear start alone; "
    "where their headers are right, init=world deforms from there"
)
WEAK_LEFT = 0.6
"""Of the mismatch: a deformation between scans whose start explains little has to leave less."""
ONLY_NOISE = "not deformed: a deformation would explain no more than noise ({left:.2f} of the mismatch is left)"


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
