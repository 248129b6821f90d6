"""Images and landmarks to files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import RegistrationFailure, UserError
from anamorph.geometry.sampling import copy_planes
from anamorph.image.atomic import atomic_path
from anamorph.image.gzip_stream import gzip_writer
from anamorph.image.image import Image
from anamorph.image.point_files import write_points
from anamorph.image.series import ImageSeries

__all__ = ["save_nifti", "world_code", "write_image", "write_points", "write_series"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")
PLANES = 32
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


def write_series(series: ImageSeries, path: str | os.PathLike[str], world: int = SCANNER) -> None:
    """Write a series as one 4D NIfTI file, with the time between frames in the header.

    Args:
        series: frames of one type of voxels; label maps too.
        path: ends in .nii.gz or .nii; replaced only once the new file is complete.
        world: code of NIfTI for the world that the series lies in.

    Raises:
        UserError: another suffix, or an unwritable folder.
        RegistrationFailure: the disk is full.
    """
    import nibabel

    from anamorph.image.convert import place

    if not Path(path).name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"cannot write {Path(path).name} as a series: choose {' or '.join(NIFTI_SUFFIXES)}")
    # The first index runs fastest in the file, so each frame lies together in memory.
    frames = np.stack([np.moveaxis(frame.data, 0, -1) for frame in series.frames]).transpose(1, 2, 3, 0, 4)
    values = frames[..., 0] if frames.shape[4] == 1 else frames
    nifti = nibabel.Nifti1Image(values, series.grid.affine, dtype=values.dtype)
    place(nifti, series.grid, world)
    if series.frame_s is not None:
        nifti.header.set_zooms((*nifti.header.get_zooms()[:3], series.frame_s, *nifti.header.get_zooms()[4:]))
        nifti.header.set_xyzt_units("mm", "sec")
    save_nifti(nifti, path)


def save_nifti(nifti: Any, path: str | os.PathLike[str]) -> None:
    """Write a nibabel image so that the file appears only when it is complete."""
    zipped = Path(path).name.lower().endswith(".gz")
    with atomic_path(path) as temporary, gzip_writer(temporary) if zipped else temporary.open("wb") as stream:
        nifti.update_header()
        nifti.header.set_slope_inter(1, 0)
        nifti.header.write_to(stream)
        for planes in _in_file_order(np.asanyarray(nifti.dataobj), nifti.get_data_dtype()):
            stream.write(planes)


def _in_file_order(values: np.ndarray, dtype: np.dtype) -> Iterator[memoryview]:
    """The bytes of an array, the first index fastest, some planes of the third axis at a time.

    One plane at a time would fetch every cache line of a volume as often as it holds voxels.
    """
    for last in np.ndindex(*values.shape[:2:-1]):
        volume = values[(..., *last[::-1])]
        for first in range(0, volume.shape[2], PLANES):
            planes = volume[:, :, first : first + PLANES].T
            ordered = np.empty(planes.shape, dtype)
            copy_planes(planes, ordered)
            yield ordered.data.cast("B")


def world_code(source: Any) -> int:
    """NIfTI's code of the world that the header of a NIfTI file speaks of; that of the scanner for any other source.

    Results are written with the code of their scan: ask when the scan is read, for later it may be gone.
    """
    if not (isinstance(source, (str, os.PathLike)) and Path(source).name.lower().endswith(NIFTI_SUFFIXES)):
        return SCANNER
    from anamorph.image.nibabel_files import opened

    with opened(Path(source)) as image:
        return int(image.header["sform_code"]) or int(image.header["qform_code"]) or SCANNER
