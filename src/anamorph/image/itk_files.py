"""NRRD, MetaImage and the other formats of ITK, looked at before ITK opens them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import check_deflated, check_gzip, check_hdf5, check_regular_file, check_values
from anamorph.image.convert import GREY_REMEDY, MM_PER_UNIT, from_simpleitk, itk_path
from anamorph.image.gzip_stream import GZIP_MAGIC
from anamorph.image.image import Image
from anamorph.image.quiet import quiet_itk
from anamorph.image.text_header import NRRD_SUFFIXES, TextHeader, read_text_header

MOST_FILES = 100_000
_PATTERN = re.compile(
    r"(?P<name>[^%]*%0?[0-9]{0,2}d[^%]*?)\s+(?P<first>-?\d+)\s+(?P<last>-?\d+)\s+(?P<step>-?\d+)(\s.*)?"
)


def refuse_data_elsewhere(path: Path) -> None:
    """See that a MetaImage or NRRD file is what it seems, before a library opens it; other files are not looked at.

    Its header has an end and few axes, it names no file above or beside its own folder (such a header could have any
    file of the machine read as voxels), the voxels are in proportion to the files, and compressed ones are whole.

    Raises:
        UserError: one of these does not hold.
        OSError: a file cannot be read.
    """
    header = read_text_header(path)
    if header is None:
        return
    files = [_beside(path, name) for name in _names(path, header)]
    held = [file for file in files if file.exists()]  # a missing one is the reader's to tell
    for file in held:
        check_regular_file(file)
    packed = sum(file.stat().st_size for file in held) if files else path.stat().st_size - header.end
    check_values(path, header.value_bytes, packed)
    if "compresseddata" in header.fields and header.compressed and header.packed_bytes is None:
        raise UserError(f"{path}: compressed voxels without CompressedDataSize in its header; save it again")
    if header.compressed:
        if files:
            unpacked = [check_deflated(file, 0) for file in held]
        else:
            unpacked = [check_deflated(path, header.end, header.packed_bytes)]
        # ITK leaves voxels it finds no values for as memory happens to be.
        if sum(unpacked) < header.value_bytes and held == files:
            raise UserError(f"{path}: its compressed voxels are fewer than its header announces; export it again")


def _names(path: Path, header: TextHeader) -> Iterator[str]:
    """The files of voxels, patterns such as ``slice%03d.raw 1 40 1`` written out."""
    for text in header.files:
        if "%" not in text or not re.search(r"\s-?\d", text):
            yield text
            continue
        found = _PATTERN.fullmatch(text)
        numbers = range(int(found["first"]), int(found["last"]) + 1, int(found["step"]) or 1) if found else range(0)
        if found is None or not 0 < len(numbers) <= MOST_FILES:
            raise UserError(
                f"{path}: cannot be read as an image (its files of voxels are {text[:60]}); save it as one file"
            )
        yield from (found["name"] % n for n in numbers)


def _beside(path: Path, text: str) -> Path:
    written = PureWindowsPath(text)  # knows both kinds of separators
    place = path.parent / text.replace("\x00", "")
    resolved = place.resolve()
    beside = resolved.is_relative_to(path.parent.resolve())
    if written.anchor or ".." in written.parts or (resolved.exists() and not beside):
        raise UserError(f"{path}: its voxels are in {text}, out of its folder; put the two files side by side")
    return place


_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".mnc", ".mnc2")
_COLOUR_KINDS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color")


def read_itk(path: Path, name: str) -> Image:
    """Read a 2D or 3D image by SimpleITK; lengths of NRRD in the units that its header tells.

    Raises:
        UserError: a pipe, a trap, voxels elsewhere, damaged compressed voxels, several volumes, colour.
        RuntimeError: ITK cannot read it.
    """
    image, header = _read(path, name)
    with quiet_itk():
        return _placed(from_simpleitk(image, name), path, header)


def read_itk_frames(path: Path, name: str) -> list[Image]:
    """Read every volume of an image by SimpleITK; errors as of :func:`read_itk`, without that of several volumes."""
    image, header = _read(path, name)
    if image.GetDimension() < 4:
        return [_placed(from_simpleitk(image, name), path, header)]
    frames = [from_simpleitk(image[:, :, :, t], f"{name}, frame {t}") for t in range(image.GetSize()[3])]
    return [_placed(frame, path, header) for frame in frames]


def _read(path: Path, name: str) -> tuple[Any, TextHeader | None]:
    import SimpleITK as sitk

    check_before_itk(path)
    header = read_text_header(path)
    if header is not None and any(kind in _COLOUR_KINDS for kind in header.fields.get("kinds", "").lower().split()):
        raise UserError(f"{name}: colour voxels; {GREY_REMEDY}")
    with quiet_itk():
        return sitk.ReadImage(str(path)), header


def _placed(image: Image, path: Path, header: TextHeader | None) -> Image:
    """An image of ITK in the units of its NRRD header."""
    if header is None or not path.name.lower().endswith(NRRD_SUFFIXES):
        return image
    return Image(image.data, nrrd_grid(image.grid, header), image.name)


def check_before_itk(path: Path) -> None:
    """See that a file is harmless, before ITK reads its voxels.

    Raises:
        UserError: a pipe, a trap, voxels elsewhere, damaged compressed voxels, a path that ITK cannot take.
        OSError, RuntimeError: it cannot be read.
    """
    import SimpleITK as sitk

    check_regular_file(path)
    itk_path(path)
    with path.open("rb") as file:
        magic = file.read(len(_HDF5_MAGIC))
    if magic == _HDF5_MAGIC or path.name.lower().endswith(_HDF5_SUFFIXES):
        check_hdf5(path)
    if magic.startswith(GZIP_MAGIC):
        check_gzip(path)
    refuse_data_elsewhere(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        reader.ReadImageInformation()
    voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    if read_text_header(path) is None:
        check_values(path, voxels * _itemsize(reader.GetPixelID()), path.stat().st_size)


def _itemsize(pixel_id: int) -> int:
    """Bytes of one component of a SimpleITK pixel type; 8 if it is none that arrays can hold."""
    import SimpleITK as sitk

    found = re.search(r"(8|16|32|64)-bit", sitk.GetPixelIDValueAsString(pixel_id))
    return int(found[1]) // 8 if found else 8


def nrrd_grid(grid: Grid, header: TextHeader) -> Grid:
    """The grid as ITK read it, with the units of the header: of the axes of space, else of the voxels' own axes."""
    rows, columns = _units(header)
    affine = grid.affine.copy()
    affine[:3] *= np.array([[MM_PER_UNIT.get(unit, 1.0)] for unit in rows])
    affine[:3, :3] *= [MM_PER_UNIT.get(unit, 1.0) for unit in columns]
    affine[:3, 3] *= [MM_PER_UNIT.get(unit, 1.0) for unit in columns]
    return Grid(grid.shape, affine)


