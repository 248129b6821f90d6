"""A segmentation: one integer per voxel."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image

_RANGE = np.iinfo(np.int64)


class Labels(Image):
    """A label map with its place in the world; 0 is background.

    Args:
        data: ``(I, J, K)`` or ``(1, I, J, K)``, whole numbers; floats with whole values become 32-bit integers, or
            64-bit ones if an id asks for it.
        grid: where the voxels are.
        name: what messages and reports call it.

    Raises:
        UserError: the values are not whole numbers, do not fit into 64 bits, or there is more than one channel.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels != 1:
            raise UserError(f"{self.name}: a label map has one channel, this has {self.channels}")
        object.__setattr__(self, "data", _whole_numbers(self.data, self.name))

    def present(self) -> list[int]:
        """The labels that occur, without background, in ascending order."""
        found: set[int] = set()
        for part in self.data[0]:
            found.update(np.unique(part).tolist())
        return sorted(int(name) for name in found if name)


def _whole_numbers(data: np.ndarray, name: str) -> np.ndarray:
    """The same values as integers that all of them fit into: 32 bits, or 64 for ids beyond 2^31.

    Raises:
        UserError: some are fractions, not finite, or beyond 64 bits.
    """
    kind = data.dtype.kind
    if kind in "bi" or (kind == "u" and data.dtype.itemsize < 8):
        return data
    if kind == "f" and not all((np.isfinite(part) & (part == np.rint(part))).all() for part in data[0]):
        raise UserError(f"{name}: labels must be whole numbers; is this an image rather than a label map?")
    lowest, highest = int(data.min()), int(data.max())
    if not (_RANGE.min <= lowest and highest <= _RANGE.max):
        raise UserError(
            f"{name}: labels from {lowest} to {highest} do not fit into 64 bits; give its labels smaller numbers"
        )
    small = np.iinfo(np.int32).min <= lowest and highest <= np.iinfo(np.int32).max
    return data.astype(np.int32 if small and kind == "f" else np.int64)
