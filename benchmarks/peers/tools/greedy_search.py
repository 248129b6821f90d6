"""Greedy from the best of a thousand random poses around aligned image centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import greedy

START = f"{greedy.CENTRES} -search 1000 any 20"  # any rotation, shifts of 20 mm


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found from the best pose."""
    return greedy.register(job, start=START)
