"""Structures from DICOM: RT structure sets and segmentations, beside their scan in a folder or alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.dicom import dicom_frames
from anamorph.image.dicom.folder import Series, choose_series, dicom_files, grouped, matching
from anamorph.image.dicom.frames import frame_uid, text
from anamorph.image.dicom.headers import SEGMENTATIONS, STRUCTURE_SET, Header, is_dicom, read_header
from anamorph.image.dicom.segmentation import read_segmentation
from anamorph.image.dicom.structure_set import Region, gaps, in_frame, occupancy, on_slices, read_structure_set
from anamorph.image.dicom.volumes import REGIONS, Choice, grid_of
from anamorph.image.image import Image, Structure
from anamorph.image.quiet import quiet_libraries
from anamorph.image.structures import StructureMasks


def holds_structures(path: Path, choice: Choice) -> bool:
    """Whether labels asked for by a path and a choice are a structure set or a segmentation.

    Raises:
        UserError: a file of the folder is damaged.
    """
    return bool(_label_series(path, choice))


def read_structures(path: Path, choice: Choice, scan: Image | None = None) -> StructureMasks:
    """Read the structures of an RT structure set or a segmentation.

    Args:
        path: the file, or a folder that holds it, beside its scan for example.
        choice: the series of the file where there are several, and the names of structures (``roi=Liver,Spleen``).
        scan: on whose grid contours are filled; by default the series that the file refers to, in the same folder.

    Raises:
        UserError: there are several files and none chosen, a damaged one, no scan for its contours, or another frame
            of reference.
    """
    series = choose_series(_label_series(path, choice), choice.series, path, "structure sets and segmentations")
    if len(series.headers) > 1:
        names = ", ".join(header.path.name for header in series.headers[:6])
        raise UserError(f"{path}: one series of {len(series.headers)} label files ({names}); name one of the files")
    file = series.headers[0].path
    found = _structure_set(file, scan) if _is_set(series.headers[0]) else read_segmentation(file, scan)
    meant = choice.traits.get(REGIONS)
    return found if meant is None else found.chosen(meant.split(","))


def _label_series(path: Path, choice: Choice) -> list[Series]:
    """The label files of a folder; none if the words of the choice mean another one of its series."""
    if path.is_file() and not is_dicom(path):
        return []
    with quiet_libraries():
        series = grouped([read_header(file) for file in dicom_files(path)])
        found = [one for one in series if _class(one.headers[0]).startswith((STRUCTURE_SET, *SEGMENTATIONS))]
        if choice.series is None:
            return found
        return [one for one in matching(series, choice.series) if any(one is other for other in found)]


def _class(header: Header) -> str:
    return text(header.dataset, "SOPClassUID") or text(header.dataset.file_meta, "MediaStorageSOPClassUID")


def _is_set(header: Header) -> bool:
    return _class(header).startswith(STRUCTURE_SET)


def _structure_set(file: Path, scan: Image | None) -> StructureMasks:
    with quiet_libraries():
        found = read_structure_set(file)
    grid, frame = (None, "") if scan is None else (scan.grid, scan.frame_uid)
    found = in_frame(found, frame)
    drawn = [region for region in found.regions if region.contours]
    if not drawn:
        held = ", ".join(sorted({kind for region in found.regions for kind in region.others})) or "no contours"
        raise UserError(f"{file}: no closed contours, which alone hold voxels, but {held}; give another structure set")
    if grid is None or not _fits(drawn, grid):
        beside = _scan_beside(file, found.series)
        if beside is not None:
            grid, frame = beside
            found = in_frame(found, frame)
            drawn = [region for region in found.regions if region.contours]
    if grid is None:
        raise UserError(
            f"{file}: contours are filled on the grid of their scan, which is not beside them; put the series into the "
            "same folder, or name the scan"
        )
    _refuse_elsewhere(file, drawn, grid)
    notes = _notes(found.regions, drawn, grid)
    by_label = {region.structure.label: region for region in drawn}
    placed = grid

    def share(structure: Structure) -> np.ndarray:
        return occupancy(by_label[structure.label], placed, shares=True)

    def inside(structure: Structure) -> np.ndarray:
        return occupancy(by_label[structure.label], placed)

    structures = tuple(region.structure for region in drawn)
    return StructureMasks(file.name, placed, structures, share, inside, frame, tuple(notes))


def _fits(regions: Sequence[Region], grid: Grid) -> bool:
    try:
        return any(on_slices(region, grid) for region in regions)
    except UserError:
        return False


def _scan_beside(file: Path, series: Sequence[str]) -> tuple[Grid, str] | None:
    """Grid and frame of reference of the series that a file refers to, if it is in the same folder."""
    for uid in series:
        try:
            frames = dicom_frames(file.parent, Choice(uid))
        except UserError:
            continue
        return grid_of(frames), frame_uid(frames[0])
    return None


def _refuse_elsewhere(file: Path, regions: Sequence[Region], grid: Grid) -> None:
    """See that contours lie in slices of a grid.

    Raises:
        UserError: those of a region do not, or none is where the scan is.
    """
    try:
        shown = [bool(on_slices(region, grid)) for region in regions]
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    if not any(shown):
        raise UserError(f"{file}: no contour lies where the scan is; give the scan that they were drawn on")


def _notes(regions: Sequence[Region], drawn: Sequence[Region], grid: Grid) -> list[str]:
    notes = []
    if left := [one.structure.name for one in regions if not one.contours]:
        notes.append(f"left out regions without closed contours: {', '.join(left)[:300]}")
    if opened := [one.structure.name for one in drawn if one.others]:
        notes.append(f"left out open contours and points of: {', '.join(opened)[:300]}")
    if named := gaps(drawn, grid):
        notes.append(f"slices without a contour between others are left empty: {', '.join(named)[:300]}")
    return notes