def itk_notes(path: Path) -> list[str]:
    """What was assumed of the place and the size of voxels in a NRRD or MetaImage file, and what was converted."""
    header = read_text_header(path)
    if header is None:
        return []
    if not path.name.lower().endswith(NRRD_SUFFIXES):
        told = {"elementspacing", "elementsize"} & set(header.fields)
        return [] if told else ["the header gives no spacing: voxels of 1 mm are assumed"]
    notes = []
    spacings = header.fields.get("spacings", "").lower().split()
    if "space directions" not in header.fields and not [word for word in spacings if word != "nan"]:
        notes.append("the header gives no spacing: voxels of 1 mm are assumed")
    elif not {"space", "space dimension"} & set(header.fields):
        notes.append("the header gives spacings but no space: position and orientation are guesses")
    elif "space" not in header.fields:
        notes.append("the header names no space: its directions are taken as LPS, as ITK does")
    units = [unit for unit in dict.fromkeys((*_units(header)[0], *_units(header)[1])) if unit and unit != "mm"]
    known = [unit for unit in units if unit in MM_PER_UNIT]
    unknown = [unit for unit in units if unit not in MM_PER_UNIT]
    if known:
        notes.append(f"lengths are given in {' and '.join(known)}: converted to mm")
    if unknown:
        notes.append(f"lengths are given in {' and '.join(unknown)[:60]}, which is no known unit: mm are assumed")
    return notes


def _units(header: TextHeader) -> tuple[list[str], list[str]]:
    """Units of the three axes of space, and of the axes of the voxels if there is no space; empty where none."""
    space = _quoted(header.fields.get("space units", ""))
    own = _quoted(header.fields.get("units", ""))
    if "space directions" in header.fields or space:
        return (space + [""] * 3)[:3], [""] * 3
    kinds = header.fields.get("kinds", "").lower().split()
    if len(kinds) == len(own):
        own = [unit for unit, kind in zip(own, kinds, strict=True) if kind in ("domain", "space", "???", "none")]
    return [""] * 3, (own + [""] * 3)[:3]


def _quoted(text: str) -> list[str]:
    return [word.strip().lower() for word in re.findall(r'"([^"]*)"', text)]
