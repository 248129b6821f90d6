"""Seconds that the stages of a registration take on one core, foreseen from grids and settings.

The constants are those of an AMD EPYC with AVX-512; a registration usually takes half to twice as long.
"""

from __future__ import annotations

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.refinement import RefinementConfig
from anamorph.methods.start.settings import AS_NAMED, StartConfig

START_S = 0.4
"""Of a search for the linear start, whatever the size of the scans; several times as long where no start is clear."""
DESCRIBED_S = 1.5e-7
"""Per voxel on which both scans are described."""
COMPARED_S = 2.8e-8
"""Per cell and displacement of a search in both directions."""
REFINED_S = 5e-8
"""Per compared voxel and iteration."""
FINISHED_S = 6e-7
"""Per compared voxel, of the uncertainty and of both directions."""
NETWORK_S = 2e-9
"""Per byte that networks are foreseen to hold, and what they see where that is compared too."""


def start_seconds(config: StartConfig) -> float:
    """Seconds of the linear start."""
    return 0.0 if config.init in (*AS_NAMED, "frame") else START_S


def deformation_seconds(config: RefinementConfig, fixed: Grid, moving: Grid) -> float:
    """Seconds of all after the linear start, where the fixed scan is the one in whose frame the field is."""
    pyramid = config.pyramid(fixed)
    refined = sum(
        iterations * np.prod(pyramid.level(scale).grid.shape)
        for scale, iterations in zip(config.refine_scales, config.refine_iterations, strict=True)
    )
    described = DESCRIBED_S * np.prod(pyramid.working.shape) + FINISHED_S * np.prod(pyramid.base.shape)
    compared = COMPARED_S * config.compared(pyramid)
    seen = NETWORK_S * config.seen_bytes(pyramid.base, fixed, moving)
    return float(seen + described + compared + REFINED_S * refined)
