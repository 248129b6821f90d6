"""This project with the masks of the pair list handed to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import anamorph


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found with both masks."""
    return anamorph.register(job, masked=True)
