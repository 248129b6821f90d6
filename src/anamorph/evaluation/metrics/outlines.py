from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.metrics.metric import Metric
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair


def outline_distance_mm(here: np.ndarray, there: np.ndarray, transform: Transform) -> float:
    """Mean distance between a mapped curve or surface and its partner, from the points of either to the other.

    Args:
        here: ``(N, 3)`` points of the fixed scan, RAS mm.
        there: ``(M, 3)`` points of the moving scan.
        transform: fixed to moving.
    """
    from scipy.spatial import cKDTree

    mapped = transform.map_world(here)
    ways = (cKDTree(there).query(mapped)[0], cKDTree(mapped).query(there)[0])
    return float(np.mean([distances.mean() for distances in ways]))


def _mean(pair: RegisteredPair) -> float:
    return float(np.mean([outline_distance_mm(*both, pair.fixed_to_moving) for both in pair.outlines]))


DISTANCE = Metric(
    name="outline_distance_mm",
    title="Distance of outlines",
    unit="mm",
    better="lower",
    measure=_mean,
    needs=("outlines",),
    meaning="mean distance in mm between mapped curves and surfaces and their partners, from either to the other",
    digits=2,
    phrase=lambda after: f"outlines {after.mean('outline_distance_mm'):.3g} mm apart",
)
