"""This project with its automatic preset but without what a segmentation network sees, on the files as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import anamorph


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found by the images alone."""
    return anamorph.register(job, settings={"guide": "none"})
