"""What to do to every scan: its new grid, how it is read there, and the range of its intensities."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import body_centre_mm
from anamorph.geometry.averaging import pool_volume
from anamorph.geometry.grid import Grid
from anamorph.image.background import background_value, cast_like, looks_like_ct
from anamorph.image.image import Image, Mask
from anamorph.transforms.maps import Affine, Transform

Crop = Literal["none", "body"]
Normalise = Literal["none", "percentile", "zscore"]
Align = Literal["none", "translation", "rigid", "affine"]
PERCENTILES = (1.0, 99.0)
_NOT_CT = re.compile(r"\b(MR\w*|T[12]\w*|FLAIR|PET|US|ultrasound)\b", re.IGNORECASE)


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


def wanted_grid(image: Image, settings: PreprocessSettings, is_ct: bool) -> Grid:
    """The grid that the settings ask for: the axes of the scan, the spacing, and the shape around the centre.

    At the scan's own spacing the voxels are those of the scan, so that cropping and padding copy values.
    """
    grid = image.grid if settings.spacing_mm is None else image.grid.resampled(settings.spacing_mm)
    if settings.shape is None:
        return grid
    centre = grid.centre_mm
    if settings.crop == "body":
        centre = body_centre_mm(resample(image, Affine.identity(), grid), is_ct)
    start = grid.world_to_voxel(centre) - (np.array(settings.shape) - 1) / 2
    if settings.spacing_mm is None:
        start = np.floor(start + 0.5)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world(start)
    return Grid(settings.shape, affine)


def resample(image: Image, to_image: Transform, grid: Grid) -> Image:
    """Read a scan on a grid through a map of the grid's world to the scan's, keeping its dtype.

    A scan of finer voxels is averaged over whole voxels first, so that its noise does not alias. Where it has no voxel
    the result is air for CT, else the minimum.
    """
    factor = np.maximum(np.floor(grid.finest_mm / image.grid.spacing_mm + 1e-6), 1)
    cell = tuple(int(f) for f in np.minimum(factor, image.grid.shape))
    background = background_value(image)
    if max(cell) > 1:
        averaged = pool_volume(image.data, cell)  # type: ignore[arg-type]
        source = Image(averaged, image.grid.pooled(cell), image.name)  # type: ignore[arg-type]
    else:
        source = image
    warped = to_image.warp_image(source, grid, background)
    return Image(cast_like(warped.data, image.data.dtype), grid, image.name)


def is_ct(image: Image, modality: str) -> bool:
    """Whether a scan holds Hounsfield units: as the data set names its modality, if the name tells, else by values."""
    if "CT" in modality.upper():
        return True
    return not _NOT_CT.search(modality) and looks_like_ct(image)


def intensity_steps(image: Image, mask: Mask | None, settings: PreprocessSettings, ct: bool) -> dict[str, Any]:
    """What to do to the intensities of a scan, in numbers, from its original voxels.

    Statistics are taken over the mask, else over the voxels above the lowest value, which is the background.

    Returns:
        ``{"windows": [[low, high], ...]}``, ``{"offset": a, "scale": s, "clip": bool}`` for ``(value - a) / s``, or
        nothing.

    Raises:
        UserError: windows for a scan of several channels, or a scan without contrast.
    """
    if ct and settings.windows:
        if image.channels != 1:
            raise UserError(f"{image.name} has {image.channels} channels; windows are for scans of one")
        return {"windows": [list(window) for window in settings.windows]}
    if settings.normalise == "none":
        return {}
    values = image.data[:, mask.data[0] > 0] if mask is not None else image.data[image.data > image.data.min()]
    if settings.normalise == "percentile":
        low, high = np.percentile(values, PERCENTILES)
        offset, scale = float(low), float(high - low)
    else:
        offset, scale = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not scale > 0:
        raise UserError(f"{image.name}: the voxels that count have no contrast; is the mask right?")
    return {"offset": offset, "scale": scale, "clip": settings.normalise == "percentile"}


def apply_steps(image: Image, steps: dict[str, Any]) -> Image:
    """Do the steps to a scan: float32, one channel per window."""
    if not steps:
        return image
    if "windows" in steps:
        channels = [
            np.clip((image.data[0].astype(np.float32) - low) / (high - low), 0, 1) for low, high in steps["windows"]
        ]
        return image.with_data(np.stack(channels))
    values = (image.data.astype(np.float32) - np.float32(steps["offset"])) / np.float32(steps["scale"])
    return image.with_data(np.clip(values, 0, 1) if steps["clip"] else values)
