"""NRRD, MetaImage and the other formats of ITK, looked at before ITK opens them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.bounds import check_hdf5, check_regular_file, check_values
from anamorph.image.compressed import GZIP_MAGIC, check_gzip
from anamorph.image.convert import GREY_REMEDY, MM_PER_UNIT, from_simpleitk, itk_path
from anamorph.image.detached import refuse_data_elsewhere
from anamorph.image.image import Image
from anamorph.image.quiet import quiet_itk
from anamorph.image.text_header import NRRD_SUFFIXES, TextHeader, read_text_header

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".mnc", ".mnc2")
_COLOUR_KINDS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color")


def read_itk(path: Path, name: str) -> Image:
    """Read a 2D or 3D image by SimpleITK; lengths of NRRD in the units that its header tells.

    Raises:
        UserError: a pipe, a trap, voxels elsewhere, damaged compressed voxels, several volumes, colour.
        RuntimeError: ITK cannot read it.
    """
    import SimpleITK as sitk

    check_before_itk(path)
    header = read_text_header(path)
    if header is not None and any(kind in _COLOUR_KINDS for kind in header.fields.get("kinds", "").lower().split()):
        raise UserError(f"{name}: colour voxels; {GREY_REMEDY}")
    with quiet_itk():
        image = from_simpleitk(sitk.ReadImage(str(path)), name)
    if header is None or not path.name.lower().endswith(NRRD_SUFFIXES):
        return image
    return Image(image.data, nrrd_grid(image.grid, header), name)


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
