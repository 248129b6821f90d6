"""Whether a deformation is worth having, or a linear start says all that two scans tell."""

from __future__ import annotations

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry import Grid
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import to_device, to_numpy
from anamorph.methods.start.search import ALIKE
from anamorph.optimise.data_term import data_term
from anamorph.transforms import Displacement

LEAST_EXPLAINED = 0.2
"""A start that explains less is not deformed without a guide: between such scans chance leads a deformation astray."""
NOT_DEFORMED = (
    "the scans explain too little of each other to be deformed, so that the result is the linear start alone; "
    "where their headers are right, init=world deforms from there"
)
NOISE_LEFT = 0.66
"""Of the mismatch after the linear start. On phantoms a deformation that leaves less is closer to the truth than the
start, one that leaves 0.7 to 0.75 is not. A scan and the same scan under a linear map leave 0.66 to 0.9, two contrasts
of one head 0.67 to 0.73, patients, breaths and heart beats 0.28 to 0.67."""
SMALL_VOX = 2.5
"""All but a hundredth of the displacements are smaller where they follow noise (0.7 to 2.2); beats reach 5 to 9.
This holds where the start was made exact, between scans that are alike."""
WEAK_LEFT, WEAK = 0.6, 0.5
"""Where intensities do not compare and the start explains less than the second, a deformation of any size has to leave
less than the first."""
ONLY_NOISE = "not deformed: a deformation would explain no more than noise ({left:.2f} of the mismatch is left)"


def noise_followed(
    pair: DescribedPair, grid: Grid, deformation: Displacement, explained: float, kind: IntensityKind, masked: bool
) -> str | None:
    """A line for a deformation that follows noise alone, None for one that is worth having.

    Args:
        pair: both scans after the linear start, described.
        grid: of their descriptors.
        deformation: of the fixed frame.
        explained: by the linear start.
        kind: how the intensities compare.
        masked: both scans lie on a ground of one value, so that the start was not made exact.
    """
    field = deformation.displacement_on(grid).disp_vox.astype(np.float32, copy=False)
    left = mismatch_left(pair, field)
    counted = to_numpy(pair.fixed_weight) > 0
    size_vox = float(np.quantile(np.linalg.norm(field[:, counted], axis=0), 0.99)) if counted.any() else 0.0
    is_noise = left > NOISE_LEFT and size_vox < SMALL_VOX and explained > ALIKE and not masked
    is_noise |= left > WEAK_LEFT and explained < WEAK and kind == "none"
    return ONLY_NOISE.format(left=left) if is_noise else None


def mismatch_left(pair: DescribedPair, disp_vox: np.ndarray) -> float:
    """The mismatch under a field ``(3, I, J, K)`` as a share of the mismatch without one; 1 where there is none."""
    here = disp_vox if isinstance(pair.fixed, np.ndarray) else to_device(disp_vox, pair.fixed.device.type)
    before, after = (data_term(pair.fixed, pair.fixed_weight, pair.moving, u)[0] for u in (0 * here, here))
    return after / before if before > 0 else 1.0
