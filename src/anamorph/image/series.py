"""Scans in the order of time on one grid, and their 4D file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import SAME_GRID_MM, Grid
from anamorph.image.image import Image
from anamorph.image.write import NIFTI_SUFFIXES, SCANNER, save_nifti

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


def write_series(series: ImageSeries, path: str | os.PathLike[str], world: int = SCANNER) -> None:
    """Write a series as one 4D NIfTI file, with the time between frames in the header.

    Args:
        series: frames of one type of voxels; label maps too.
        path: ends in .nii.gz or .nii; replaced only once the new file is complete.
        world: code of NIfTI for the world that the series lies in.

    Raises:
        UserError: another suffix, or an unwritable folder.
        RegistrationFailure: the disk is full.
    """
    import nibabel

    from anamorph.image.convert import place

    if not Path(path).name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"cannot write {Path(path).name} as a series: choose {' or '.join(NIFTI_SUFFIXES)}")
    # The first index runs fastest in the file, so each frame lies together in memory.
    frames = np.stack([np.moveaxis(frame.data, 0, -1) for frame in series.frames]).transpose(1, 2, 3, 0, 4)
    values = frames[..., 0] if frames.shape[4] == 1 else frames
    nifti = nibabel.Nifti1Image(values, series.grid.affine, dtype=values.dtype)
    place(nifti, series.grid, world)
    if series.frame_s is not None:
        nifti.header.set_zooms((*nifti.header.get_zooms()[:3], series.frame_s, *nifti.header.get_zooms()[4:]))
        nifti.header.set_xyzt_units("mm", "sec")
    save_nifti(nifti, path)
