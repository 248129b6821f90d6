"""A metric: how far the voxels of the fixed scan go on average."""

import numpy as np

from anamorph.evaluation import Gate, Metric, RegisteredPair


def mean_shift_mm(pair: RegisteredPair) -> float:
    """Mean length of the displacement in millimetres."""
    return float(np.linalg.norm(pair.forward.vectors_mm(), axis=0).mean())


SHIFT = Metric(
    name="toy_shift_mm",
    title="Toy shift",
    unit="mm",
    better="lower",
    measure=mean_shift_mm,
    meaning="mean length of the displacement in mm",
    gates=(Gate("toy_shift", "signs of failure", warn=3.0, fail=1000.0),),
)
