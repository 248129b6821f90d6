"""ANTsPy ``SyNRA`` from the best of many poses (``affine_initializer``, which tries starts as ``antsAI`` does)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import antspy_syn


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found from the best pose."""
    return antspy_syn.register(job, search=True)
