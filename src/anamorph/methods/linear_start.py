"""A linear start for any pair: how far the intensities compare is found together with it."""

from __future__ import annotations

import numpy as np

from anamorph.features.descriptor import DescriptorSettings
from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.methods.initialise import Initialisation, InitModel, initialise
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Transform

INTENSITY_WEIGHT = 3.0
"""Of squared intensity differences beside MIND-SSC, where intensities compare."""
LEAST_CORRELATION = 0.2
"""Scaled intensities that correlate less than this after the linear start are of different kinds: not compared."""


def linear_start(
    fixed: Scan, moving: Scan, model: InitModel, intensity_weight: float = INTENSITY_WEIGHT
) -> tuple[Initialisation, IntensityKind]:
    """Find a linear map of fixed points to moving points without any assumption on the scans.

    Args:
        fixed: prepared fixed scan.
        moving: prepared moving scan.
        model: translation, rigid or affine; ``"none"`` trusts the world coordinates of the files.
        intensity_weight: of intensities beside MIND-SSC.

    Returns:
        the start, and how the intensities compare after it.
    """
    settings = DescriptorSettings(1, 1, intensity_weight)
    kind = comparable_intensities(fixed.image, moving.image)
    found = initialise(fixed, moving, kind, model, settings)
    if comparable_after(fixed, moving, found.transform, kind) != kind:
        kind = "none"
        found = initialise(fixed, moving, kind, model, settings)
    return found, kind


def comparable_after(fixed: Scan, moving: Scan, transform: Transform, kind: IntensityKind) -> IntensityKind:
    """How far the intensities compare under a transform: scaled ones that do not correlate are not compared."""
    return "none" if kind == "scaled" and _correlation(fixed, moving, transform) < LEAST_CORRELATION else kind


def _correlation(fixed: Scan, moving: Scan, transform: Transform) -> float:
    """Correlation of the intensities over the overlap, on a coarse grid."""
    grid = fixed.grid.resampled(
        np.maximum(np.array(fixed.grid.shape) * fixed.grid.spacing_mm / 48, fixed.grid.spacing_mm)
    )
    here, there = fixed.onto(grid), moving.onto(grid, transform)
    both = (here.weight > 0.5) & (there.weight > 0.5)
    if both.sum() < 16:
        return 0.0
    a, b = here.channels[0][both], there.channels[0][both]
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
