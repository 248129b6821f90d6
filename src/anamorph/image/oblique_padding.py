"""Where a scan was padded, but not by whole planes: a rotation of its voxels left one value in the corners."""

from __future__ import annotations

import numpy as np

from anamorph.image.image import Image

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
EDGE_VOX = 1.0
"""So far from the padding values are mixed with it by interpolation."""
MOST_POINTS = 8000


def shown_part(image: Image) -> np.ndarray | None:
    """Which voxels ``(I, J, K)`` a scan shows, where the rest is padding around an oblique field of view.

    Padding has one value, the lowest or the highest, in all corners that it fills, and ends at planes: what it
    surrounds is a convex body with flat faces. The air around a body, or the ground of a brain without its skull, ends
    where the body does, and stays.

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
    axes = np.ogrid[tuple(slice(n) for n in inside.shape)]
    shown = np.ones(inside.shape, bool)
    for normal, offset in planes:
        shown &= sum(float(n) * axis for n, axis in zip(normal, axes, strict=True)) <= offset - EDGE_VOX
    # The faces of the grid itself are no padding: nothing is taken off there.
    return shown if shown.mean() < 1 - LEAST_PADDED else None


def _planes(inside: np.ndarray) -> list[tuple[np.ndarray, float]] | None:
    """Normals and offsets, in voxels, of the padding's planes around what is inside; None if it is not so bounded."""
    from scipy.spatial import ConvexHull, QhullError

    points = _outermost(inside)
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    a, b, c = (points[hull.simplices[:, n]] for n in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    normals, total, planar = hull.equations[:, :3], areas.sum(), 0.0
    free = np.ones(len(areas), bool)
    planes = []
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
    return planes if planar > LEAST_PLANAR * total else None


def _outermost(inside: np.ndarray) -> np.ndarray:
    """``(N, 3)``: the first and the last voxel that is inside, on lines along the last axis."""
    step = int(np.ceil(np.sqrt(2 * inside.shape[0] * inside.shape[1] / MOST_POINTS)))
    lines = inside[::step, ::step]
    used = np.argwhere(lines.any(axis=-1))
    picked = lines[tuple(used.T)]
    ends = picked.argmax(axis=-1), inside.shape[2] - 1 - picked[:, ::-1].argmax(axis=-1)
    return np.concatenate([np.column_stack([step * used, end]) for end in ends]).astype(np.float64)
