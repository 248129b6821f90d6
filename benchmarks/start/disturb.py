"""What is done to a scan, with the map of its world kept, so that labels and landmarks need no resampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.transforms import Affine

MOST_VOXELS = 4_000_000
"""Of a scan resampled along the axes of the world; it gets larger voxels beyond that."""
FEWEST_VOXELS = 4
"""Along a cropped axis."""


@dataclass(frozen=True)
class View:
    """A scan as a registration gets it.

    Args:
        image: what is registered.
        moved: where the points of the scan's own world are in the image's.
        seen: the part of the scan's own field of view that is left.
    """

    image: Image
    moved: Affine
    seen: Grid

    @classmethod
    def of(cls, image: Image) -> View:
        """The scan as it is."""
        return cls(image, Affine.identity(), image.grid)


def moved(view: View, matrix: np.ndarray) -> View:
    """The scan with another header: the same voxels, their places mapped by a 4 x 4 matrix of RAS mm."""
    grid = Grid(view.image.grid.shape, matrix @ view.image.grid.affine)
    return replace(view, image=Image(view.image.data, grid, view.image.name), moved=Affine(matrix @ view.moved.matrix))


def shifted(view: View, offset_mm: np.ndarray) -> View:
    """The scan somewhere else in the world."""
    return moved(view, Affine.translation(offset_mm).matrix)


def rotated(view: View, axis: np.ndarray, degrees: float) -> View:
    """The scan turned about its middle."""
    return moved(view, about(view.image.grid.centre_mm, rotation(axis, degrees)))


def about(centre_mm: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """The 4 x 4 matrix of a linear map that leaves a point where it is."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre_mm - linear @ centre_mm
    return matrix


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def resampled(view: View, directions: np.ndarray | None = None, spacing_mm: np.ndarray | None = None) -> View:
    """The scan read on a grid that covers it, its minimum where it has no voxel.

    Args:
        view: the scan.
        directions: ``(3, 3)`` unit vectors of the grid's axes as columns; the world's by default.
        spacing_mm: of the grid; by default the finest of the scan along all axes, or what ``MOST_VOXELS`` allow.
    """
    ways = np.eye(3) if directions is None else directions
    corners = view.image.grid.corners_mm() @ np.linalg.inv(ways).T
    low, high = corners.min(axis=0), corners.max(axis=0)
    if spacing_mm is None:
        spacing_mm = np.full(3, max(view.image.grid.finest_mm, np.cbrt(np.prod(high - low) / MOST_VOXELS)))
    shape = np.maximum(np.ceil((high - low) / spacing_mm - 1e-6), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = ways * spacing_mm
    affine[:3, 3] = ways @ ((low + high) / 2 - (shape - 1) / 2 * spacing_mm)
    lowest = float(view.image.data.min())
    image = Affine.identity().warp_image(view.image, Grid(tuple(shape), affine), background=lowest)
    return replace(view, image=image)


def cropped(view: View, axis: int, end: str, kept: float) -> View:
    """The scan with a part of one of its axes: the low or the high end of the index."""
    here = view.image.grid
    count = min(max(round(kept * here.shape[axis]), FEWEST_VOXELS), here.shape[axis])
    first = 0 if end == "low" else here.shape[axis] - count
    start = np.zeros(3)
    start[axis] = first
    shape = list(here.shape)
    shape[axis] = count
    affine = here.affine.copy()
    affine[:3, 3] = here.voxel_to_world(start)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    values = np.take(view.image.data, range(first, first + count), axis=axis + 1)
    seen = Grid(grid.shape, np.linalg.inv(view.moved.matrix) @ affine)
    return replace(view, image=Image(np.ascontiguousarray(values), grid, view.image.name), seen=seen)


def padded(view: View, share: float, value: float, rng: np.random.Generator) -> View:
    """The scan with a margin of one value along every axis, a share of its length, unequal on the two ends."""
    here = view.image.grid
    total = np.ceil(share * np.array(here.shape)).astype(int)
    before = np.rint(total * rng.uniform(0, 1, 3)).astype(int)
    margins = [(0, 0), *zip(before, total - before, strict=True)]
    kind = np.result_type(view.image.data.dtype, np.int16) if value < 0 else view.image.data.dtype
    values = np.pad(view.image.data.astype(kind), margins, constant_values=value)
    affine = here.affine.copy()
    affine[:3, 3] = here.voxel_to_world(-before)
    shape = values.shape[1:]
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    return replace(view, image=Image(values, grid, view.image.name))


def without_header(view: View) -> View:
    """The scan with nothing of its header left but the spacing."""
    bare = np.diag([*view.image.grid.spacing_mm, 1.0])
    return moved(view, bare @ np.linalg.inv(view.image.grid.affine))


def recoloured(view: View, kind: str, rng: np.random.Generator) -> View:
    """The scan with its values mapped by a curve between its 1st and 99th percentile, continued beyond.

    Args:
        view: the scan.
        kind: ``inverted``, ``gamma`` (seeded, either way), ``monotone`` (a rising random curve) or ``wavy`` (a curve
            that rises and falls).
        rng: of the curve.
    """
    values = view.image.data.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    level = (values - low) / max(float(high - low), 1e-6)
    if kind == "inverted":
        new = 1 - level
    elif kind == "gamma":
        power = float(rng.choice([0.4, 0.6, 1.7, 2.5]))
        new = np.clip(level, 0, None) ** power
    else:
        places = np.linspace(0, 1, 7)
        rises = rng.uniform(0.05, 1, 6)
        if kind == "wavy":
            rises *= np.where(np.arange(6) // 2 % 2 == 0, 1, -1) * rng.choice([-1, 1])
        curve = np.concatenate([[0], np.cumsum(rises)])
        curve = (curve - curve.min()) / np.ptp(curve)
        new = np.interp(level, places, curve)
    return replace(view, image=view.image.with_data((1000 * new).astype(np.float32)))
