"""The mean of scans that lie on one grid, whatever their intensities and fields of view."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import prepared_channels
from anamorph.geometry import Grid
from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.sampling import sample
from anamorph.image import Image, Mask
from anamorph.image.background import looks_like_ct
from anamorph.transforms import Transform


class MeanImage:
    """Adds up scans, each read once from its original voxels; a voxel is the mean of the scans that reach it.

    CT stays in HU; other scans count with their 1st percentile as 0 and their 99th as 1, cut off at 1.2, so that no
    single scan or bright voxel rules the mean.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.total: np.ndarray | None = None
        self.reached = np.zeros(grid.shape, np.int32)
        self.count = 0
        self.is_ct = False

    def add(self, image: Image, to_scan: Transform) -> None:
        """Add a scan by the map of the template's points to its own.

        Raises:
            UserError: it is a CT among other scans, or the reverse.
        """
        if self.total is None:
            self.total = np.zeros((image.channels, *self.grid.shape), np.float64)
            self.beyond = np.zeros_like(self.total)
            self.is_ct = looks_like_ct(image)
        if looks_like_ct(image) != self.is_ct or image.channels != len(self.total):
            raise UserError(
                f"{image.name} does not look like the scans before it (CT with air around it or not, or channels); "
                "a template needs scans of one kind"
            )
        positions = to_scan.moving_positions(self.grid, image.grid)
        ends = np.array(image.grid.shape, np.float32).reshape(3, 1, 1, 1) - 0.5
        inside = ((positions >= -0.5) & (positions <= ends)).all(axis=0)
        values = sample(prepared_channels(image), positions)
        self.total += np.where(inside, values, 0)
        self.beyond += values
        self.reached += inside
        self.count += 1

    def image(self, name: str, sharpening: float = 0.0) -> Image:
        """The mean so far, float32, of at least one scan.

        Args:
            name: of the image.
            sharpening: how much of what smoothing by one voxel removes is added.
        """
        assert self.total is not None
        mean = np.where(
            self.reached > 0,
            self.total / np.maximum(self.reached, 1),
            self.beyond / self.count,
        )
        mean = mean.astype(np.float32)
        if sharpening > 0:
            mean += sharpening * (mean - box_smooth(mean))
        return Image(mean, self.grid, name)

    def support(self, name: str) -> Mask:
        """``(I, J, K)`` float32: the share of the scans that reach a voxel, its weight in registrations."""
        return Mask((self.reached / self.count).astype(np.float32), self.grid, name)
