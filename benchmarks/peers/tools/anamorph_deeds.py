"""This project's ``deeds`` with its automatic preset, on the files as they are, without masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import anamorph


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found by ``deeds``."""
    return anamorph.register(job, method="deeds")
