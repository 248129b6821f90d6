from __future__ import annotations

import numpy as np

SHIFT = 3
LIMITS = (1e-9, 1e9)
BORDER = 2


def sdlogj(jacobian: np.ndarray, mask: np.ndarray | None = None) -> float:
    """What the evaluator calls SDlogJ: the standard deviation of ``log(clip(det + 3, 1e-9, 1e9))``.

    It is no standard deviation of the log Jacobian; see :func:`anamorph.evaluation.jacobian_summary` for that.

    Args:
        jacobian: ``(I, J, K)`` determinants by central differences; the two outermost voxels on each side are left out
            (on axes that have more than four).
        mask: ``(I, J, K)`` of the fixed image; only voxels of value 1 count. Everything by default.

    Returns:
        NaN where no voxel counts.
    """
    shifted = _shifted(jacobian)
    values = shifted.ravel() if mask is None else shifted[_inner(mask) == 1]
    return float(np.log(values).std(dtype=np.float64)) if values.size else float("nan")


def foldings_counted(jacobian: np.ndarray) -> float:
    """What the evaluator reports as ``num_foldings``: never above 0, as it counts after clipping to positive values."""
    return float(np.count_nonzero(_shifted(jacobian) <= 0))


def _shifted(jacobian: np.ndarray) -> np.ndarray:
    return np.clip(_inner(jacobian) + np.float32(SHIFT), *LIMITS)


def _inner(volume: np.ndarray) -> np.ndarray:
    return volume[tuple(slice(BORDER, -BORDER) if n > 2 * BORDER else slice(None) for n in volume.shape)]
