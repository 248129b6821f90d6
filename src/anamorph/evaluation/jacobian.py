from __future__ import annotations

import numpy as np

from anamorph.evaluation.learn2reg.sdlogj import sdlogj as sdlogj_learn2reg

LOG_DET_LIMITS = (1e-3, 1e3)
EXTREME_VOLUME_CHANGE = 10.0


def jacobian_summary(jacobian: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """What the Jacobian determinants of a map say about it.

    Args:
        jacobian: ``(I, J, K)`` determinants; 1 is unchanged volume.
        mask: ``(I, J, K)``; only voxels above 0 count. Everything by default.

    Returns:
        ``folding_percent``: voxels with ``det <= 0`` (or not a number), of all voxels.
        ``extreme_volume_percent``: voxels that are unfolded and shrink or grow more than tenfold.
        ``sdlogj``: standard deviation of ``log det`` over unfolded voxels; determinants are clipped to [1e-3, 1e3], as
        a few voxels just short of folding would otherwise rule the number.
        ``sdlogj_learn2reg``: what Learn2Reg's evaluation calls SDlogJ, for comparison with its tables only: the
        standard deviation of ``log(clip(det + 3, 1e-9, 1e9))`` without the two outermost voxels on each side. It is not
        a standard deviation of the log Jacobian.
        ``min``, ``max``, ``mean``: of the determinants. NaN where no voxel counts.
    """
    learn2reg = sdlogj_learn2reg(jacobian, None if mask is None else mask > 0)
    if mask is not None:
        jacobian = jacobian[mask > 0]
    if jacobian.size == 0:
        return dict.fromkeys(_NAMES, float("nan"))
    unfolded = jacobian[jacobian > 0]
    extreme = np.count_nonzero(unfolded > EXTREME_VOLUME_CHANGE) + np.count_nonzero(
        unfolded < 1 / EXTREME_VOLUME_CHANGE
    )
    values = (
        100 * (1 - unfolded.size / jacobian.size),
        100 * extreme / jacobian.size,
        _std(np.log(np.clip(unfolded, *LOG_DET_LIMITS))),
        learn2reg,
        jacobian.min(),
        jacobian.max(),
        jacobian.mean(dtype=np.float64),
    )
    return {name: float(value) for name, value in zip(_NAMES, values, strict=True)}


_NAMES = ("folding_percent", "extreme_volume_percent", "sdlogj", "sdlogj_learn2reg", "min", "max", "mean")


def _std(values: np.ndarray) -> float:
    return float(values.std(dtype=np.float64)) if values.size else float("nan")
