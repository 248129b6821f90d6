"""Images and landmarks to files."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anamorph.errors import RegistrationFailure, UserError
from anamorph.image.atomic import atomic_path
from anamorph.image.image import Image
from anamorph.image.point_files import write_points

__all__ = ["save_nifti", "world_code", "write_image", "write_points"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
SCANNER = 1
"""NIfTI's code of coordinates of the scanner."""


def write_image(image: Image, path: str | os.PathLike[str], world: int = SCANNER) -> None:
    """Write an image with its dtype: NIfTI (sform and qform set), NRRD or MetaImage, by the suffix.

    Args:
        image: channels become vector components.
        path: ends in .nii.gz, .nii, .nrrd or .mha; replaced only once the new file is complete.
        world: code of NIfTI for the world that the image lies in (scanner, MNI), see :func:`world_code`.

    Raises:
        UserError: unknown suffix, an unwritable folder, or a sheared grid in a format that cannot hold it.
        RegistrationFailure: the disk is full.
    """
    name = Path(path).name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        from anamorph.image.convert import to_nibabel

        save_nifti(to_nibabel(image, world), path)
    elif name.endswith(ITK_SUFFIXES):
        import SimpleITK as sitk

        from anamorph.image.convert import itk_path, to_simpleitk

        itk_path(Path(path).absolute())
        converted = to_simpleitk(image)
        with atomic_path(path) as temporary:
            try:
                sitk.WriteImage(converted, str(temporary), useCompression=True)
            except RuntimeError as error:  # ITK says no more than "could not write" when the disk is full
                raise RegistrationFailure(f"cannot write {path}; is the disk full?") from error
    else:
        raise UserError(f"cannot write {Path(path).name}: choose {', '.join((*NIFTI_SUFFIXES, *ITK_SUFFIXES))}")


def save_nifti(nifti: Any, path: str | os.PathLike[str]) -> None:
    """Write a nibabel image so that the file appears only when it is complete."""
    with atomic_path(path) as temporary:
        if nifti.get_data_dtype().kind == "f" and Path(path).name.lower().endswith(".gz"):
            with _gzip_for_floats(temporary) as stream:
                nifti.to_stream(stream)
        else:
            nifti.to_filename(temporary)


@contextmanager
def _gzip_for_floats(path: Path) -> Iterator[gzip.GzipFile]:
    """A gzip file without the search for repeated strings: mantissas hold none, so 4 times faster, as small.

    It holds neither a time nor its (temporary) name, so equal images make equal files.
    """
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream:
        stream.compress = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        yield stream


def world_code(source: Any) -> int:
    """NIfTI's code of the world that the header of a NIfTI file speaks of; that of the scanner for any other source.

    Results are written with the code of their scan: ask when the scan is read, for later it may be gone.
    """
    if not (isinstance(source, (str, os.PathLike)) and Path(source).name.lower().endswith(NIFTI_SUFFIXES)):
        return SCANNER
    from anamorph.image.nibabel_files import opened

    with opened(Path(source)) as image:
        return int(image.header["sform_code"]) or int(image.header["qform_code"]) or SCANNER
