"""No registration: where the pair starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job


def register(job: Job) -> NDArray[np.float32]:
    """Return a zero field."""
    fixed, _ = job.images()
    return np.zeros((*fixed.GetSize(), 3), np.float32)
