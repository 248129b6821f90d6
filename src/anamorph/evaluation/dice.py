from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anamorph.evaluation.label_regions import voxel_counts
from anamorph.image import Labels


def dice(fixed: Labels, warped: Labels, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Overlap ``2 |A and B| / (|A| + |B|)`` of each label, between 0 and 1 (Dice 1945).

    Args:
        fixed: the reference.
        warped: the other label map on the same grid.
        labels: which labels to compare; those of ``fixed`` by default. One that occurs in neither map is left out, one
            that was warped to nothing scores 0.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = fixed.data[0], warped.data[0]
    if a.shape != b.shape:
        raise ValueError(f"label maps of shapes {a.shape} and {b.shape} are not on the same grid")
    in_a, in_b, in_both = voxel_counts(a), voxel_counts(b), voxel_counts(np.where(a == b, a, 0))
    wanted = sorted(in_a if labels is None else labels)
    totals = {name: in_a.get(name, 0) + in_b.get(name, 0) for name in wanted}
    return {name: 2 * in_both.get(name, 0) / total for name, total in totals.items() if total}
