"""What a voxel without data is worth, which margins of a scan are padding, and how warped values keep their type."""

from __future__ import annotations

import numpy as np

from anamorph.geometry.lengths import patient_mm
from anamorph.image.image import Image

CT_AIR_HU = -1024.0


BONE_HU = 300.0
AIR_HU = -500.0
LEAST_AIR = 0.02
"""Of the voxels of bone, so many of air are in every CT; in one whose values are reversed, bone is the air."""
MOST_VALUES = 1_000_000


def looks_like_ct(image: Image) -> bool:
    """True when the values can only be Hounsfield units: air well below zero and tissue or bone above."""
    return are_hounsfield(image.data[0])


def are_hounsfield(values: np.ndarray) -> bool:
    """True when values of any shape can only be Hounsfield units; some of many are looked at."""
    if not (np.nanmin(values) <= AIR_HU and 100 <= np.nanmax(values) <= 40000):
        return False
    step = max(int((values.size / MOST_VALUES) ** (1 / values.ndim)), 1)
    some = values[(slice(None, None, step),) * values.ndim]
    bone, air = np.count_nonzero(some > BONE_HU), np.count_nonzero(some <= AIR_HU)
    return bool(air >= LEAST_AIR * bone)


def background_value(image: Image) -> float:
    """CT air for CT (never below the file's own minimum), else the minimum of the image."""
    lowest = float(np.nanmin(image.data))
    return max(lowest, CT_AIR_HU) if looks_like_ct(image) else lowest


