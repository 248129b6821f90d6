from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anamorph.evaluation.label_regions import voxel_counts


def dice(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> list[float]:
    """Overlap of each label between fixed and warped map, as the evaluator counts it.

    Args:
        fixed: ``(I, J, K)`` integers.
        moving: the label map before warping, on its own grid.
        warped: the moving map on the fixed grid.
        labels: which labels, in the order of the result.

    Returns:
        One value per label: NaN if it is missing in the fixed map or in the **unwarped** moving one, 0 if it was lost
        in warping.
    """
    in_fixed, in_moving, in_warped = voxel_counts(fixed), voxel_counts(moving), voxel_counts(warped)
    in_both = voxel_counts(np.where(fixed == warped, fixed, 0))
    return [
        2 * in_both.get(name, 0) / (in_fixed[name] + in_warped.get(name, 0))
        if name in in_fixed and name in in_moving
        else float("nan")
        for name in labels
    ]
