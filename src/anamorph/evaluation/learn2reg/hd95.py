from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from anamorph.evaluation.learn2reg.surface import SurfaceElements


def hd95_vox(
    fixed: Mapping[int, SurfaceElements],
    warped: Mapping[int, SurfaceElements],
    in_moving: Collection[int],
    labels: Iterable[int],
) -> list[float]:
    """95 % Hausdorff distance of each label **in voxels**, whatever the spacing, as the evaluator computes it.

    The larger of the two directed distances below which surface elements of 95 % of the area lie (Nikolov et al. 2021,
    ``surface-distance``).

    Args:
        fixed: :func:`surface_elements` of the fixed map.
        warped: the moving label map on the fixed grid.
        in_moving: labels that occur in the moving map before warping.
        labels: which labels, in the order of the result.

    Returns:
        One value per label: NaN if it is missing in the fixed or in the unwarped moving map, infinite if it was lost in
        warping.
    """
    distances = []
    for name in labels:
        if name not in fixed or name not in in_moving:
            distances.append(float("nan"))
        elif name not in warped:
            distances.append(float("inf"))
        else:
            a, b = fixed[name], warped[name]
            distances.append(max(_directed(a, b), _directed(b, a)))
    return distances


def _directed(a: SurfaceElements, b: SurfaceElements) -> float:
    distances = b.tree.query(a.cells)[0]
    order = np.lexsort((a.areas, distances))  # as the original sorts, so that sums round alike
    reached = np.cumsum(a.areas[order]) / np.sum(a.areas[order])
    return float(distances[order][min(np.searchsorted(reached, 0.95), len(order) - 1)])
