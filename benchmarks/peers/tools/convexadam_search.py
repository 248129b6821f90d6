"""ConvexAdam after Greedy's affine from the best of its random poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import convexadam, greedy_search


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found from the best pose."""
    return convexadam.register(job, start=greedy_search.START)
