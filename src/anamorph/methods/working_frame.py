"""The common grid on which a method compares two images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from anamorph.features.intensity import BODY_HU, body_mask, prepared_channels
from anamorph.geometry.averaging import Cell, pool_volume
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.background import content_box, shown_part
from anamorph.image.image import Image, Mask
from anamorph.transforms.maps import Reading, Transform

AIR_REACH_MM = 10.0
"""Air this close to the body counts: its outline is information."""
MASKED = 0.2
"""Share of the voxels that have the lowest value."""


@dataclass(frozen=True)
class Scan:
    """A scan prepared for comparison: channels ``(C, I, J, K)``, weights ``(I, J, K)`` and their grid.

    ``is_placed`` says whether the header knew where the scan is: an origin of exactly 0 is what writers leave that know
    nothing. ``name`` is that of the image, for messages.
    """

    channels: np.ndarray
    weight: np.ndarray
    grid: Grid
    is_placed: bool = True
    name: str = ""
    _averages: dict[Cell, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def prepare(cls, image: Image, mask: Mask | None) -> Scan:
        """Leave out margins of padding, scale the intensities of what the mask holds, and make the weight."""
        is_placed = bool((image.grid.origin_mm != 0).any())
        box = content_box(image)
        if box is not None:
            image, mask = image.cropped(box), None if mask is None else mask.cropped(box)
        shown = shown_part(image)
        if shown is not None:
            mask = Mask(shown[None] * (np.float32(1) if mask is None else mask.data), image.grid)
        channels = prepared_channels(within(image, mask))
        if mask is None:
            return cls(channels, np.ones(image.grid.shape, np.float32), image.grid, is_placed, image.name)
        return cls(channels, np.clip(mask.data[0], 0, 1).astype(np.float32), image.grid, is_placed, image.name)

    def without(self, voxels: np.ndarray) -> Scan:
        """The scan in which some voxels ``(I, J, K)`` have no influence."""
        from scipy.ndimage import find_objects, label

        channels = self.channels.copy()
        # The nearest voxels that count are beside each piece: the rest of the scan need not be searched.
        for box in find_objects(label(voxels)[0]):
            sides = zip(box, voxels.shape, strict=True)
            i, j, k = (slice(max(side.start - 1, 0), min(side.stop + 1, n)) for side, n in sides)
            grid = self.grid.cropped((i, j, k))
            part = within(Image(channels[:, i, j, k], grid), Mask(~voxels[None, i, j, k], grid))
            channels[:, i, j, k] = part.data
        return Scan(channels, np.where(voxels, np.float32(0), self.weight), self.grid, self.is_placed, self.name)

    @property
    def image(self) -> Image:
        """The prepared channels as an image."""
        return Image(self.channels, self.grid)

    @cached_property
    def is_masked(self) -> bool:
        """Whether much of the scan is one value, its lowest, as around a brain without its skull."""
        return bool(np.mean(self.channels[0] == self.channels[0].min()) > MASKED)

    def onto(self, grid: Grid, transform: Transform | None = None) -> Scan:
        """The scan read on another grid, averaged first when that is coarser; no weight where the scan has no voxel."""
        if transform is None and grid == self.grid:
            return self
        reading = Reading.of(self.grid, grid, transform)
        channels, weight = self._averaged(reading.cell)
        return Scan(sample(channels, reading.positions), sample(weight, reading.positions, fill=0.0)[0], grid)

    def channels_on(self, grid: Grid, transform: Transform) -> np.ndarray:
        """The channels of :meth:`onto` alone."""
        reading = Reading.of(self.grid, grid, transform)
        return sample(self._averaged(reading.cell)[0], reading.positions)

    def _averaged(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """Channels and weight averaged over cells, kept because searches read a scan from few sizes many times."""
        if cell not in self._averages:
            self._averages[cell] = pool_volume(self.channels, cell), pool_volume(self.weight[None], cell)
        return self._averages[cell]


def within(image: Image, mask: Mask | None) -> Image:
    """The image with every voxel of no weight replaced by the nearest one of some, so that it has no influence."""
    if mask is None or (mask.data[0] > 0).all() or not (mask.data[0] > 0).any():
        return image
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(
        mask.data[0] <= 0, sampling=image.grid.spacing_mm, return_distances=False, return_indices=True
    )
    return image.with_data(np.ascontiguousarray(image.data[(slice(None), *nearest)]))


def body_weight(scan: Scan, is_ct: bool, reach_mm: float, background: float, dark: float | None = None) -> np.ndarray:
    """The weight of a scan with the air around the body turned down to ``background``.

    Args:
        scan: prepared scan.
        is_ct: other modalities have no calibrated air.
        reach_mm: air this close to the body still counts: its outline is information.
        background: factor for the rest.
        dark: what counts as air in scans that are no CT, as a share of their range; None leaves their weight.
    """
    if background >= 1 or not (is_ct or dark):
        return scan.weight
    above = BODY_HU if dark is None or is_ct else dark
    near = body_mask(scan.channels[0], scan.grid, reach_mm, above)
    return scan.weight * np.where(near, np.float32(1), np.float32(background))


@dataclass(frozen=True)
class Side:
    """A scan read on the working grid, and how much each voxel ``(I, J, K)`` counts in the comparison.

    ``translated`` is the scan with its intensities in those of the other one, where these are compared and not its own.
    """

    scan: Scan
    weight: np.ndarray
    translated: Scan | None = None

    @classmethod
    def of(cls, scan: Scan, is_ct: bool, air_weight: float, translated: Scan | None = None) -> Side:
        """Weight what is body: see :func:`body_weight`."""
        return cls(scan, body_weight(translated or scan, is_ct, AIR_REACH_MM, air_weight), translated)


def covering_grid(grid: Grid, directions: np.ndarray, spacing_mm: float) -> Grid:
    """A grid with given axes and equal spacing over the field of view of another; a single-voxel axis stays single."""
    corners = grid.corners_mm() @ np.linalg.inv(directions).T
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.maximum(np.ceil((high - low) / spacing_mm - 1e-6), 1).astype(int)
    steps = np.full(3, spacing_mm)
    if grid.is_2d:
        shape[2], steps[2] = 1, high[2] - low[2]
    affine = np.eye(4)
    affine[:3, :3] = directions * steps
    affine[:3, 3] = directions @ ((low + high) / 2 - (shape - 1) / 2 * steps)
    return Grid(tuple(shape), affine)
