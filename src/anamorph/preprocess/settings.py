"""What to do to every scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from anamorph.errors import UserError

Crop = Literal["none", "body"]
Normalise = Literal["none", "percentile", "zscore"]
Align = Literal["none", "translation", "rigid", "affine"]


@dataclass(frozen=True)
class PreprocessSettings:
    """The steps; one that is not asked for is left out.

    Args:
        spacing_mm: isotropic voxel size; the scan's own by default.
        shape: voxels along each axis, cropped or padded; what covers the scan by default.
        crop: where the shape is centred: ``none`` in the field of view, ``body`` in the body.
        windows: ``(low, high)`` of CT in HU; each becomes a channel, 0 at ``low`` and 1 at ``high``, clipped.
        normalise: other scans (and CT without windows): ``percentile`` maps the 1st and 99th to 0 and 1, clipped;
            ``zscore`` to mean 0 and standard deviation 1.
        align: linear map to the reference, whose grid all scans then share.
        reference: the key of a scan, such as ``0001_0000``.

    Raises:
        UserError: values that cannot be used, or steps that need another one.
    """

    spacing_mm: float | None = None
    shape: tuple[int, int, int] | None = None
    crop: Crop = "none"
    windows: tuple[tuple[float, float], ...] = ()
    normalise: Normalise = "none"
    align: Align = "none"
    reference: str | None = None

    def __post_init__(self) -> None:
        for name, kind in (("crop", Crop), ("normalise", Normalise), ("align", Align)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(f"--{name} must be one of {', '.join(get_args(kind))}, not '{getattr(self, name)}'")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < math.inf:
            raise UserError(f"--spacing must be a positive number of mm, not {self.spacing_mm}")
        if self.shape is not None and min(self.shape) < 1:
            raise UserError(f"--shape needs at least one voxel along each axis, not {self.shape}")
        if self.crop == "body" and self.shape is None:
            raise UserError("--crop body needs the size to crop to; add --shape I,J,K")
        for low, high in self.windows:
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"--window wants LOW,HIGH with LOW below HIGH, not {low:g},{high:g}")
        if (self.align == "none") != (self.reference is None):
            raise UserError("--align and --reference go together: a linear map, and the scan to which it leads")
        steps = (self.spacing_mm, self.shape, self.windows, self.reference)
        if not any(steps) and self.normalise == "none":
            raise UserError("nothing to do; ask for --spacing, --shape, --window, --normalise or --align")
