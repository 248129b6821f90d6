"""A scan: voxel values on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Voxel values with their place in the world.

    Args:
        data: ``(C, I, J, K)`` in NIfTI index order, any real dtype (kept when the image is warped and written).
            ``(I, J, K)`` is taken as one channel.
        grid: where the voxels are; ``grid.shape`` must be the last three axes of ``data``.
        name: what messages and reports call it, usually the file name.

    Raises:
        UserError: the shape of the data is not the shape of the grid, or the values are not real numbers.
    """

    data: np.ndarray
    grid: Grid
    name: str = "image"

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim == 3:
            data = data[None]
        if data.ndim != 4 or data.shape[1:] != self.grid.shape:
            raise UserError(f"{self.name}: data of shape {data.shape} does not fit {self.grid!r}")
        if data.dtype.kind not in "buif":
            raise UserError(f"{self.name}: voxels of type {data.dtype} are not real numbers; convert the file first")
        object.__setattr__(self, "data", data)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.data.shape[0]

    def cropped(self, box: tuple[slice, slice, slice]) -> Self:
        """The voxels of a box of indices, where they are."""
        return type(self)(self.data[(slice(None), *box)], self.grid.cropped(box), self.name)

    def with_data(self, data: np.ndarray) -> Image:
        """The same grid and name with other values."""
        return type(self)(data, self.grid, self.name)


class Mask(Image):
    """Weights in [0, 1] on a grid: where a scan takes part in the registration."""
