"""What intensities say: CT in Hounsfield windows and other scans scaled to be compared, and where the body is."""

from __future__ import annotations

from typing import Literal

import numpy as np

from anamorph.geometry.averaging import box_smooth, pool_volume
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.image.background import CT_AIR_HU, looks_like_ct
from anamorph.image.image import Image

IntensityKind = Literal["ct", "scaled", "none"]
"""How the intensities of a pair compare: calibrated, scaled per image, or not at all (different modalities)."""

CT_WINDOWS_HU = ((-160.0, 240.0), (-1000.0, -100.0), (150.0, 950.0))
"""Soft tissue, air to fat, bone."""
CT_CEILING_HU = 1500.0
"""Metal and dense bone above this say nothing about position."""
PERCENTILES = (1.0, 99.0)


def comparable_intensities(fixed: Image, moving: Image) -> IntensityKind:
    """How far the intensities of two scans can be compared, from their values alone."""
    kinds = {looks_like_ct(fixed), looks_like_ct(moving)}
    if kinds == {True}:
        return "ct"
    return "scaled" if kinds == {False} else "none"


def prepared_channels(image: Image) -> np.ndarray:
    """``(C, I, J, K)`` float32: HU without metal for CT, else channels scaled so that their percentiles are 0 and 1."""
    if looks_like_ct(image):
        hounsfield = image.data.astype(np.float32)
        return np.clip(hounsfield, CT_AIR_HU, CT_CEILING_HU, out=hounsfield)
    out = np.empty(image.data.shape, np.float32)
    for channel, values in zip(out, image.data, strict=True):
        low, high = np.percentile(values[::2, ::2, :: 2 if values.shape[2] > 1 else 1], PERCENTILES)
        if high <= low:
            low, high = float(values.min()), float(values.max())
        np.clip((values.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1.2, out=channel)
    return out


INTENSITY_LANES: dict[IntensityKind, int] = {"ct": len(CT_WINDOWS_HU), "scaled": 1, "none": 0}
"""How many volumes :func:`intensity_lanes` makes of a channel."""


def intensity_lanes(channel: np.ndarray, kind: IntensityKind) -> list[np.ndarray]:
    """The volumes in [0, 1.2] that compare one prepared channel: the CT windows, or the scaled values."""
    if kind == "ct":
        return [np.clip((channel - low) * np.float32(1 / (high - low)), 0, 1) for low, high in CT_WINDOWS_HU]
    return [channel] if kind == "scaled" else []


LOCAL_RADIUS = 2
"""Voxels to each side of the box whose mean and deviation :func:`local_intensities` takes out."""
LOCAL_NOISE = 0.05
"""A deviation in the same units as the intensities, below which a box holds noise alone."""


def local_intensities(channel: np.ndarray, kind: IntensityKind) -> np.ndarray:
    """Intensities less the mean of the box around them, divided by its deviation; of a CT those of soft tissue.

    Their squared differences are small where the local correlation coefficient is large.

    Args:
        channel: ``(I, J, K)`` float32, prepared.
        kind: how intensities compare; not ``none``.

    Returns:
        ``(I, J, K)`` float32; axes too short for a box are taken plane by plane.
    """
    values = intensity_lanes(channel, kind)[0]
    i, j, k = (LOCAL_RADIUS if n > 2 * LOCAL_RADIUS else 0 for n in values.shape)
    mean: np.ndarray = box_smooth(values[None], (i, j, k))[0]
    variance = box_smooth(np.square(values)[None], (i, j, k))[0]
    variance -= np.square(mean)
    deviation = np.sqrt(np.maximum(variance, 0, out=variance) + np.float32(LOCAL_NOISE**2))
    return np.divide(np.subtract(values, mean, out=mean), deviation, out=mean)


BODY_HU = -500.0
"""Above this a CT voxel belongs to the body, the table or the clothes."""
CELL_MM = 8.0
LEAST_TISSUE = 0.03
"""Fraction of tissue from which a cell counts as body."""


def body_mask(values: np.ndarray, grid: Grid, reach_mm: float, above: float = BODY_HU) -> np.ndarray:
    """The body with a margin, air inside it (lungs, bowel) included.

    Air is outside when it is connected to the border of the scan at the sides, front or back; the head and foot ends do
    not count, since they cut through the lungs.

    Args:
        values: ``(I, J, K)``.
        grid: of the scan.
        reach_mm: margin, in which the outline is still information.
        above: a voxel of more belongs to the body; as it stands for Hounsfield units.

    Lengths are those of a patient, and in proportion for a scan of another size.

    Returns:
        ``(I, J, K)`` bool, in cells of about 8 mm.
    """
    from scipy.ndimage import label, maximum_filter

    spacing = grid.spacing_mm / patient_mm(grid)
    cell = tuple(int(c) for c in np.clip(np.rint(CELL_MM / spacing), 1, grid.shape))
    tissue = pool_volume((values > above)[None], cell)[0] > LEAST_TISSUE  # type: ignore[arg-type]
    regions, count = label(~tissue)
    lateral = [a for a in range(3) if grid.shape[a] > 1 and a != int(np.abs(grid.directions[2]).argmax())]
    if not lateral:
        return np.ones(grid.shape, bool)
    inside = np.ones(count + 1, bool)
    for axis in lateral:
        for end in (0, -1):
            inside[regions.take(end, axis=axis)] = False
    inside[0] = True
    inside = inside[regions]
    reach = np.maximum(np.rint(reach_mm / (spacing * cell)), 1).astype(int)
    near = maximum_filter(inside, 2 * reach + 1, mode="constant")
    for axis, size in enumerate(cell):
        near = near.repeat(size, axis=axis).take(np.arange(grid.shape[axis]), axis=axis)
    return near


TISSUE_HU = 250.0
"""Width of the window of soft tissue, from 0 HU."""


def body_centre_mm(image: Image, is_ct: bool) -> np.ndarray:
    """Centre of mass of the body, RAS mm.

    The weight of a CT voxel is ``sigmoid(10 - 10 |2 HU / 250 - 1|)``, about 1 for soft tissue, eroded by 3 x 3 x 3
    voxels against noise and thin structures such as the table (SLIC-Reg, Heinrich and Hansen 2021, published code).
    Other scans have no calibrated values: there it is the intensity between the 1st and 99th percentile, eroded alike.

    Args:
        image: the first channel counts.
        is_ct: whether its values are Hounsfield units.
    """
    from scipy.ndimage import minimum_filter

    weight = minimum_filter(body_share(image, is_ct), 3, mode="nearest")
    total = 1e-4 + weight.sum(dtype=np.float64)
    middle = (np.array(weight.shape) - 1) / 2
    offset = [
        (weight.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64) @ (np.arange(n) - middle[axis]))
        / total
        for axis, n in enumerate(weight.shape)
    ]
    return image.grid.voxel_to_world(middle + offset)


def body_share(image: Image, is_ct: bool) -> np.ndarray:
    """``(I, J, K)`` float32 in [0, 1]: soft tissue of a CT, else the intensity between its percentiles."""
    return tissue_weight(image.data[0]) if is_ct else np.minimum(prepared_channels(image)[0], 1)


def tissue_weight(hounsfield: np.ndarray) -> np.ndarray:
    """``sigmoid(10 - 10 |2 HU / 250 - 1|)`` in float32: 1 inside (0, 250) HU, half at its ends."""
    exponent = np.abs(hounsfield.astype(np.float32) * (2 / TISSUE_HU) - 1) * 10 - 10
    return 1 / (1 + np.exp(np.minimum(exponent, 80)))
