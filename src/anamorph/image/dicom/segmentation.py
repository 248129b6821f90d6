"""DICOM segmentations, read by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import check_values
from anamorph.image.dicom.frames import numbers, text
from anamorph.image.dicom.headers import read_header, reason
from anamorph.image.image import Image, Structure
from anamorph.image.structures import StructureMasks

ALIGNED_VOX = 0.02
"""Voxels of a segmentation that lie closer than this to those of a scan are the scan's."""
_HALF = 0.5


def highdicom() -> Any:
    """The package that reads and writes DICOM segmentations.

    Raises:
        UserError: it is not installed.
    """
    try:
        import highdicom
    except ImportError:
        raise UserError("DICOM segmentations need highdicom: pip install 'anamorph[dicom]'") from None
    return highdicom


def read_segmentation(path: Path, scan: Image | None = None) -> StructureMasks:
    """Read a DICOM segmentation, on the grid of its scan where its voxels are the scan's, else on its own.

    Segmentations leave out slices without segments, so that their grid is seldom the scan's.

    Args:
        path: of the file.
        scan: that it belongs to.

    Raises:
        UserError: highdicom is not installed, the file is damaged, or it lies in another frame of reference.
    """
    package = highdicom()
    _refuse_trap(path)
    try:
        found = package.seg.segread(path)
        volume = found.get_volume(segment_numbers=[found.segment_numbers[0]], rtol=0.1)
        grid, structures = _grid(volume), tuple(_structure(found, n) for n in found.segment_numbers)
    except MemoryError:
        raise
    except Exception as error:  # highdicom raises anything on a damaged file
        raise UserError(f"{path}: a segmentation that cannot be read ({reason(error)}); export it again") from error
    frame = text(found, "FrameOfReferenceUID")
    if scan is not None and scan.frame_uid and frame and frame != scan.frame_uid:
        raise UserError(
            f"{path}: its frame of reference ({frame}) is not that of the scan ({scan.frame_uid}); give the scan that "
            "was segmented, or register the two"
        )
    placing = None if scan is None else _placing(grid, scan.grid)

    def share(structure: Structure) -> np.ndarray:
        one = found.get_volume(segment_numbers=[structure.label], dtype=np.float32, rtol=0.1).array[..., 0]
        values = np.ascontiguousarray(one.transpose(2, 1, 0))
        return values if scan is None or placing is None else _placed(values, placing, scan.grid)

    def inside(structure: Structure) -> np.ndarray:
        return share(structure) >= _HALF

    shown = scan.grid if scan is not None and placing is not None else grid
    return StructureMasks(path.name, shown, structures, share, inside, frame)


def _refuse_trap(path: Path) -> None:
    """See that the voxels that a header announces are in proportion to its file.

    Raises:
        UserError: they are not.
    """
    header = read_header(path)
    rows, columns, frames = (
        (numbers(header.dataset, key) or (1.0,))[0] for key in ("Rows", "Columns", "NumberOfFrames")
    )
    check_values(path, int(rows * columns * max(frames, 1)), path.stat().st_size)


def _grid(volume: Any) -> Grid:
    """The grid of a volume of highdicom, whose axes are slices, rows and columns, in LPS."""
    slices, rows, columns = volume.spatial_shape
    affine = np.eye(4)
    affine[:, :3] = np.asarray(volume.affine)[:, [2, 1, 0]]
    affine[:, 3] = np.asarray(volume.affine)[:, 3]
    return Grid((columns, rows, slices), flip_affine_ras_lps(affine))


def _structure(found: Any, number: int) -> Structure:
    told = found.get_segment_description(number)
    colour = numbers(told, "RecommendedDisplayCIELabValue")
    name = text(told, "SegmentLabel") or f"segment {number}"
    return Structure(int(number), name, _rgb(colour) if len(colour) == 3 else None)


def _rgb(cielab: tuple[float, ...]) -> tuple[int, int, int]:
    colour = highdicom().color.CIELabColor.from_dicom_value([int(v) for v in cielab])
    red, green, blue = colour.to_rgb(clip=True)
    return int(red), int(green), int(blue)


def _placing(grid: Grid, scan: Grid) -> np.ndarray | None:
    """The whole-numbered matrix from voxels of a grid to those of a scan; None if they are not the same voxels."""
    matrix = grid.voxel_to_voxel(scan)
    rounded = np.rint(matrix)
    corners = np.array(np.meshgrid(*([0, n - 1] for n in grid.shape), [1])).reshape(4, -1)
    off = np.abs((matrix - rounded) @ corners).max()
    permutes = bool((np.abs(rounded[:3, :3]).sum(axis=0) == 1).all() and abs(np.linalg.det(rounded[:3, :3])) == 1)
    return rounded.astype(int) if permutes and off <= ALIGNED_VOX else None


def _placed(values: np.ndarray, placing: np.ndarray, scan: Grid) -> np.ndarray:
    """Values of a part of a scan at their voxels of the scan, zero elsewhere."""
    out = np.zeros(scan.shape, values.dtype)
    places = placing[:3, :3] @ np.indices(values.shape).reshape(3, -1) + placing[:3, 3:]
    kept = ((places >= 0) & (places < np.array(scan.shape)[:, None])).all(axis=0)
    out[tuple(places[:, kept])] = values.ravel()[kept]
    return out
