"""The conformance suite for methods whose network gives both directions; networks are untrained, one per channel count.

A test module that inherits it has a fixture ``models``: the model folder by number of channels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.testing.conformance import MethodConformance
from kept_starts import KeptStarts


class OnePassConformance(KeptStarts, MethodConformance):
    """What the start, the frames and the refinement do around a network that is the identity."""

    learned = True
    settings: ClassVar[dict[str, Any]] = {"init": "affine", "refine_iterations": (5, 5)}
    quick: ClassVar[dict[str, Any]] = {"init": "world", "refine_iterations": (5, 5)}
    limits_mm: ClassVar[dict[str, float]] = {
        "affine": 2.6,
        "smooth": 4.0,
        "flipped and finer": 4.1,
        "permuted and oblique": 4.1,
        "both sheared": 3.8,
        "odd": 3.5,
        "thick": 2.1,
        "2D": 2.4,
        "two channels": 4.1,
        "padded": 4.1,
        "given start": 4.1,
    }

    def test_empty_scans_give_a_finite_map(self):
        """A network has nothing to go by here, and says so."""
        flat = Image(np.zeros((20, 20, 20), np.float32), Grid((20, 20, 20), np.eye(4)))
        with pytest.raises(UserError, match="nothing to compare"):
            self.run(flat, flat)
