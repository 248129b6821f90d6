"""``largest_shift_mm``: how far the map moves any voxel."""

import numpy as np

from anamorph.evaluation import Metric


def largest_shift_mm(pair):
    return float(np.linalg.norm(pair.forward.vectors_mm(), axis=0).max())


LARGEST_SHIFT = Metric(
    name="largest_shift_mm",
    title="Largest shift",
    unit="mm",
    better="lower",
    measure=largest_shift_mm,
    meaning="how far the map moves any voxel of the fixed scan",
)
