"""PNG, JPEG, BMP and their like, whose grey values have no physical size, and TIFF, which may say one."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import RAS_TO_LPS, flip_affine_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import native
from anamorph.image.bounds import check_regular_file, check_values
from anamorph.image.convert import GREY_REMEDY, MM_PER_UNIT, itk_path
from anamorph.image.image import Image
from anamorph.image.quiet import quiet_itk, quiet_libraries

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".jp2", ".j2k")
_ALPHA_REMEDY = "flatten it first, for example with `convert in.png -alpha off out.png`"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_COLOURS = {2: "RGB", 3: "palette", 6: "RGB and alpha"}
_PNG_GREY, _PNG_GREY_ALPHA = 0, 4


def read_picture(path: Path, name: str) -> Image:
    """Read a grey picture as a plane of 1 mm pixels; an alpha channel that is the same everywhere is dropped.

    Raises:
        UserError: a pipe, a trap, colour of any depth, alpha that varies.
        Exception: what the libraries raise on damaged files.
    """
    import SimpleITK as sitk

    check_regular_file(path)
    png = _png_header(path)
    if png is not None and png[2] in _PNG_COLOURS:
        raise UserError(f"{name}: colour voxels ({_PNG_COLOURS[png[2]]}, {png[3]} bit); {GREY_REMEDY}")
    if png is not None and has_alpha(path):
        values = _without_alpha(path, png, name)
    else:
        _refuse_cut_jpeg(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        with quiet_itk():
            reader.ReadImageInformation()
            if reader.GetNumberOfComponents() != 1:
                raise UserError(f"{name}: colour voxels ({reader.GetNumberOfComponents()} channels); {GREY_REMEDY}")
            width, height = reader.GetSize()[:2]
            check_values(name, width * height * 2, path.stat().st_size)
            values = sitk.GetArrayFromImage(reader.Execute())
    plane: Any = values.reshape(values.shape[-2:])
    rows, columns = plane.shape
    return Image(np.ascontiguousarray(plane.T)[:, :, None], Grid((columns, rows, 1), RAS_TO_LPS), name)


def picture_notes(path: Path) -> list[str]:
    """What was assumed of a picture: always the size of its pixels."""
    notes = ["a picture has no voxel size: pixels of 1 mm are assumed"]
    return [*notes, "its alpha channel is the same everywhere and is dropped"] if has_alpha(path) else notes


def grey_of_alpha(channels: np.ndarray, name: str) -> np.ndarray:
    """The grey values of ``(2, ...)`` grey and alpha, as one channel, where alpha says nothing.

    Raises:
        UserError: alpha differs between voxels.
    """
    grey, alpha = channels
    if alpha.size and (alpha != alpha.flat[0]).any():
        raise UserError(f"{name}: grey values with an alpha channel that varies; {_ALPHA_REMEDY}")
    return grey[None]


def has_alpha(path: Path) -> bool:
    """True for a PNG of grey values with an alpha channel, or with one value that stands for transparency."""
    png = _png_header(path)
    if png is None:
        return False
    return png[2] == _PNG_GREY_ALPHA or (png[2] == _PNG_GREY and b"tRNS" in png[4])


def _without_alpha(path: Path, png: tuple[int, int, int, int, bytes], name: str) -> np.ndarray:
    from PIL import Image as Picture

    width, height, kind, depth, _ = png
    check_values(name, width * height * 4, path.stat().st_size)
    if depth == 16 and kind == _PNG_GREY_ALPHA:  # Pillow would cut the values to 8 bit
        raise UserError(f"{name}: 16 bit grey values with an alpha channel; {_ALPHA_REMEDY}")
    with quiet_libraries(), Picture.open(path) as picture:
        values = np.asarray(picture)
    if values.ndim == 2:
        return values
    return grey_of_alpha(np.moveaxis(values, -1, 0), name)[0]


def _refuse_cut_jpeg(path: Path) -> None:
    """See that a JPEG file has an end: ITK makes grey of what is missing."""
    with path.open("rb") as file:
        if file.read(2) != _JPEG_START:
            return
        file.seek(max(path.stat().st_size - (1 << 16), 0))
        if _JPEG_END not in file.read():
            raise UserError(f"{path}: cannot be read as an image (the file ends before its pixels do); is it complete?")


def _png_header(path: Path) -> tuple[int, int, int, int, bytes] | None:
    """Width, height, colour type, bits and the chunks before the pixels of a PNG file; None for others."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.startswith(_PNG_MAGIC) or len(start) < 33:
        return None
    width, height, depth, kind = struct.unpack(">IIBB", start[16:26])
    return width, height, kind, depth, start.split(b"IDAT")[0]


TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm")
MOST_PAGES = 20_000
_PRINT_DPI = (72, 75, 96, 100, 120, 150, 200, 240, 250, 300, 350, 360, 400, 600, 720, 1200, 2400)
_MM_PER_RESOLUTION_UNIT = {2: 25.4, 3: 10.0}
_ALPHA = (1, 2)  # values of the tag ExtraSamples
_COLOURS = {2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}


def read_tiff(path: Path, name: str) -> Image:
    """Read the one image of a TIFF file; pages become slices.

    Raises:
        UserError: a pipe, a trap, colour, several images, time points, varying alpha.
        Exception: what tifffile raises on damaged files.
    """
    with _opened(path) as file:
        page = file.pages.first
        colour = _COLOURS.get(int(page.photometric or 0))
        if colour:
            bits = f", {page.bitspersample} bit" if page.bitspersample else ""
            raise UserError(f"{name}: colour voxels ({colour}{bits}); {GREY_REMEDY}")
        series = _only_series(file, name)
        stored = np.dtype(series.dtype)
        check_values(name, math.prod(series.shape) * stored.itemsize, path.stat().st_size)
        order = _order(series.axes, name)
        values = _values(series, path)
        spacing, _ = _spacing(file)
    volume = values.reshape(series.shape).transpose([series.axes.index(axis) for axis in order if axis])
    volume = volume[tuple(slice(None) if axis else None for axis in order)]
    if volume.shape[0] == 2 and page.extrasamples and int(page.extrasamples[-1]) in _ALPHA:
        volume = grey_of_alpha(volume, name)
    affine = np.diag([*spacing, 1.0])
    _, i, j, k = volume.shape
    return Image(native(volume), Grid((i, j, k), flip_affine_ras_lps(affine)), name)


def tiff_notes(path: Path) -> list[str]:
    """Where the voxel size comes from if it was converted or assumed, and whether alpha was dropped."""
    with _opened(path) as file:
        notes = _spacing(file)[1]
        page = file.pages.first
        if page.extrasamples and int(page.extrasamples[-1]) in _ALPHA and page.samplesperpixel == 2:
            notes.append("its alpha channel is the same everywhere and is dropped")
        return notes


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import tifffile

    check_regular_file(path)
    # A file may name others to be read with it, which would be any files of the machine: only its own pages count.
    with quiet_libraries(), tifffile.TiffFile(path, _multifile=False) as file:
        file.is_mmstack = file.is_ndtiff = False
        if len(file.pages) > MOST_PAGES:
            raise UserError(f"{path}: a TIFF of {len(file.pages)} pages; save it as NIfTI or NRRD")
        if _chain_is_cut(file):
            raise UserError(f"{path}: cannot be read as an image (the list of its pages is cut off); is it complete?")
        yield file


def _chain_is_cut(file: Any) -> bool:
    """True if the last page found names a next one: tifffile leaves out what it cannot find."""
    place = file.pages.next_page_offset
    if not place:
        return False
    file.filehandle.seek(place)
    return any(file.filehandle.read(file.tiff.offsetsize))


def _only_series(file: Any, name: str) -> Any:
    if len(file.series) != 1:
        shapes = "; ".join(" x ".join(map(str, one.shape)) for one in file.series[:5])
        raise UserError(f"{name}: {len(file.series)} images in one TIFF ({shapes}); save the one to use by itself")
    return file.series[0]


def _order(axes: str, name: str) -> list[str]:
    """The file's axes that become channel, i, j and k; empty where it has none.

    Raises:
        UserError: there are more axes, such as time.
    """
    channels = [axis for axis in axes if axis in "CS"]
    slices = [axis for axis in axes if axis not in "CSXY"]
    depth = "Z" if "Z" in slices else "".join(slices) if slices in (["I"], ["Q"]) else ""
    if len(channels) > 1 or len(slices) > (1 if depth else 0) or not {"X", "Y"} <= set(axes):
        raise UserError(f"{name}: a TIFF with the axes {axes}; save one of its volumes first, for example with Fiji")
    return ["".join(channels), "X", "Y", depth]


