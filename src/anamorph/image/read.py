"""Scans, label maps, masks and landmarks from files or from the images of other packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.image import Image, Mask
from anamorph.image.labels import Labels
from anamorph.image.point_files import read_points

__all__ = ["read_grid", "read_image", "read_labels", "read_mask", "read_points"]

Read = TypeVar("Read", Image, Grid)
NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
_NO_SUCH_FILE = "no such file; check the path"


def read_image(source: Any, name: str | None = None) -> Image:
    """Read a scan.

    Args:
        source: a file (NIfTI, MGH, NRRD, MetaImage, or what else SimpleITK reads), a DICOM folder or file
            (``FOLDER::SERIES_UID::echo=2`` chooses a series and a volume), an :class:`Image`, a nibabel or a
            SimpleITK image.
        name: what messages call it; the file name by default.

    Returns:
        Values with the file's dtype (float32 where the header scales them), one channel per vector component.

    Raises:
        UserError: missing, unreadable, 4D, colour, empty, constant, or values that are not finite.
    """
    image = _read(source, name)
    data = image.data
    if data.dtype.kind == "f":
        bad = data.size - np.count_nonzero(np.isfinite(data))
        if bad:
            raise UserError(
                f"{image.name}: {bad} of {data.size} voxels are NaN or infinite; replace them (for example by the "
                "background value) and mask them out"
            )
    if data.min() == data.max():
        raise UserError(f"{image.name}: every voxel has the value {data.flat[0]}; is this the right file?")
    return image


def read_labels(source: Any, name: str | None = None) -> Labels:
    """Read a label map; sources as for :func:`read_image`.

    Raises:
        UserError: unreadable, several channels, values that are not whole numbers, or no label at all.
    """
    image = _read(source, name)
    labels = image if isinstance(image, Labels) else Labels(image.data, image.grid, image.name)
    if not labels.data.any():
        raise UserError(f"{labels.name}: the label map holds background only; is this the right file?")
    return labels


def read_mask(source: Any, name: str | None = None) -> Mask:
    """Read a mask; sources as for :func:`read_image`. A mask of 0 and one other value counts as 0 and 1.

    Raises:
        UserError: unreadable, several channels, empty, or weights outside [0, 1].
    """
    image = _read(source, name)
    if image.channels != 1:
        raise UserError(f"{image.name}: a mask has one channel, this has {image.channels}")
    data, highest = image.data, image.data.max()
    if not highest > 0:
        raise UserError(f"{image.name}: the mask is empty; no voxel would take part")
    if highest > 1 and ((data == 0) | (data == highest)).all():
        data = (data == highest).astype(np.uint8)
    if not (data.min() >= 0 and data.max() <= 1):
        raise UserError(f"{image.name}: mask weights must lie in [0, 1], not {data.min()} to {data.max()}")
    return Mask(data, image.grid, image.name)


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """The grid of a scan; of NIfTI and MGH files the header alone is read.

    Raises:
        UserError: missing or unreadable.
    """
    path = Path(path)
    if not path.is_file() or not path.name.lower().endswith(NIBABEL_SUFFIXES):
        return _read(str(path), None).grid
    import nibabel

    from anamorph.image.convert import nibabel_grid

    return _guarded(lambda: nibabel_grid(nibabel.load(path), path.name), str(path))


def _read(source: Any, name: str | None) -> Image:
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _read_path(str(source), name)
    from anamorph.image.convert import from_nibabel, from_simpleitk

    if hasattr(source, "dataobj") and hasattr(source, "affine"):
        file_name = source.get_filename()
        label = name or (Path(file_name).name if file_name else "image")
        return _guarded(lambda: from_nibabel(source, label), label)
    if hasattr(source, "GetPixelIDTypeAsString"):
        return from_simpleitk(source, name or "image")
    raise UserError(
        f"cannot take an image from a {type(source).__name__}; give a path, an anamorph.Image (array with a Grid), "
        "a nibabel or a SimpleITK image"
    )


def _read_path(source: str, name: str | None) -> Image:
    from anamorph.image.dicom import is_dicom, read_dicom, split_choice

    path, choice = split_choice(source)
    if not path.exists():
        raise UserError(f"{path}: {_NO_SUCH_FILE}")
    label = name or path.name
    if path.is_dir() or is_dicom(path):
        return _guarded(lambda: read_dicom(path, choice, name), str(path))
    if choice:
        raise UserError(f"{source}: '{choice}' chooses from DICOM, which {path.name} is not; name the file alone")
    if path.name.lower().endswith(NIBABEL_SUFFIXES):
        return _guarded(lambda: _read_nibabel(path, label), str(path))
    return _guarded(lambda: _read_simpleitk(path, label), str(path))


def _read_nibabel(path: Path, name: str) -> Image:
    import nibabel

    from anamorph.image.bounds import check_volume
    from anamorph.image.convert import from_nibabel

    image = nibabel.load(path)
    check_volume(image)
    return from_nibabel(image, name)


def _read_simpleitk(path: Path, name: str) -> Image:
    import SimpleITK as sitk

    from anamorph.image.convert import from_simpleitk, itk_path, quiet_itk
    from anamorph.image.detached import refuse_data_elsewhere

    refuse_data_elsewhere(path)
    with quiet_itk():
        return from_simpleitk(sitk.ReadImage(itk_path(path)), name)


def _guarded(read: Callable[[], Read], name: str) -> Read:
    """Run a reader; whatever it stumbles over becomes one line."""
    try:
        return read()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the readers raise anything from zlib.error to RuntimeError on a damaged file
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1][:200] if lines else type(error).__name__
        raise UserError(
            f"{name}: cannot be read as an image ({reason}); is it complete and of a known format?"
        ) from error
