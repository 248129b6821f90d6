"""Images of other packages become :class:`Image` and back; the only place that knows their conventions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps
from anamorph.geometry.grid import NEGLIGIBLE_SHEAR_VOX, Grid
from anamorph.geometry.sampling import native
from anamorph.image.atomic import escaped
from anamorph.image.image import Image

if TYPE_CHECKING:
    import SimpleITK as sitk
    import torch

    from anamorph.image.types import AntsImage, ArrayLike, ItkImage, TensorImage

MM_PER_UNIT = {
    "nm": 1e-6, "nanometer": 1e-6, "nanometre": 1e-6,
    "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "\\u00b5m": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "micrometre": 1e-3,
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "m": 1e3, "meter": 1e3, "metre": 1e3,
    "in": 25.4, "inch": 25.4, "inches": 25.4, "\u00c5": 1e-7, "angstrom": 1e-7, "pm": 1e-9, "dm": 100.0, "km": 1e6,
}  # fmt: skip
"""Millimetres in one unit of length, by the names that headers use."""
GREY_REMEDY = "convert it to grey values first, for example with ITK-SNAP or 3D Slicer"


SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
"""By the names that nibabel gives to units of time."""


def series_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int, int, int]:
    """``(I, J, K, T, C)`` of a file's array shape ``(i, j[, k[, t[, c]]])``.

    Raises:
        UserError: fewer than two axes, more than five, or an axis without voxels.
    """
    if 0 in shape or len(shape) < 2:
        raise UserError(f"{name}: the image is empty (shape {shape}); export it again")
    i, j, k, t, c, *more = (*shape, 1, 1, 1, 1)[: max(5, len(shape))]
    if any(n > 1 for n in more):
        raise UserError(f"{name}: an image of {len(shape)} axes (shape {shape}); extract one volume first")
    return i, j, k, t, c


def spatial_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int, int]:
    """``(I, J, K, C)`` of a file's array shape ``(i, j[, k[, t[, c]]])``.

    Raises:
        UserError: there is more than one time point, fewer than two axes, or an axis without voxels.
    """
    i, j, k, t, c = series_shape(shape, name)
    if t > 1:
        raise UserError(
            f"{name}: 4D: {t} volumes; extract one volume first, for example "
            "`nibabel.load(path).slicer[..., 0].to_filename('volume0.nii.gz')`, or register all to one with "
            "`anamorph series`"
        )
    return i, j, k, c


def nibabel_grid(image: Any, name: str) -> Grid:
    """The grid of a nibabel image in millimetres: its sform if set, else its qform, else its voxel sizes.

    Raises:
        UserError: the header holds no usable affine, or there is more than one time point.
    """
    spatial_shape(image.shape, name)
    return _frame_grid(image, name)


def _frame_grid(image: Any, name: str) -> Grid:
    """The grid of every time point of a nibabel image."""
    affine = np.array(image.affine, np.float64)
    header = image.header
    if hasattr(header, "get_qform") and not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0):
        qform = header.get_qform(coded=True)[0]
        affine = affine if qform is None else qform
    if hasattr(header, "get_xyzt_units"):
        affine[:3] *= MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    i, j, k, _, _ = series_shape(image.shape, name)
    try:
        return Grid((i, j, k), affine)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def from_nibabel(image: Any, name: str = "image") -> Image:
    """An image of any nibabel type; values keep their type unless the header scales them (then float32).

    Raises:
        UserError: 4D, colour or complex voxels, or an unusable affine.
    """
    spatial_shape(image.shape, name)
    return frames_of_nibabel(image, name)[0]


def frames_of_nibabel(image: Any, name: str = "image") -> list[Image]:
    """Every time point of an image of any nibabel type.

    Raises:
        UserError: colour or complex voxels, or an unusable affine.
    """
    grid = _frame_grid(image, name)
    _, _, _, count, channels = series_shape(image.shape, name)
    proxy = image.dataobj
    kind = np.dtype(proxy.dtype).kind
    if kind == "V":
        raise UserError(f"{name}: colour (RGB) voxels; {GREY_REMEDY}")
    if kind == "c":
        raise UserError(f"{name}: complex voxels are not real numbers; take the magnitude first")
    slope, inter = getattr(proxy, "slope", 1.0), getattr(proxy, "inter", 0.0)
    data = np.asarray(proxy.get_unscaled() if hasattr(proxy, "get_unscaled") else proxy)
    frames: list[Image] = []
    for volume in np.moveaxis(data.reshape(*grid.shape, count, channels, order="F"), 3, 0):
        values = native(np.moveaxis(volume, 3, 0))
        if (slope, inter) != (1.0, 0.0):
            values = values.astype(np.float32)
            with np.errstate(all="ignore"):  # what overflows is infinite, and refused as that
                values *= np.float32(slope)
                values += np.float32(inter)
        frames.append(Image(values, grid, name if count == 1 else f"{name}, frame {len(frames)}"))
    return frames


def nibabel_frame_s(image: Any) -> float | None:
    """Seconds between the time points of a nibabel image; None if its header gives no unit of time."""
    header = image.header
    if not hasattr(header, "get_xyzt_units") or len(image.shape) < 4:
        return None
    seconds = float(header.get_zooms()[3]) * SECONDS_PER_UNIT.get(header.get_xyzt_units()[1], 0.0)
    return seconds if seconds > 0 else None


def itk_path(path: Path) -> str:
    """A path as ITK takes it, which ends the process at one that is not UTF-8.

    Raises:
        UserError: it is not UTF-8.
    """
    text = str(path)
    if escaped(text) != text:
        raise UserError(f"{escaped(text)}: its path is not UTF-8, which ITK needs; rename it, or use NIfTI")
    return text


def simpleitk_grid(image: sitk.Image) -> Grid:
    """The grid of a 2D or 3D SimpleITK image, LPS turned into RAS; a 2D image gets a third axis of one voxel."""
    n = image.GetDimension()
    return itk_grid(image.GetSize(), np.reshape(image.GetDirection(), (n, n)), image.GetSpacing(), image.GetOrigin())


def itk_grid(
    size: Sequence[int], directions: np.ndarray, spacing: Sequence[float], origin_lps: Sequence[float]
) -> Grid:
    """The grid of 2D or 3D geometry as ITK keeps it, LPS turned into RAS; 2D gets a third axis of one voxel.

    Args:
        size: voxels along i, j[, k].
        directions: ``(n, n)`` unit vectors of the axes in LPS, as columns.
        spacing: millimetres along i, j[, k].
        origin_lps: position of the first voxel.
    """
    n = len(size)
    affine = np.eye(4)
    affine[:n, :n] = np.asarray(directions, np.float64) * np.asarray(spacing, np.float64)
    affine[:n, 3] = origin_lps
    i, j, k = (*size, 1)[:3]
    return Grid((i, j, k), flip_affine_ras_lps(affine))


def from_simpleitk(image: sitk.Image, name: str = "image") -> Image:
    """An image of a SimpleITK one: 2D, 3D, or 4D with a single volume; components become channels.

    Raises:
        UserError: several volumes, colour or complex voxels.
    """
    import SimpleITK as sitk

    if image.GetDimension() > 3:
        spatial_shape(image.GetSize(), name)
        image = image[:, :, :, 0]
    if "complex" in image.GetPixelIDTypeAsString():
        raise UserError(f"{name}: complex voxels; take the magnitude first")
    channels = image.GetNumberOfComponentsPerPixel()
    if channels in (3, 4) and image.GetPixelID() == sitk.sitkVectorUInt8:
        raise UserError(f"{name}: colour (RGB) voxels; {GREY_REMEDY}")
    spatial_shape(image.GetSize(), name)
    grid = simpleitk_grid(image)
    data = sitk.GetArrayViewFromImage(image).reshape(*grid.shape[::-1], channels)
    return Image(native(data.transpose(3, 2, 1, 0)), grid, name)


def from_itk(image: ItkImage, name: str = "image") -> Image:
    """An image of ITK itself: 2D or 3D; components become channels.

    Raises:
        UserError: more axes, or complex voxels.
    """
    n = image.GetImageDimension()
    values = np.asarray(image)
    if values.ndim == 0:  # ITK's vector images show no array of themselves
        import itk  # type: ignore[import-not-found]  # loaded already, or there would be no such image

        values = np.asarray(itk.array_from_image(image))
    channels = image.GetNumberOfComponentsPerPixel()
    size = values.shape[n - 1 :: -1]
    spatial_shape(size, name)
    grid = itk_grid(size, np.asarray(image.GetDirection()), [*image.GetSpacing()], [*image.GetOrigin()])
    return Image(native(values.reshape(*grid.shape[::-1], channels).transpose(3, 2, 1, 0)), grid, name)


def from_ants(image: AntsImage, name: str = "image") -> Image:
    """An image of ANTs: 2D or 3D; components become channels.

    Raises:
        UserError: a time series.
    """
    values = np.asarray(image.numpy())
    channels = image.components
    size = values.shape[:-1] if channels > 1 else values.shape
    spatial_shape(size, name)
    grid = itk_grid(size, np.asarray(image.direction), image.spacing, image.origin)
    return Image(native(np.moveaxis(values.reshape(*grid.shape, channels), 3, 0)), grid, name)


def from_torchio(image: TensorImage, name: str = "image") -> Image:
    """An image of TorchIO, or a tensor of MONAI that holds its affine: ``(C, I, J, K)`` values, RAS millimetres."""
    values = array_of(image.data)
    affine = array_of(image.affine)
    i, j, k = values.shape[-3:]
    return Image(values, Grid((i, j, k), affine), name)


def array_of(values: ArrayLike) -> np.ndarray:
    """An array, or a tensor brought to NumPy."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.detach().cpu().numpy())


