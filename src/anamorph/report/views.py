"""The three views of a pair, and the place where they cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.evaluation.label_regions import label_boxes
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import Interpolation, sample
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.transforms.maps import Affine, Displacement, Transform

Voxel = tuple[int, int, int]

_COARSE = 48  # samples per axis that are enough to find where something is going on


def focus_voxel(
    image: Image,
    labels: Labels | None = None,
    points: Points | None = None,
    transform: Transform | None = None,
) -> Voxel:
    """The voxel through which to cut an image: amid the labels, else the landmarks, else where structure moves."""
    if labels is not None and (found := _amid_labels(labels)) is not None:
        return _nearest(image.grid, labels.grid.voxel_to_world(found))
    if points is not None and len(points):
        return _nearest(image.grid, np.median(points.positions_mm, axis=0))
    return _amid_structure(image, transform)


def _amid_labels(labels: Labels) -> np.ndarray | None:
    """Per axis the slice that shows most labels, each counted by its share of its own largest slice."""
    profiles = [np.zeros(n) for n in labels.grid.shape]
    for name, box in label_boxes(labels.data[0]).items():
        mask = labels.data[0][box] == name
        for axis, profile in enumerate(profiles):
            area = np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis))
            profile[box[axis]] += area / area.max()
    if not profiles[0].any():
        return None
    return np.array([np.flatnonzero(p >= 0.98 * p.max()).mean() for p in profiles])


def _amid_structure(image: Image, transform: Transform | None) -> Voxel:
    """The median position of image gradient, weighted by how far the map moves it."""
    steps = [max(1, n // _COARSE) for n in image.grid.shape]
    thin = tuple(slice(None, None, step) for step in steps)
    values = np.nan_to_num(image.data[0][thin].astype(np.float32))
    low, high = np.percentile(values, [1, 99])
    values = np.clip(values, low, high)
    energy = np.zeros(values.shape, np.float32)
    for axis, length in enumerate(values.shape):
        if length > 1:
            energy += np.abs(np.gradient(values, axis=axis))
    if transform is not None:
        vectors = transform.displacement_on(image.grid.thinned(steps)).disp_vox * np.reshape(steps, (3, 1, 1, 1))
        moved = np.linalg.norm(vectors - np.median(vectors, axis=(1, 2, 3), keepdims=True), axis=0)
        energy *= moved + max(float(moved.mean()), 1e-3)
    if not energy.any():
        energy += 1
    centre = []
    for axis, step in enumerate(steps):
        share = np.cumsum(energy.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64))
        centre.append(int(np.searchsorted(share, share[-1] / 2)) * step)
    return centre[0], centre[1], centre[2]


def _nearest(grid: Grid, position_mm: np.ndarray) -> Voxel:
    i, j, k = np.clip(np.rint(grid.world_to_voxel(position_mm)), 0, np.array(grid.shape) - 1).astype(int)
    return int(i), int(j), int(k)


# Plane: its normal, then what points to the right and down on the screen, as (world axis, sign) in RAS. Radiological
# convention: the patient's right is on the left of the screen, anterior up in axial and left in sagittal views.
_PLANES = {
    "axial": (2, (0, -1), (1, -1)),
    "coronal": (1, (0, -1), (2, -1)),
    "sagittal": (0, (1, -1), (2, -1)),
}
_WORTH_STACKING = 1.2  # a row is easier to read, so stacking has to make the views noticeably larger
_LETTERS = {(0, 1): "R", (0, -1): "L", (1, 1): "A", (1, -1): "P", (2, 1): "S", (2, -1): "I"}


@dataclass(frozen=True)
class View:
    """One slice of a grid as it is shown: upright, in radiological convention.

    Args:
        name: axial, coronal or sagittal (the nearest of them for an oblique grid).
        grid: of the volume.
        axis: array axis across the slice.
        index: of the slice along that axis.
        right: array axis that runs along the screen's rows, and +1 or -1 for its direction to the right.
        down: the same for the columns.
        letters: anatomical directions at the left, right, top and bottom edge.
    """

    name: str
    grid: Grid
    axis: int
    index: int
    right: tuple[int, int]
    down: tuple[int, int]
    letters: tuple[str, str, str, str]

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.shape[self.down[0]], self.grid.shape[self.right[0]]

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Height and width of a pixel."""
        return float(self.grid.spacing_mm[self.down[0]]), float(self.grid.spacing_mm[self.right[0]])

    @property
    def height_mm(self) -> float:
        """Extent from top to bottom."""
        return self.pixels[0] * self.pixel_mm[0]

    @property
    def width_mm(self) -> float:
        """Extent from left to right."""
        return self.pixels[1] * self.pixel_mm[1]

    @property
    def slice_grid(self) -> Grid:
        """The slice as a grid of its own, one voxel thick."""
        return self._planes(self.index, self.index + 1)

    def _planes(self, first: int, end: int) -> Grid:
        box = [slice(0, n) for n in self.grid.shape]
        box[self.axis] = slice(first, end)
        return self.grid.cropped((box[0], box[1], box[2]))

    def displacement(self, transform: Transform) -> Displacement:
        """A map on this slice alone."""
        return transform.displacement_on(self.slice_grid)

    def determinants(self, transform: Transform) -> np.ndarray:
        """Of a map on this slice, one voxel thick, by differences between the voxels of the whole grid."""
        first, end = max(self.index - 1, 0), min(self.index + 2, self.grid.shape[self.axis])
        found = transform.jacobian_determinant(self._planes(first, end))
        return np.take(found, [self.index - first], axis=self.axis)

    def take(self, volume: np.ndarray) -> np.ndarray:
        """``(rows, columns)`` of an ``(I, J, K)`` volume on the grid or on ``slice_grid``; a view, not a copy."""
        where: list[int | slice] = [slice(None)] * 3
        where[self.axis] = self.index if volume.shape[self.axis] > 1 else 0
        flat = volume[tuple(where)]
        if self.down[0] > self.right[0]:
            flat = flat.T
        return flat[:: self.down[1], :: self.right[1]]

    def take_image(self, image: Image, interpolation: Interpolation = "linear", fill: float = 0.0) -> np.ndarray:
        """``(rows, columns)`` of an image's first channel, whatever its grid, at the world positions of this slice."""
        if image.grid.matches(self.grid):
            return self.take(image.data[0])
        positions = Affine.identity().moving_positions(self.slice_grid, image.grid)
        return self.take(sample(image.data[:1], positions, interpolation, fill)[0])

    def screen_displacement_mm(self, disp_vox: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parts of a ``(3, I, J, K)`` voxel displacement that point right and down on the screen."""
        right, down = (
            self.take(disp_vox[axis]) * (sign * self.grid.spacing_mm[axis]) for axis, sign in (self.right, self.down)
        )
        return right, down


def orthogonal_views(grid: Grid, centre_vox: tuple[int, int, int]) -> list[View]:
    """Axial, coronal and sagittal view through a voxel; one view for a 2D image."""
    import nibabel

    orientation = nibabel.io_orientation(grid.affine)
    array_axis = {int(world): axis for axis, (world, _) in enumerate(orientation)}
    sign = {int(world): int(flip) for world, flip in orientation}
    views = []
    for name, (normal, right, down) in _PLANES.items():
        axis = array_axis[normal]
        letters = tuple(_LETTERS[world, s * d] for world, s in (right, down) for d in (-1, 1))
        views.append(
            View(
                name,
                grid,
                axis,
                centre_vox[axis],
                (array_axis[right[0]], right[1] * sign[right[0]]),
                (array_axis[down[0]], down[1] * sign[down[0]]),
                (letters[0], letters[1], letters[2], letters[3]),
            )
        )
    flat = [view for view in views if min(view.pixels) > 1]
    return flat or views


def columns(views: list[View], box: tuple[float, float] = (930.0, 470.0)) -> list[list[View]]:
    """Arrange views, all at one scale, so that they are as large as possible within a box (width, height).

    Side by side, or one beside two stacked ones, which suits thick slices.
    """

    def scale(arrangement: list[list[View]]) -> float:
        width = sum(max(view.width_mm for view in column) for column in arrangement)
        height = max(sum(view.height_mm for view in column) for column in arrangement)
        return min(box[0] / width, box[1] / height)

    in_a_row = [[view] for view in views]
    if len(views) != 3:
        return in_a_row
    stacked = max(([[view], [other for other in views if other is not view]] for view in views), key=scale)
    return stacked if scale(stacked) > _WORTH_STACKING * scale(in_a_row) else in_a_row
