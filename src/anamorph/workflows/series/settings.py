"""How the frames of a series are registered, and which frame the others are brought to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.errors import UserError
from anamorph.features.intensity import prepared_channels
from anamorph.geometry.averaging import pool_volume
from anamorph.image.series import ImageSeries
from anamorph.methods import find_method

Target = Literal["reference", "mean"]
LOOKED_AT = 24
"""Cells along each axis that frames are compared by."""
OWN = {"init": "world", "guide": "none"}
"""Settings of methods that have them: frames share a world, and tell more of each other than a network knows."""


@dataclass(frozen=True)
class SeriesSettings:
    """What becomes of a series.

    Args:
        reference: number of the frame that stays, from 0; None is the first frame of a cycle, else the frame that is
            most like all others.
        to: register all frames to the reference, or to the mean of all frames, which has the place of the reference.
        iterations: at most so many rounds of registering and averaging, for the mean.
        smoothing: of the velocity fields over time: a strength, 0 for none, or ``"auto"`` for the one that
            cross-validation chooses.
        cyclic: the first frame follows the last one, as in a heart beat.
        axis: 0, 1 or 2 for the axis of the grid that labels turn around; found from each label by default.

    Raises:
        UserError: a value out of its range.
    """

    reference: int | None = None
    to: Target = "reference"
    iterations: int = 2
    smoothing: float | Literal["auto"] = "auto"
    cyclic: bool = False
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.to not in get_args(Target):
            raise UserError(f"--to takes reference or mean, not '{self.to}'")
        if self.iterations < 1:
            raise UserError(f"--iterations must be at least 1, not {self.iterations}")
        if self.smoothing != "auto" and not 0 <= self.smoothing < np.inf:
            raise UserError(f"--smooth takes auto, off or a strength >= 0, not {self.smoothing}")
        if self.axis not in (None, 0, 1, 2):
            raise UserError(f"the axis must be 0, 1 or 2, not {self.axis}")


def find_reference(series: ImageSeries, settings: SeriesSettings, drawn: bool) -> int:
    """The number of the frame that the others are brought to.

    Args:
        series: the frames.
        settings: of the series.
        drawn: labels or masks of the reference are given.

    Raises:
        UserError: there is no such frame, or labels or masks belong to a frame that nobody named.
    """
    if settings.reference is not None:
        if not 0 <= settings.reference < len(series):
            raise UserError(f"--reference must be a frame from 0 to {len(series) - 1}, not {settings.reference}")
        return settings.reference
    if drawn:
        raise UserError("labels and masks belong to one frame; name it with --reference, counted from 0")
    return 0 if settings.cyclic else most_alike(series)


def most_alike(series: ImageSeries) -> int:
    """The frame with the least mean absolute difference from all others, seen coarsely."""
    cell = tuple(max(1, n // LOOKED_AT) for n in series.grid.shape)
    seen = np.stack([pool_volume(prepared_channels(frame), cell).ravel() for frame in series.frames])  # type: ignore[arg-type]
    apart = [float(np.abs(seen - one).mean(axis=1).sum()) for one in seen]
    return int(np.argmin(apart))


def within_a_series(wanted: RegistrationSettings) -> RegistrationSettings:
    """The settings of each registration: those for frames of one patient, unless the user gave others."""
    known, given = find_method(wanted.method).Config.__dataclass_fields__, wanted.settings
    named = {text.partition("=")[0].strip() for text in given}
    own = tuple(f"{key}={value}" for key, value in OWN.items() if key in known and key not in named)
    return replace(wanted, settings=(*own, *given))
