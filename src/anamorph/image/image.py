"""Scans, masks and label maps: voxel values on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk
    import torch

    from anamorph.image.types import ArrayLike


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """Voxel values with their place in the world.

    Args:
        data: ``(C, I, J, K)`` in NIfTI index order, any real dtype (kept when the image is warped and written).
            ``(I, J, K)`` is taken as one channel.
        grid: where the voxels are; ``grid.shape`` must be the last three axes of ``data``.
        name: what messages and reports call it, usually the file name.
        frame_uid: UID of the DICOM frame of reference, in which positions in mm are meant; empty where it is not known.

    Raises:
        UserError: the shape of the data is not the shape of the grid, or the values are not real numbers.
    """

    data: np.ndarray
    grid: Grid
    name: str = "image"
    frame_uid: str = ""

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim == 3:
            data = data[None]
        if data.ndim != 4 or data.shape[1:] != self.grid.shape:
            raise UserError(f"{self.name}: data of shape {data.shape} does not fit {self.grid!r}")
        if data.dtype.kind not in "buif":
            raise UserError(f"{self.name}: voxels of type {data.dtype} are not real numbers; convert the file first")
        object.__setattr__(self, "data", data)

    def __repr__(self) -> str:
        channels = f"{self.channels} channels of " if self.channels > 1 else ""
        return f"{type(self).__name__}({self.name!r}, {channels}{self.data.dtype}, {self.grid.description})"

    @classmethod
    def from_array(
        cls,
        values: ArrayLike,
        *,
        spacing_mm: float | Sequence[float] | None = None,
        affine: np.ndarray | None = None,
        origin_mm: Sequence[float] | None = None,
        directions: np.ndarray | None = None,
        name: str = "image",
    ) -> Self:
        """Voxel values, of NumPy or PyTorch, placed in the world.

        Args:
            values: ``(I, J, K)``, ``(C, I, J, K)`` or, for one slice, ``(I, J)``.
            spacing_mm: distance between neighbouring voxels along i, j, k; one number if all are alike.
            affine: ``(4, 4)`` from voxel indices to RAS mm, in place of the spacing.
            origin_mm: RAS position of the first voxel; zero by default.
            directions: ``(3, 3)`` unit vectors of the axes in RAS, as columns; see :class:`Grid`.
            name: what messages and reports call the image.

        Raises:
            UserError: neither or both of spacing and affine, or values of another shape.
        """
        from anamorph.image.convert import array_of

        data = array_of(values)
        if data.ndim not in (2, 3, 4):
            raise UserError(f"{name}: voxel values of shape {data.shape}; give (I, J), (I, J, K) or (C, I, J, K)")
        data = data[:, :, None] if data.ndim == 2 else data
        i, j, k = data.shape[-3:]
        grid = Grid((i, j, k), affine, spacing_mm=spacing_mm, origin_mm=origin_mm, directions=directions)
        return cls(data, grid, name)

    def to_nibabel(self) -> Any:
        """A NIfTI-1 image of nibabel; channels go to the fifth axis."""
        from anamorph.image.convert import to_nibabel

        return to_nibabel(self)

    def to_simpleitk(self) -> sitk.Image:
        """A 3D image of SimpleITK; channels become components.

        Raises:
            UserError: the grid is sheared by more than a tenth of a voxel at its corners.
        """
        from anamorph.image.convert import to_simpleitk

        return to_simpleitk(self)

    def to_tensor(self) -> torch.Tensor:
        """``(C, I, J, K)`` values as a tensor of PyTorch, which shares their memory where it can."""
        from anamorph.image.convert import to_tensor

        return to_tensor(self)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.data.shape[0]

    def cropped(self, box: tuple[slice, slice, slice]) -> Self:
        """The voxels of a box of indices, where they are."""
        return type(self)(self.data[(slice(None), *box)], self.grid.cropped(box), self.name, self.frame_uid)

    def with_data(self, data: np.ndarray) -> Image:
        """The same grid and name with other values."""
        return type(self)(data, self.grid, self.name, self.frame_uid)


class Mask(Image):
    """Weights in [0, 1] on a grid: where a scan takes part in the registration."""


_RANGE = np.iinfo(np.int64)


@dataclass(frozen=True)
class Structure:
    """What a label stands for.

    Args:
        label: its value.
        name: that of the organ or target.
        colour: red, green and blue from 0 to 255, where a file says so.
    """

    label: int
    name: str
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Image):
    """A label map with its place in the world; 0 is background.

    Args:
        data: ``(I, J, K)`` or ``(1, I, J, K)``, whole numbers; floats with whole values become 32-bit integers, or
            64-bit ones if an id asks for it.
        grid: where the voxels are.
        name: what messages and reports call it.
        frame_uid: UID of the DICOM frame of reference; empty where it is not known.
        structures: what the labels stand for, where a file names them.
        notes: what was assumed or left out in reading them.

    Raises:
        UserError: the values are not whole numbers, do not fit into 64 bits, or there is more than one channel.
    """

    structures: tuple[Structure, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels != 1:
            raise UserError(f"{self.name}: a label map has one channel, this has {self.channels}")
        object.__setattr__(self, "data", _whole_numbers(self.data, self.name))

    def placed(self, grid: Grid) -> Labels:
        """These labels on another grid of their shape, which differs by rounding for example."""
        return Labels(self.data, grid, self.name, self.frame_uid, self.structures, self.notes)

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
