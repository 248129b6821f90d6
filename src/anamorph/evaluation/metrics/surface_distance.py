from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.metrics.metric import Metric

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair


def average_surface_distances_mm(pair: RegisteredPair) -> dict[int, float]:
    """Average symmetric surface distance of each label in millimetres.

    The mean over the surface voxels of both maps of the distance to the nearest surface voxel of the other (Heimann et
    al. 2009); surfaces as in :func:`anamorph.evaluation.metrics.hausdorff.hd95_mm`.
    """
    return {
        label: float(np.concatenate([one.to_warped_mm, one.to_fixed_mm]).mean()) for label, one in pair.surfaces.items()
    }


AVERAGE_SURFACE_DISTANCE = Metric(
    name="asd_mm",
    title="Average surface distance",
    unit="mm",
    better="lower",
    measure=average_surface_distances_mm,
    needs=("labels",),
    per="label",
    meaning="mean symmetric distance between the surfaces of labels in mm; the diagonal of the image for a label that "
    "vanished",
    digits=2,
)