def cast_like(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bring interpolated values back to a dtype: rounded and clipped for integers."""
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        highest = values.dtype.type(limits.max)
        if int(highest) > limits.max:  # the largest 32 and 64 bit integers round up to a float that no longer fits
            highest = np.nextafter(highest, values.dtype.type(0))
        return np.clip(np.rint(values), limits.min, highest).astype(dtype)
    if dtype.kind == "b":
        return values >= 0.5
    return values.astype(dtype)


Box = tuple[slice, slice, slice]

LEAST_CONTENT = 0.5
"""A margin that begins where so much of a plane is content was cut or padded; else it is the air around a body."""
OUTLINE_MM = 20.0
"""So much air around a body stays: its outline is information."""
LEAST_REMOVED = 0.05
"""Fraction of the voxels from which on removing a margin is worth it."""
FEWEST = 3
"""Voxels that stay along each axis."""


def content_box(image: Image) -> Box | None:
    """The part of a scan inside its margins of one constant value; None where there are none to speak of.

    A margin is a stack of whole planes at an end of an axis in which every voxel has one value. Where a body ends
    before the margin begins, as in scans without a skull or with air set to one value, a part stays. Lengths are those
    of a patient, and in proportion for a scan of another size.
    """
    reach_vox = np.ceil(OUTLINE_MM * patient_mm(image.grid) / image.grid.spacing_mm).astype(int)
    inside = np.zeros(image.grid.shape, bool)
    for channel in image.data:
        value = _margin_value(channel)
        if value is None:
            return None
        inside |= channel != value
    box = []
    for axis, size in enumerate(image.grid.shape):
        share = inside.mean(axis=tuple(a for a in range(3) if a != axis))
        content = np.flatnonzero(share)
        first, last = int(content[0]), int(content[-1])
        fullest = share.max()
        if share[first] < LEAST_CONTENT * fullest:
            first -= int(reach_vox[axis])
        if share[last] < LEAST_CONTENT * fullest:
            last += int(reach_vox[axis])
        first, last = max(first, 0), min(last, size - 1)
        if last - first + 1 < min(FEWEST, size):
            return None
        box.append(slice(first, last + 1))
    kept = np.prod([part.stop - part.start for part in box]) / inside.size
    return (box[0], box[1], box[2]) if kept < 1 - LEAST_REMOVED else None


def _margin_value(channel: np.ndarray) -> np.generic | None:
    """The value of a margin, which reaches the first or the last voxel of a scan; None if there can be none.

    A value between the others, as water is between air and bone, counts only where it fills a plane at an end: no
    tissue does.
    """
    low, high = channel.min(), channel.max()
    if low == high:
        return None
    ends = [channel.take(end, axis) for axis in range(3) for end in (0, -1) if channel.shape[axis] > 1]
    for value in (channel[0, 0, 0], channel[-1, -1, -1]):
        if value in (low, high) or any((plane == value).all() for plane in ends):
            return value
    return None


LEAST_PADDED = 0.05
"""Of the voxels, and below it nothing is done."""
CORNERS = 2
"""So many corners of a scan are padding at least."""
ALIKE_DEG = 5.0
"""Facets of a hull whose normals differ less belong to one plane."""
LEAST_PLANE = 0.03
"""Of the surface of the hull: smaller planes are curvature."""
LEAST_PLANAR = 0.65
"""So much of the surface was cut along planes: bodies are round, fields of view are not."""
LEAST_FACE = 0.15
"""Of the same surface, for either face of a stack of slices whose sides are round, as bodies are."""
EDGE_VOX = 1.0
"""So far from the padding values are mixed with it by interpolation."""
MOST_POINTS = 8000


def shown_part(image: Image) -> np.ndarray | None:
    """Which voxels ``(I, J, K)`` a scan shows, where the rest is padding around an oblique field of view.

    Padding has one value, the lowest or the highest, in all corners that it fills, and ends at planes: what it
    surrounds is a convex body with flat faces, or with two that are opposite and parallel, as a stack of slices. The
    air around a body, or the ground of a brain without its skull, ends where the body does, and stays.

    Returns:
        None where nothing was padded so.
    """
    if image.grid.is_2d or min(image.grid.shape) < 4:
        return None
    inside = np.zeros(image.grid.shape, bool)
    for channel in image.data:
        ends = channel[:: channel.shape[0] - 1, :: channel.shape[1] - 1, :: channel.shape[2] - 1]
        extremes = [value for value in (channel.min(), channel.max()) if (ends == value).sum() >= CORNERS]
        if len(extremes) != 1:
            return None
        inside |= channel != extremes[0]
    if not LEAST_PADDED < 1 - inside.mean() < 1:
        return None
    planes = _planes(inside)
    if planes is None:
        return None
    i, j, k = np.ogrid[tuple(slice(n) for n in inside.shape)]
    shown = np.ones(inside.shape, bool)
    for (a, b, c), offset in planes:
        shown &= c * k <= offset - EDGE_VOX - a * i - b * j
    # The faces of the grid itself are no padding: nothing is taken off there.
    return shown if shown.mean() < 1 - LEAST_PADDED else None


def _planes(inside: np.ndarray) -> list[tuple[np.ndarray, float]] | None:
    """Normals and offsets, in voxels, of the padding's planes around what is inside; None if it is not so bounded."""
    from scipy.spatial import ConvexHull, QhullError

    points = _outermost(inside)
    if len(points) == 0:  # a few voxels, between the lines that are looked at
        return None
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    a, b, c = (points[hull.simplices[:, n]] for n in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    normals, total, planar = hull.equations[:, :3], areas.sum(), 0.0
    free = np.ones(len(areas), bool)
    planes, shares = [], []
    while free.any():
        first = int(np.argmax(np.where(free, areas, -1)))
        near = free & (normals @ normals[first] > np.cos(np.deg2rad(ALIKE_DEG)))
        free &= ~near
        if areas[near].sum() < LEAST_PLANE * total:
            continue
        planar += areas[near].sum()
        normal = areas[near] @ normals[near]
        normal /= np.linalg.norm(normal)
        offset = float((points @ normal).max())
        corner = np.where(normal > 0, np.array(inside.shape) - 1, 0)
        if float(corner @ normal) > offset + EDGE_VOX:
            planes.append((normal, offset))
            shares.append(areas[near].sum() / total)
    return planes if planar > LEAST_PLANAR * total or _is_slab(planes, shares) else None


def _is_slab(planes: list[tuple[np.ndarray, float]], shares: list[float]) -> bool:
    """Whether two faces of a turned stack of slices are among the planes: large, opposite, and parallel."""
    faces = np.array([plane[0] for plane, share in zip(planes, shares, strict=True) if share > LEAST_FACE])
    return len(faces) > 1 and bool((faces @ faces.T).min() < -np.cos(np.deg2rad(ALIKE_DEG)))


def _outermost(inside: np.ndarray) -> np.ndarray:
    """``(N, 3)``: the first and the last voxel that is inside, on lines along the last axis."""
    step = int(np.ceil(np.sqrt(2 * inside.shape[0] * inside.shape[1] / MOST_POINTS)))
    lines = inside[::step, ::step]
    used = np.argwhere(lines.any(axis=-1))
    picked = lines[tuple(used.T)]
    ends = picked.argmax(axis=-1), inside.shape[2] - 1 - picked[:, ::-1].argmax(axis=-1)
    return np.concatenate([np.column_stack([step * used, end]) for end in ends]).astype(np.float64)
