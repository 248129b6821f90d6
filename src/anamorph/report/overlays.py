from __future__ import annotations

import numpy as np


def fuse(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Two 8-bit grey slices as ``(rows, columns, 3)`` colours: fixed green, moving magenta, grey where they agree."""
    return np.stack([moving, fixed, moving], axis=-1)


def checkerboard(fixed: np.ndarray, moving: np.ndarray, pixel_mm: tuple[float, float], squares: int = 8) -> np.ndarray:
    """Squares of two grey slices by turns, ``squares`` along the longer side; square in millimetres."""
    side = max(n * size for n, size in zip(fixed.shape, pixel_mm, strict=True)) / squares
    row, column = (
        ((np.arange(n) + 0.5) * size / side).astype(int) for n, size in zip(fixed.shape, pixel_mm, strict=True)
    )
    return np.where((row[:, None] + column[None]) % 2 == 0, fixed, moving)
