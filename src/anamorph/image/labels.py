"""A segmentation: one integer per voxel."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image


class Labels(Image):
    """A label map with its place in the world; 0 is background.

    Args:
        data: ``(I, J, K)`` or ``(1, I, J, K)``, whole numbers (a float file with whole values is accepted).
        grid: where the voxels are.
        name: what messages and reports call it.

    Raises:
        UserError: the values are not whole numbers or there is more than one channel.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels != 1:
            raise UserError(f"{self.name}: a label map has one channel, this has {self.channels}")
        if self.data.dtype.kind == "f":
            if not np.isfinite(self.data).all() or (self.data != np.rint(self.data)).any():
                raise UserError(f"{self.name}: labels must be whole numbers; is this an image rather than a label map?")
            object.__setattr__(self, "data", self.data.astype(np.int32))

    def present(self) -> list[int]:
        """The labels that occur, without background, in ascending order."""
        return [int(v) for v in np.unique(self.data) if v != 0]
