"""PNG, JPEG, BMP and their like: grey values of one plane, which have no physical size."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import RAS_TO_LPS
from anamorph.image.bounds import check_regular_file, check_values
from anamorph.image.convert import GREY_REMEDY
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
