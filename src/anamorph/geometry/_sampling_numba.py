# mypy: allow-untyped-defs
"""Fused CPU kernels of sampling; the readable twins are in ``sampling.py``.

Positions are ``(3, N)`` float32 voxel coordinates. ``clamp`` repeats the border; otherwise a position more than half a
voxel outside takes the fill value, which is also ITK's rule.
"""

import numpy as np
from numba import njit

f32 = np.float32


@njit
def corner(x, n):
    """Lower corner, its neighbour and the weight of the neighbour for a coordinate clamped to ``[0, n - 1]``."""
    # Not a number ends at 0: it must never become an index.
    x = min(x, f32(n - 1)) if x > f32(0) else f32(0)
    low = min(int(x), max(n - 2, 0))
    return low, min(low + 1, n - 1), x - f32(low)