def _values(series: Any, path: Path) -> np.ndarray:
    """The values of a series; by ITK, which brings more decoders along, where tifffile lacks one.

    Raises:
        UserError: the file ends before its voxels do (tifffile makes zeros of what is missing), or no decoder fits.
    """
    size = path.stat().st_size
    for page in filter(None, series.pages):
        if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
            raise UserError(f"{path}: cannot be read as an image (the file ends before its voxels do); is it complete?")
    try:
        return np.asarray(series.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    import SimpleITK as sitk

    with quiet_itk():
        values = sitk.GetArrayFromImage(sitk.ReadImage(itk_path(path)))
    if values.size != math.prod(series.shape):
        raise UserError(f"{path}: its compression ({series.keyframe.compression.name}) cannot be read; save it without")
    return values.reshape(series.shape)


def _spacing(file: Any) -> tuple[tuple[float, float, float], list[str]]:
    """Voxel size in mm along x, y, z, and what was assumed or converted to find it."""
    page = file.pages.first
    for source, found in (("OME", _ome(file)), ("ImageJ", _imagej(file, page)), ("LSM", _lsm(file))):
        if found is not None:
            return _completed(found[0], f"the voxel size is that of the {source} tags, in {found[1]}: converted to mm")
    unit = _MM_PER_RESOLUTION_UNIT.get(int(page.resolutionunit or 0))
    pixels = [_rational(page, tag) for tag in ("XResolution", "YResolution")]
    if unit is None or not all(pixels):
        return (1.0, 1.0, 1.0), ["the file gives no voxel size: voxels of 1 mm are assumed"]
    dpi = pixels[0] * 25.4 / unit
    if any(abs(dpi - known) < 0.005 * known for known in _PRINT_DPI):
        note = f"its resolution of {dpi:.0f} dpi is one of prints and screens: voxels of 1 mm are assumed"
        return (1.0, 1.0, 1.0), [note]
    x, y = (unit / value for value in pixels)
    return _completed((x, y, None), "the voxel size is that of the resolution tags: converted to mm")


def _completed(sizes: tuple[float | None, ...], note: str) -> tuple[tuple[float, float, float], list[str]]:
    """Missing or impossible sizes, taken from the other axes."""
    known = [size if size is not None and math.isfinite(size) and size > 0 else None for size in sizes]
    spare = next((size for size in known if size is not None), None)
    if spare is None:
        return (1.0, 1.0, 1.0), ["the file gives no voxel size: voxels of 1 mm are assumed"]
    x, y, z = (spare if size is None else size for size in known)
    missing = ", ".join(axis for axis, size in zip("xyz", known, strict=True) if size is None)
    more = [f"the file gives no voxel size along {missing}: {spare:.4g} mm is assumed"] if missing else []
    return (x, y, z), [note, *more]


def _ome(file: Any) -> tuple[tuple[float | None, ...], str] | None:
    found = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", file.ome_metadata or "") if file.is_ome else None
    if found is None:
        return None
    told = dict(re.findall(r'\b(PhysicalSize[XYZ](?:Unit)?)\s*=\s*["\']([^"\']*)["\']', found[0]))
    units = [told.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "XYZ"]
    factors = [MM_PER_UNIT.get(_plain(unit)) for unit in units]
    sizes = [_number(told.get(f"PhysicalSize{axis}", "")) for axis in "XYZ"]
    lengths = [s * f if s is not None and f is not None else None for s, f in zip(sizes, factors, strict=True)]
    return (tuple(lengths), units[0]) if any(lengths) else None


def _imagej(file: Any, page: Any) -> tuple[tuple[float | None, ...], str] | None:
    told: dict[str, Any] = file.imagej_metadata or next(iter(file.shaped_metadata or ()), {})
    unit = _plain(str(told.get("unit", "")))
    mm = MM_PER_UNIT.get(unit)
    if mm is None:
        return None
    pixels = [_rational(page, tag) for tag in ("XResolution", "YResolution")]
    depth = _number(told.get("spacing", 1.0 if file.is_imagej else ""))  # ImageJ leaves out a spacing of one unit
    x, y = (mm / value if value else None for value in pixels)
    return (x, y, None if depth is None else abs(depth) * mm), unit


def _lsm(file: Any) -> tuple[tuple[float | None, ...], str] | None:
    told = file.lsm_metadata if file.is_lsm else None
    if not told:
        return None
    sizes = [_number(told.get(f"VoxelSize{axis}")) for axis in "XYZ"]
    return tuple(None if size is None else size * MM_PER_UNIT["m"] for size in sizes), "m"


def _plain(unit: str) -> str:
    return unit.replace("\\u00B5", "\u00b5").strip().lower()


def _number(value: Any) -> float | None:
    try:
        return float(value or "nan")
    except (TypeError, ValueError):
        return None


def _rational(page: Any, tag: str) -> float:
    """Pixels per unit; 0 where there is no such tag or it makes no sense."""
    value: Any = page.tags[tag].value if tag in page.tags else 0
    try:
        number = value[0] / value[1] if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
