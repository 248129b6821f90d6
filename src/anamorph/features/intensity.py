"""Intensities prepared for comparison: CT in Hounsfield windows, other scans scaled by percentiles."""

from __future__ import annotations

from typing import Literal

import numpy as np

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
        return np.clip(image.data, CT_AIR_HU, CT_CEILING_HU).astype(np.float32)
    out = np.empty(image.data.shape, np.float32)
    for channel, values in zip(out, image.data, strict=True):
        low, high = np.percentile(values[::2, ::2, :: 2 if values.shape[2] > 1 else 1], PERCENTILES)
        if high <= low:
            low, high = float(values.min()), float(values.max())
        np.clip((values.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1.2, out=channel)
    return out


def intensity_lanes(channel: np.ndarray, kind: IntensityKind) -> list[np.ndarray]:
    """Up to four volumes in [0, 1.2] that compare one prepared channel: the CT windows, or the scaled values."""
    if kind == "ct":
        return [np.clip((channel - low) * np.float32(1 / (high - low)), 0, 1) for low, high in CT_WINDOWS_HU]
    return [channel] if kind == "scaled" else []
