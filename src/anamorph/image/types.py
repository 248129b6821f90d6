"""What is taken for a scan, landmarks or a memory size: the types of the arguments of the Python functions.

The classes of other packages are described by the public attributes that are read, so that none has to be installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from anamorph.image.image import Image
from anamorph.image.points import Points
from anamorph.image.series import ImageSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

PathLike: TypeAlias = str | os.PathLike[str]


@runtime_checkable
class NibabelImage(Protocol):
    """An image of nibabel: RAS millimetres, or the unit of its header."""

    @property
    def dataobj(self) -> Any: ...
    @property
    def affine(self) -> Any: ...
    @property
    def header(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def get_filename(self) -> str | None: ...


@runtime_checkable
class SimpleItkImage(Protocol):
    """An image of SimpleITK: LPS millimetres."""

    def GetPixelIDTypeAsString(self) -> str: ...
    def GetSize(self) -> Sequence[int]: ...
    def GetSpacing(self) -> Sequence[float]: ...
    def GetOrigin(self) -> Sequence[float]: ...
    def GetDirection(self) -> Sequence[float]: ...


@runtime_checkable
class ItkImage(Protocol):
    """An image of ITK itself (``itk.Image``): LPS millimetres, and ``k, j, i`` as an array."""

    def GetImageDimension(self) -> int: ...
    def GetNumberOfComponentsPerPixel(self) -> int: ...
    def GetLargestPossibleRegion(self) -> Any: ...
    def GetSpacing(self) -> Any: ...
    def GetOrigin(self) -> Any: ...
    def GetDirection(self) -> Any: ...


@runtime_checkable
class AntsImage(Protocol):
    """An image of ANTs (``ants.ANTsImage``): LPS millimetres, and ``i, j, k[, channel]`` as an array."""

    @property
    def components(self) -> int: ...
    @property
    def spacing(self) -> Sequence[float]: ...
    @property
    def origin(self) -> Sequence[float]: ...
    @property
    def direction(self) -> Any: ...
    def numpy(self) -> NDArray[Any]: ...


@runtime_checkable
class TensorImage(Protocol):
    """An image of TorchIO, of a Subject for example: ``(C, I, J, K)`` values, and an affine to RAS millimetres."""

    @property
    def data(self) -> Any: ...
    @property
    def affine(self) -> Any: ...


@runtime_checkable
class Tensor(Protocol):
    """A tensor of PyTorch; one with an ``affine``, as those of MONAI, knows its place in the world."""

    def detach(self) -> Any: ...
    def cpu(self) -> Any: ...


@runtime_checkable
class VertexMesh(Protocol):
    """A mesh with ``(N, 3)`` vertices, as those of trimesh."""

    vertices: Any


@runtime_checkable
class PointMesh(Protocol):
    """A mesh with ``(N, 3)`` points, as those of PyVista and meshio."""

    points: Any


MeshLike: TypeAlias = VertexMesh | PointMesh
"""Any object whose vertices can be read and set."""
ImageLike: TypeAlias = PathLike | Image | NibabelImage | SimpleItkImage | ItkImage | AntsImage | TensorImage | Tensor
"""A file, a DICOM folder, or the image of this or another package."""
SeriesLike: TypeAlias = ImageLike | ImageSeries | Sequence[ImageLike]
"""A 4D file or image, a series, or its frames in the order of time."""
PointsLike: TypeAlias = PathLike | Points | np.ndarray | Sequence[Sequence[float]]
"""A file of landmarks, landmarks, or ``(N, 3)`` RAS millimetres."""
ArrayLike: TypeAlias = np.ndarray | Tensor
"""Voxel values without a place in the world."""
