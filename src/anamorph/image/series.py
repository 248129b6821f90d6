"""Scans in the order of time on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import SAME_GRID_MM, Grid
from anamorph.image.image import Image

FEWEST = 2


@dataclass(frozen=True, eq=False, repr=False)
class ImageSeries:
    """Scans of one grid in the order of time.

    Args:
        frames: at least two; headers that differ by rounding count as one grid, that of the first frame.
        frame_s: seconds between frames; None if nobody knows.
        name: what messages and reports call it.

    Raises:
        UserError: fewer than two frames, or one that differs from the first in grid, channels or type of voxels.
    """

    frames: tuple[Image, ...]
    frame_s: float | None = None
    name: str = "series"

    def __post_init__(self) -> None:
        if len(self.frames) < FEWEST:
            one = f"{self.name} holds {len(self.frames)} frame" + "s" * (len(self.frames) != 1)
            raise UserError(f"{one}; a series has at least {FEWEST}: name a 4D file, or a file for each frame")
        if self.frame_s is not None and not (np.isfinite(self.frame_s) and self.frame_s > 0):
            raise UserError(f"the time between frames must be positive seconds, not {self.frame_s}")
        first = self.frames[0]
        for number, frame in enumerate(self.frames):
            difference = _difference(first, frame)
            if difference is not None:
                raise UserError(
                    f"frame {number} ({frame.name}) {difference}; the frames of a series lie on one grid: resample "
                    f"them, or register pairs with `anamorph register`"
                )
        same = tuple(Image(frame.data, first.grid, frame.name) for frame in self.frames)
        object.__setattr__(self, "frames", same)

    def __repr__(self) -> str:
        every = "" if self.frame_s is None else f" every {self.frame_s:g} s"
        return f"ImageSeries({self.name!r}, {len(self)} frames{every} of {self.grid.description})"

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def grid(self) -> Grid:
        """The grid of all frames."""
        return self.frames[0].grid

    @property
    def times_s(self) -> list[float]:
        """The time of each frame in seconds after the first; its number where the time is not known."""
        return [number * (self.frame_s or 1.0) for number in range(len(self))]


def _difference(first: Image, frame: Image) -> str | None:
    """How a frame differs from the first one of its series; None if it does not."""
    if frame.grid.shape != first.grid.shape:
        return f"has shape {' x '.join(map(str, frame.grid.shape))}, not {' x '.join(map(str, first.grid.shape))}"
    if not frame.grid.matches(first.grid, SAME_GRID_MM):
        return f"lies {frame.grid.corner_distance_mm(first.grid):.3g} mm away from the first frame by its header"
    if frame.channels != first.channels:
        return f"has {frame.channels} channels, not {first.channels}"
    if frame.data.dtype != first.data.dtype:
        return f"has voxels of type {frame.data.dtype}, not {first.data.dtype}"
    return None
