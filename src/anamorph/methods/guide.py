"""What a segmentation network sees in both scans, to be compared beside their descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.features.mind_ssc import LANES
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.methods.working_frame import Scan
from anamorph.networks.model_folders import find_model
from anamorph.transforms.maps import Transform

Device = Literal["cpu", "cuda"]
OWN = "guide"
"""Folder of the segmentation network inside the model folder of a registration network."""
NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class Guide:
    """The probability of every label, ``(L, I, J, K)`` on the grid of each scan.

    Labels that a network predicts tell apart what looks alike to a descriptor; learned features of this kind led the
    abdominal tasks of Learn2Reg 2021 (Hering et al., IEEE TMI 2023).
    """

    fixed: Scan
    moving: Scan
    model: dict[str, str]

    @classmethod
    def of(cls, name: str, fixed: Image, moving: Image, device: Device, beside: str | None = None) -> Guide | None:
        """Segment both scans.

        Args:
            name: of the model, ``none``, or ``auto`` for the one that came with a registration network, if one did.
            fixed: the fixed scan.
            moving: the moving scan.
            device: ``auto``, ``cpu`` or ``cuda``.
            beside: the registration network.

        Raises:
            UserError: there is no such model, or it was not trained on scans like these.
        """
        found = guide_model(name, beside)
        if found is None:
            return None
        from anamorph.networks.trained import SEGMENT, SegmentationModel

        model = SegmentationModel.load(found, SEGMENT, device)
        if not model.labels:
            raise UserError(f"{found} knows no labels; train one with `anamorph train segment`")
        here, there = (
            Scan(model.probabilities(image)[1:], np.ones(image.grid.shape, np.float32), image.grid)
            for image in (fixed, moving)
        )
        return cls(here, there, model.identity)

    def onto(self, grid: Grid, start: Transform | None) -> tuple[np.ndarray, np.ndarray]:
        """Both on one grid, the moving one under the linear start."""
        return self.fixed.onto(grid).channels, self.moving.onto(grid, start).channels


def guide_model(name: str, beside: str | None = None) -> str | None:
    """The model that guides, by its folder or name; arguments as of :meth:`Guide.of`."""
    if name == NONE:
        return None
    if name != AUTO:
        return name
    if not beside:
        return None
    own = find_model(beside) / OWN
    return str(own) if own.is_dir() else None


def guide_bytes(name: str, fixed: Grid, moving: Grid, described: Grid, beside: str | None = None) -> int:
    """Peak memory that a guide adds to a registration.

    Args:
        name: of the model, as in :meth:`Guide.of`.
        fixed: grid of the fixed scan.
        moving: grid of the moving scan.
        described: grid of the descriptors.
        beside: the registration network.
    """
    found = guide_model(name, beside)
    if found is None:
        return 0
    from anamorph.networks.trained import SEGMENT, SegmentationModel

    model = SegmentationModel.describe(found, SEGMENT)
    blocks = -(-len(model.labels) // LANES)
    # Two descriptors, one warped and two planar, as in the pyramid's own count.
    lanes = 4 * int(np.prod(described.shape)) * 5 * LANES * blocks
    return model.peak_memory_bytes(fixed) + model.peak_memory_bytes(moving) + lanes
