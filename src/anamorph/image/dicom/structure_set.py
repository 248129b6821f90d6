"""RT structure sets: outlines of organs and targets, drawn on the slices of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import length_text
from anamorph.image.dicom.frames import numbers, text
from anamorph.image.dicom.headers import read_whole, reason
from anamorph.image.dicom.polygons import coverage, fill
from anamorph.image.image import Structure

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE = 0.1
"""Of the distance between slices: contours that lie further from a slice do not belong to that slice."""
_MOST_LABEL = 65535


@dataclass(frozen=True, eq=False)
class Region:
    """One region of interest of a structure set.

    Args:
        structure: its number, name and colour.
        frame_uid: of the frame of reference of its contours.
        contours: ``(N, 3)`` vertices of each closed contour, RAS mm.
        others: what else is drawn for it, by DICOM's names: points and open contours.
    """

    structure: Structure
    frame_uid: str
    contours: tuple[np.ndarray, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The regions of a file, and what it says they were drawn on.

    Args:
        path: of the file.
        regions: in the order of the file.
        series: UIDs of the series that it refers to.
    """

    path: Path
    regions: tuple[Region, ...]
    series: tuple[str, ...]


def read_structure_set(path: Path) -> StructureSet:
    """Read an RT structure set.

    Raises:
        UserError: it is damaged.
    """
    try:
        dataset = read_whole(path)
        regions = tuple(_regions(dataset))
        series = tuple(dict.fromkeys(_series(dataset)))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pydicom raises anything on a damaged file
        raise UserError(f"{path}: a damaged structure set ({reason(error)}); copy or export it again") from error
    return StructureSet(path, regions, series)


def _regions(dataset: Any) -> Iterator[Region]:
    drawn = {int(one.ReferencedROINumber): one for one in dataset.get("ROIContourSequence") or ()}
    listed = dataset.get("StructureSetROISequence") or ()
    given = [int(one.ROINumber) for one in listed]
    kept = len(set(given)) == len(given) and all(0 < number <= _MOST_LABEL for number in given)
    for rank, one in enumerate(listed, 1):
        contours, others = [], []
        lines = drawn.get(int(one.ROINumber), {})
        for line in lines.get("ContourSequence") or ():
            kind = text(line, "ContourGeometricType")
            vertices = np.reshape(numbers(line, "ContourData"), (-1, 3))
            if kind not in CLOSED or len(vertices) < 3:
                others.append(kind or "of no kind")
            else:
                contours.append(flip_ras_lps(vertices))
        colour = numbers(lines, "ROIDisplayColor")
        red, green, blue = (int(c) for c in colour) if len(colour) == 3 else (0, 0, 0)
        name = text(one, "ROIName") or f"ROI {int(one.ROINumber)}"
        number = int(one.ROINumber) if kept else rank
        yield Region(
            Structure(number, name, (red, green, blue) if colour else None),
            text(one, "ReferencedFrameOfReferenceUID"),
            tuple(contours),
            tuple(others),
        )


def _series(dataset: Any) -> Iterator[str]:
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield text(series, "SeriesInstanceUID")


def in_frame(found: StructureSet, frame_uid: str) -> StructureSet:
    """The regions of a structure set that lie in the frame of reference of a scan.

    Args:
        found: all regions.
        frame_uid: of the scan; empty where it is not known.

    Raises:
        UserError: no region does, or there are several frames and the scan's is not known.
    """
    frames = sorted({region.frame_uid for region in found.regions if region.frame_uid})
    if not frame_uid:
        if len(frames) > 1:
            raise UserError(
                f"{found.path}: contours in {len(frames)} frames of reference, and the scan does not say which is its "
                "own; give the scan as DICOM"
            )
        return found
    held = tuple(region for region in found.regions if region.frame_uid in ("", frame_uid))
    if found.regions and not held:
        raise UserError(
            f"{found.path}: its frame of reference ({', '.join(frames)}) is not that of the scan ({frame_uid}); give "
            "the scan that the contours were drawn on, or register the two"
        )
    return StructureSet(found.path, held, found.series)


def occupancy(region: Region, grid: Grid, *, shares: bool = False) -> np.ndarray:
    """The voxels of a scan inside a region; contours of one slice that lie in each other are holes.

    Args:
        region: with contours on slices of the grid.
        grid: of the scan.
        shares: the covered share of each voxel in its slice, in place of whether its centre is inside.

    Returns:
        ``(I, J, K)`` booleans, or float32.

    Raises:
        UserError: contours do not lie in slices of the grid.
    """
    out = np.zeros(grid.shape, np.float32 if shares else bool)
    for slice_number, polygons in on_slices(region, grid).items():
        out[:, :, slice_number] = (coverage if shares else fill)(polygons, grid.shape[:2])
    return out


def on_slices(region: Region, grid: Grid) -> dict[int, list[np.ndarray]]:
    """The contours of a region as ``(N, 2)`` voxels along i and j, by the slice they lie in.

    Contours beyond the first or last slice are left out.

    Raises:
        UserError: some lie between slices, or across them.
    """
    found: dict[int, list[np.ndarray]] = {}
    for contour in region.contours:
        places = grid.world_to_voxel(contour)
        height = places[:, 2]
        nearest = round(float(height.mean()))
        off = float(np.abs(height - nearest).max())
        if off > OFF_SLICE:
            apart_mm = off * float(grid.spacing_mm[2])
            across = float(np.ptp(height)) > OFF_SLICE
            raise UserError(
                f"the contours of '{region.structure.name}' "
                + ("run across the slices of the scan" if across else "lie on other slices than the scan's")
                + f" ({length_text(apart_mm, 1)} off); give the scan that they were drawn on"
            )
        if 0 <= nearest < grid.shape[2]:
            found.setdefault(nearest, []).append(places[:, :2])
    return found


def gaps(regions: Sequence[Region], grid: Grid) -> list[str]:
    """The names of regions that are drawn on some slices between their first and last one only."""
    named = []
    for region in regions:
        drawn = sorted(on_slices(region, grid))
        if drawn and len(drawn) < drawn[-1] - drawn[0] + 1:
            named.append(region.structure.name)
    return named
