"""This project's ``deeds`` with the settings and conventions of the published program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job
from . import anamorph


def register(job: Job) -> NDArray[np.float32]:
    """Return the displacement found by ``deeds`` with ``compatible=true`` and defaults otherwise."""
    return anamorph.register(job, method="deeds", preset="default", settings={"compatible": True})
