"""DICOM series folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.convert import from_simpleitk, quiet_itk
from anamorph.image.image import Image

SEPARATOR = "::"
_SERIES_DESCRIPTION, _POSITION = "0008|103e", "0020|0032"
# A step may differ by this share of the mean step before slices count as missing.
_UNEVEN = 0.1


def split_series(path: str) -> tuple[Path, str | None]:
    """``FOLDER::SERIES_UID`` as folder and series, or the path alone."""
    folder, separator, series = path.rpartition(SEPARATOR)
    return (Path(folder), series) if separator and Path(folder).is_dir() else (Path(path), None)


def read_dicom(folder: Path, series: str | None = None, name: str | None = None) -> Image:
    """Read one series of a folder; a tilted gantry gives a sheared grid.

    Args:
        folder: holds the files of one or several series.
        series: its UID; needed when there are several.
        name: of the image; the folder's by default.

    Raises:
        UserError: no series, several and none chosen, an unknown one, or slices that are missing or at one place.
    """
    with quiet_itk():
        return _read_dicom(folder, series, name)


def _read_dicom(folder: Path, series: str | None, name: str | None) -> Image:
    import SimpleITK as sitk

    _refuse_links(folder)
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not found:
        raise UserError(f"{folder}: no DICOM files in this folder; name the folder that holds the slices, or a file")
    if series is None and len(found) > 1:
        listed = "; ".join(_described(folder, one) for one in found)
        raise UserError(f"{folder}: {len(found)} DICOM series: {listed}; choose one as '{folder}{SEPARATOR}{found[0]}'")
    series = series or found[0]
    if series not in found:
        raise UserError(f"{folder}: no DICOM series {series}; there is {', '.join(found)}")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = from_simpleitk(reader.Execute(), name or folder.name)
    if len(files) == 1 or image.grid.shape[2] != len(files):
        return image
    positions = [
        [float(v) for v in reader.GetMetaData(n, _POSITION).split("\\")]
        for n in range(len(files))
        if reader.HasMetaDataKey(n, _POSITION)
    ]
    return _on_measured_slices(image, np.array(positions)) if len(positions) == len(files) else image


def _refuse_links(folder: Path) -> None:
    """Every entry must be a file of this folder before any is opened: a copied folder may hold links to anything.

    Raises:
        UserError: a link leads out of the folder, or an entry is a pipe or device, which would be waited for.
    """
    root = folder.resolve()
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and not entry.resolve().is_relative_to(root):
            raise UserError(f"{entry}: a link out of the folder is not followed; copy the slices into one folder")
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry}: neither file nor folder; leave only the slices in the folder")


def _described(folder: Path, series: str) -> str:
    import SimpleITK as sitk

    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    reader.ReadImageInformation()
    description = reader.GetMetaData(_SERIES_DESCRIPTION).strip() if reader.HasMetaDataKey(_SERIES_DESCRIPTION) else ""
    return f"{series} ({description or 'no description'}, {len(files)} files)"


def _on_measured_slices(image: Image, positions_lps: np.ndarray) -> Image:
    """Take the slice axis from the slices' own positions, which ITK assumes to be at right angles and evenly spaced."""
    steps = np.diff(positions_lps, axis=0)
    step = steps.mean(axis=0)
    length = float(np.linalg.norm(step))
    gaps = np.linalg.norm(steps, axis=1)
    if gaps.min() < 1e-3:
        raise UserError(
            f"{image.name}: several slices at one position (a series of volumes?); extract one volume first"
        )
    if np.linalg.norm(steps - step, axis=1).max() > _UNEVEN * length:
        raise UserError(
            f"{image.name}: slices are missing or unevenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm); "
            "export the complete series"
        )
    affine = image.grid.affine.copy()
    affine[:3, 2] = flip_ras_lps(step)
    affine[:3, 3] = flip_ras_lps(positions_lps[0])
    return Image(image.data, Grid(image.grid.shape, affine), image.name)