def to_tensor(image: Image) -> torch.Tensor:
    """``(C, I, J, K)`` values as a tensor of PyTorch, which shares their memory where it knows their type."""
    import torch

    data = image.data
    if data.dtype.kind == "u" and data.dtype.itemsize > 1:  # PyTorch can hardly compute with these
        data = data.astype(np.int32 if data.dtype.itemsize == 2 else np.int64)
    data = np.ascontiguousarray(data, data.dtype.newbyteorder("="))
    return torch.from_numpy(data if data.flags.writeable else data.copy())


def to_nibabel(image: Image, code: int = 1) -> Any:
    """A NIfTI-1 image with the values' own type, sform and qform set; a qform is left out where shear matters.

    Args:
        image: channels go to the fifth axis, as ITK reads vectors.
        code: what the world is: 1 scanner, 2 aligned, 4 MNI.
    """
    import nibabel

    data = image.data
    if data.dtype.kind == "b" or data.dtype == np.float16:
        data = data.astype(np.uint8 if data.dtype.kind == "b" else np.float32)
    volume = data[0] if image.channels == 1 else np.moveaxis(data, 0, -1)[:, :, :, None]
    out = nibabel.Nifti1Image(volume, image.grid.affine, dtype=data.dtype)
    if image.channels > 1:
        out.header.set_intent(1007)
    place(out, image.grid, code)
    return out


