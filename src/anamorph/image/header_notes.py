"""What is odd about the header of a file: what was assumed, converted, or is read otherwise by other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import length_text
from anamorph.image import itk_files, nibabel_files, pictures, segments
from anamorph.image.bids_names import entity_in
from anamorph.image.convert import nibabel_grid
from anamorph.image.dicom import dicom_notes, dicom_visit
from anamorph.image.dicom.headers import is_dicom
from anamorph.image.dicom.volumes import split_choice
from anamorph.image.quiet import quiet_libraries

_SCANNER = 1
_ELSEWHERE = (
    "ITK, ANTs and 3D Slicer place this scan elsewhere (by up to {apart}), so the fields and images written do not fit "
    "the original file there; to mend it, write one position into both forms: image = nibabel.load(FILE); "
    "image.set_sform(image.affine, 1); image.set_qform(image.affine, 1); image.to_filename(FILE)"
)


def header_notes(path: str | os.PathLike[str]) -> list[str]:
    """Sentences about a header that a user should know of; empty for a sound header, and for what is no file.

    Raises:
        OSError, UserError, nibabel errors: the header cannot be read; call it on files that ``read_image`` took.
    """
    from anamorph.image.dicom.label_objects import holds_structures

    place, choice = split_choice(str(path))
    if place.is_dir():
        return dicom_notes(place, choice)
    path, name = place, place.name.lower()
    if not path.is_file():
        return []
    if is_dicom(path):
        return [] if holds_structures(path, choice) else dicom_notes(path, choice)
    if name.endswith((".mgz", ".mgh")):
        return []
    if name.endswith(nibabel_files.SUFFIXES):
        with quiet_libraries(), nibabel_files.opened(path) as image:
            return _nibabel_notes(image, path)
    if name.endswith(pictures.TIFF_SUFFIXES):
        return pictures.tiff_notes(path)
    if name.endswith(pictures.SUFFIXES):
        return pictures.picture_notes(path)
    return [*itk_files.itk_notes(path), *segments.segment_notes(path)]


def visit_of(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """The patient and the date or session of a scan: by a DICOM header, or by the BIDS entities of its path.

    None where nothing says so.

    Raises:
        OSError, UserError: as :func:`header_notes` does.
    """
    place, _ = split_choice(str(path))
    if place.is_dir() or (place.is_file() and is_dicom(place)):
        patient, date = dicom_visit(place)
    else:
        patient, date = entity_in(place, "sub"), entity_in(place, "ses")
    return (patient, date) if patient and date else None


def _nibabel_notes(image: Any, path: Path) -> list[str]:
    header = image.header
    if not hasattr(header, "get_qform"):
        return ["an Analyze header says nothing about left and right: check the orientation"]
    notes = _position_notes(image, path)
    unit = header.get_xyzt_units()[0]
    if unit in ("micron", "meter"):
        notes.append(f"voxel sizes are given in {unit}s: converted to mm")
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if (slope, inter) != (1.0, 0.0):
        notes.append(f"stored values are scaled by {slope:g} and shifted by {inter:g}: read as float32")
    return notes


def _position_notes(image: Any, path: Path) -> list[str]:
    """Whether the two forms of a NIfTI header tell one place, and whether ITK takes the same one."""
    header = image.header
    sform, s_code = header.get_sform(coded=True)
    try:
        qform, q_code = header.get_qform(coded=True)
    except Exception:  # nibabel raises errors of several kinds on a quaternion that is none
        return ["the qform of the header is no rotation: it is not used; repair it if other programs refuse the file"]
    grid = nibabel_grid(image, path.name)
    if sform is None and qform is None:
        apart = _apart(grid, _with(image, path, np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*_zooms(header), 1.0])))
        told = "neither sform nor qform is set: position and orientation are guesses"
        return [f"{told}. {_ELSEWHERE.format(apart=length_text(apart, 1))}"]
    if sform is None or qform is None:
        return []
    apart = _apart(grid, _with(image, path, qform))
    if apart <= 0.1 * grid.finest_mm:
        return []
    told = f"sform (code {s_code}) and qform (code {q_code}) differ by up to {length_text(apart, 1)}: the sform is used"
    if s_code == _SCANNER and not grid.is_sheared:
        return [f"{told}, as by ITK 5.4. Of older versions: {_ELSEWHERE.format(apart=length_text(apart, 1))}"]
    return [f"{told}. {_ELSEWHERE.format(apart=length_text(apart, 1))}"]


def _with(image: Any, path: Path, affine: np.ndarray) -> Grid | None:
    """The grid that the same header would give with another affine; None if it is singular."""
    import nibabel

    unit = image.header.get_xyzt_units()[0]
    other = nibabel.Nifti1Image(image.dataobj, affine)
    other.header.set_xyzt_units(unit)
    try:
        return nibabel_grid(other, path.name)
    except UserError:
        return None


def _zooms(header: Any) -> list[float]:
    return [float(zoom) or 1.0 for zoom in (*header.get_zooms()[:3], 1.0, 1.0)[:3]]


def _apart(grid: Grid, other: Grid | None) -> float:
    return float("inf") if other is None else grid.corner_distance_mm(other)
