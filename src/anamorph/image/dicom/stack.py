"""Frames in the order of their places, and the grid they span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_affine_ras_lps
from anamorph.image.dicom.frames import Frame

# A step may differ by this share of the mean step before slices count as missing.
_UNEVEN = 0.1
_SAME_PLACE_MM = 1e-3
_SAME_PLANE = 1e-3  # of direction cosines, and relative of voxel sizes


def same_plane(one: Frame, other: Frame) -> bool:
    """Whether two frames are parallel and have the same voxels, so that they can lie in one stack."""
    sizes = [(f.storage.rows, f.storage.columns) for f in (one, other)]
    return (
        sizes[0] == sizes[1]
        and all(
            (a is None) == (b is None)
            and (a is None or b is None or np.allclose(a, b, rtol=_SAME_PLANE, atol=tolerance))
            for a, b, tolerance in (
                (one.orientation, other.orientation, _SAME_PLANE),
                (one.spacing_mm, other.spacing_mm, 0.0),
            )
        )
        and (one.position is None) == (other.position is None)
    )


def places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames at each place along the normal of their planes, ascending; frames at one place by their number."""
    if any(frame.position is None or frame.orientation is None for frame in frames):
        return [list(frames)]
    along = np.array([frame.position for frame in frames]) @ _axes(frames[0])[2]
    found: list[list[Frame]] = []
    last = -np.inf
    for n in np.argsort(along, kind="stable"):
        if along[n] - last > _SAME_PLACE_MM:
            found.append([])
        last = along[n]
        found[-1].append(frames[n])
    return [sorted(together, key=lambda frame: (frame.instance, frame.index)) for together in found]


def refuse_nowhere(frames: Sequence[Frame]) -> None:
    """See that slices say where they lie.

    Raises:
        UserError: they do not; the message names the element.
    """
    for element, missing in (
        ("PixelSpacing (0028,0030)", frames[0].spacing_mm is None),
        ("ImagePositionPatient (0020,0032)", frames[0].position is None),
        ("ImageOrientationPatient (0020,0037)", frames[0].orientation is None),
    ):
        if missing:
            raise UserError(
                f"{frames[0].storage.path}: {element} is missing, without which slices make no volume; export it again "
                "with its geometry"
            )


def flaw(frames: Sequence[Frame]) -> str | None:
    """What keeps frames from being one stack, with the remedy; None if nothing does."""
    together = places(frames)
    if len(together) < len(frames):
        return "several slices at one position that nothing tells apart; leave one image per position"
    if len(frames) < 3:
        return None
    steps = np.diff(np.array([frame.position for (frame,) in together], float), axis=0)
    step, gaps = steps.mean(axis=0), np.linalg.norm(steps, axis=1)
    if np.linalg.norm(steps - step, axis=1).max() > _UNEVEN * float(np.linalg.norm(step)):
        return (
            f"slices are missing or unevenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm); "
            "export the complete series"
        )
    return None


def grid_of(frames: Sequence[Frame]) -> Grid:
    """The grid of frames that have no :func:`flaw`, in the order of :func:`places`; a tilted gantry shears it."""
    first = frames[0]
    rows, columns, normal = _axes(first)
    spacing = first.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = rows * spacing[0], columns * spacing[1]
    affine[:3, 2] = normal * abs(first.depth_mm or 1.0)
    if len(frames) > 1:
        affine[:3, 2] = _way(frames) / (len(frames) - 1)
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    return Grid((first.storage.columns, first.storage.rows, len(frames)), flip_affine_ras_lps(affine))


def tilt_degrees(frames: Sequence[Frame]) -> float:
    """Angle between the normal of the planes and the way from slice to slice."""
    if len(frames) < 2:
        return 0.0
    step = _way(frames)
    cosine = abs(float(step @ _axes(frames[0])[2])) / float(np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _way(frames: Sequence[Frame]) -> np.ndarray:
    return np.array(frames[-1].position, float) - np.array(frames[0].position, float)


def _axes(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (LPS) from column to column, from row to row, and their normal, at exact right angles."""
    rows, columns = np.reshape(frame.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (2, 3))
    rows = rows / np.linalg.norm(rows)
    columns = columns - (rows @ columns) * rows
    columns /= np.linalg.norm(columns)
    return rows, columns, np.cross(rows, columns)