def place(nifti: Any, grid: Grid, code: int = 1) -> None:
    """Write a grid into the header of a nibabel NIfTI image.

    A qform holds no shear, and ITK reads no sform with shear: where it hardly matters, the qform is the nearest grid at
    right angles, so that ITK reads the file; elsewhere there is none.
    """
    nifti.set_sform(grid.affine, code)
    itk_reads = not grid.is_sheared or grid.shear_vox < NEGLIGIBLE_SHEAR_VOX
    nifti.set_qform(grid.nearest_orthogonal().affine if grid.is_sheared else grid.affine, code if itk_reads else 0)
    nifti.header.set_xyzt_units("mm")


def to_simpleitk(image: Image) -> sitk.Image:
    """A 3D SimpleITK image.

    Raises:
        UserError: the grid is sheared by more than a tenth of a voxel at its corners.
    """
    import SimpleITK as sitk

    grid = image.grid.nearest_orthogonal() if image.grid.is_sheared else image.grid
    if image.grid.is_sheared and image.grid.shear_vox >= NEGLIGIBLE_SHEAR_VOX:
        raise UserError(f"{image.name}: a sheared grid fits only into NIfTI; write .nii.gz instead")
    data = image.data.astype(np.uint8) if image.data.dtype.kind == "b" else image.data
    reverse = data.transpose(3, 2, 1, 0)
    out = sitk.GetImageFromArray(reverse[..., 0] if image.channels == 1 else reverse, isVector=image.channels > 1)
    affine = flip_affine_ras_lps(grid.affine)
    out.SetSpacing(grid.spacing_mm.tolist())
    out.SetOrigin(affine[:3, 3].tolist())
    out.SetDirection((affine[:3, :3] / grid.spacing_mm).ravel().tolist())
    return out
