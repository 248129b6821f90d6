from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SOFT_TISSUE_HU = (-160.0, 240.0)
LUNG_HU = (-1000.0, 200.0)

Window = tuple[float, float]


def robust_window(slices: Iterable[np.ndarray]) -> Window:
    """The range of intensities worth showing: 1st to 98th percentile of what is not background."""
    values = np.concatenate([part[np.isfinite(part)].ravel() for part in slices])
    if values.size == 0:
        return 0.0, 1.0
    inside = values[values > values.min()]
    low, high = np.percentile(inside if inside.size else values, [1, 98])
    return float(low), float(high)


def ct_window(slices: Iterable[np.ndarray]) -> Window:
    """A soft tissue window, or one that reaches down to the lungs when they fill much of what is inside the body."""
    values = np.concatenate([part[np.isfinite(part)].ravel() for part in slices])
    body = max(int(np.count_nonzero(values > -950)), 1)
    return LUNG_HU if np.count_nonzero((values > -950) & (values < -500)) > 0.3 * body else SOFT_TISSUE_HU


def pair_windows(fixed: Sequence[np.ndarray], moving: Sequence[np.ndarray], both_ct: bool) -> tuple[Window, Window]:
    """The windows of a fixed and a moving scan from slices of both: one for both if they are CT."""
    if both_ct:
        return (ct_window([*fixed, *moving]),) * 2
    return robust_window(fixed), robust_window(moving)


def to_grey(values: np.ndarray, window: Window) -> np.ndarray:
    """Intensities as 8-bit grey values; what is not finite becomes black."""
    low, high = window
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0), 0, 255).astype(np.uint8)
