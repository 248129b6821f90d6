"""What is read of a treatment plan and of a day: scan, structures, dose, and the round field of view of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image.dicom import dicom_frames, split_choice
from anamorph.image.dicom.folder import dicom_files, grouped
from anamorph.image.dicom.frames import text
from anamorph.image.dicom.headers import SEPARATOR, read_header, read_whole
from anamorph.image.dicom.label_objects import holds_structures, read_structures
from anamorph.image.dicom.source import DicomSource, read_source
from anamorph.image.image import Image, Mask
from anamorph.image.quiet import quiet_libraries
from anamorph.image.read import read_image
from anamorph.image.structures import StructureMasks

DOSE = "RTDOSE"
FULL_DISC = 0.9
"""Share of a disc that shows something, from which on what lies around it is no air but beyond the field of view."""
CUT_OFF = 0.05
"""Of the voxels, and below it nothing was cut off."""


@dataclass(frozen=True, eq=False)
class Dose:
    """A dose in Gy, and its file."""

    image: Image
    file: Path


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A scan with what is drawn and planned on it.

    Args:
        place: that the user named.
        source: headers of the scan.
        scan: values.
        structures: None where none are drawn.
        dose: None where none is known.
        remarks: what could not be used.
    """

    place: str
    source: DicomSource
    scan: Image
    structures: StructureMasks | None
    dose: Dose | None
    remarks: tuple[str, ...] = ()


def read_plan(plan: str, structures: str | None, dose: str | None) -> Anatomy:
    """Read a plan.

    Args:
        plan: DICOM folder of the planning CT, with a choice of series if need be.
        structures: the structure set or segmentation, where it is not beside the CT, or with a choice of structures.
        dose: the dose or its folder; None to leave doses out.

    Raises:
        UserError: something is missing, cannot be read, or lies in another frame of reference than the CT.
    """
    source = read_source(plan, "planning CT")
    scan = read_image(plan)
    drawn = structures_of(structures or str(source.path), scan)
    if drawn is None:
        raise UserError(f"{structures or source.path}: no structure set or segmentation; name it with --structures")
    return Anatomy(plan, source, scan, drawn, None if dose is None else read_dose(dose, scan))


def read_day(day: str, with_dose: bool) -> Anatomy:
    """Read the scan of a day, and the structures and the dose in its folder, if there are any.

    Structures of another scan, such as those of the plan, are often exported with a day: they are left out.

    Raises:
        UserError: the scan or its dose cannot be read, or the dose lies in another frame of reference.
    """
    source = read_source(day, "scan of the day")
    scan = read_image(day)
    dose = read_dose(str(source.path), scan) if with_dose and _holds_dose(source.path) else None
    try:
        drawn, remarks = structures_of(str(source.path), scan), ()
    except UserError as error:
        return Anatomy(day, source, scan, None, dose, (f"structures of the day are not used: {error}",))
    return Anatomy(day, source, scan, drawn, dose, remarks)


def structures_of(place: str, scan: Image) -> StructureMasks | None:
    """The structures of a file or folder on the grid of a scan; None if there are none.

    Raises:
        UserError: they cannot be read, or belong to another scan.
    """
    path, choice = split_choice(place)
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    if not holds_structures(path, choice):
        return None
    with quiet_libraries():
        found = read_structures(path, choice, scan)
    if not found.grid.matches(scan.grid, 0.1):
        raise UserError(f"{path}: its structures are not drawn on {scan.name}; give those of this scan")
    return found


def _holds_dose(path: Path) -> bool:
    with quiet_libraries():
        return any(one.modality == DOSE for one in grouped([read_header(file) for file in dicom_files(path)]))


def read_dose(place: str, scan: Image) -> Dose:
    """Read a dose in Gy in the frame of reference of a scan.

    Args:
        place: an RTDOSE, or a folder that holds one.
        scan: to which it belongs.

    Raises:
        UserError: it is no dose in Gy, or lies in another frame of reference.
    """
    path, choice = split_choice(place)
    if path.is_dir() and choice.series is None:
        place = f"{place}{SEPARATOR}{DOSE}"
        path, choice = split_choice(place)
    image = read_image(place)
    file = dicom_frames(path, choice)[0].storage.path
    header: Any = read_whole(file, stop_before_pixels=True)
    if text(header, "Modality") != DOSE or text(header, "DoseUnits") != "GY":
        unit = text(header, "DoseUnits") or text(header, "Modality") or "an image"
        raise UserError(f"{file}: no dose in Gy ({unit}); export the dose of the plan in Gy")
    if scan.frame_uid and image.frame_uid and image.frame_uid != scan.frame_uid:
        raise UserError(
            f"{file}: its frame of reference ({image.frame_uid}) is not that of {scan.name} ({scan.frame_uid}); give "
            "the dose that was computed on this scan"
        )
    return Dose(Image(image.data.astype(np.float32), image.grid, file.name, image.frame_uid), file)


def field_of_view(scan: Image) -> Mask | None:
    """The round field of view of a cone-beam scan, around which the corners are padded; None if there is none.

    The corners have one value, in every slice, and within the smallest disc around the middle that holds all other
    values nearly everything has another one. The air around a body fills more than the corners.
    """
    values = scan.data[0]
    padding = values[0, 0, 0]
    shown = values != padding
    if any((values[i, j] != padding).any() for i in (0, -1) for j in (0, -1)):
        return None
    grid = scan.grid
    i, j = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in grid.shape[:2]), indexing="ij")
    away_mm = np.hypot(i * grid.spacing_mm[0], j * grid.spacing_mm[1])
    seen = shown.any(axis=2)
    if not seen.any():
        return None
    disc = away_mm <= away_mm[seen].max()
    cut = 1 - float(disc.mean())
    if cut < CUT_OFF or float(shown[disc].mean()) < FULL_DISC:
        return None
    # One voxel less: at the edge values are mixed with the padding.
    inner = away_mm <= away_mm[seen].max() - float(grid.spacing_mm[:2].max())
    weights = np.broadcast_to(inner[:, :, None], grid.shape).astype(np.float32)
    return Mask(weights, grid, f"field of view of {scan.name}", scan.frame_uid)
