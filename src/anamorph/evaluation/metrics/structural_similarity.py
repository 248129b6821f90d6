"""How alike two scans are in structure, whatever their intensities mean.

It is no measure of accuracy: smooth tissue looks alike everywhere, so a result at the wrong place may be more similar
than one at the right place. It serves to see that a registration made things worse; nothing else is concluded from it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.gates import Gate, loss
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.metric import Metric
from anamorph.features.intensity import comparable_intensities
from anamorph.features.mind_ssc import ENTRIES, mind_ssc
from anamorph.image.image import Image, Mask
from anamorph.methods.working_frame import Scan, body_weight
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair

VOXELS = 64
"""Along the longest axis: enough for organs, cheap for any scan."""
UNMATCHED = 0.12
"""Mismatch charged where the moving scan has no data, about that of unrelated tissue."""
BODY_REACH_MM = 10.0
IN_VIEW = 0.05
"""Share of the fixed body that the moving scan must show; of less there is nothing to say."""


def structural_similarity(
    fixed: Image,
    moving: Image,
    transforms: tuple[Transform, ...],
    fixed_mask: Mask | None = None,
    moving_mask: Mask | None = None,
) -> tuple[float | None, ...]:
    """One minus the mean squared difference of MIND-SSC entries over the fixed body, for each transform.

    Args:
        fixed: where the similarity is measured.
        moving: the other scan.
        transforms: fixed-to-moving maps to compare, such as the identity and a result.
        fixed_mask: weights; air around the body of a CT counts for nothing.
        moving_mask: where the moving scan has data.

    Returns:
        one number per transform; None where nearly nothing of the fixed body is in view of the moving scan.
    """
    scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
    return similarity_of_prepared(fixed, moving, scans, transforms)


def similarity_of_prepared(
    fixed: Image, moving: Image, scans: tuple[Scan, Scan], transforms: tuple[Transform, ...]
) -> tuple[float | None, ...]:
    """The structural similarity of prepared scans: preparing them takes longer than comparing."""
    here, there = scans
    is_ct = comparable_intensities(fixed, moving) == "ct"
    extent = np.array(fixed.grid.shape) * fixed.grid.spacing_mm
    grid = fixed.grid.resampled(np.maximum(extent.max() / VOXELS, fixed.grid.spacing_mm))
    here = here.onto(grid)
    weight = body_weight(here, is_ct, BODY_REACH_MM, 0.0)
    described = _describe(here)
    body = float(weight.sum())
    values: list[float | None] = []
    for transform in transforms:
        pulled = there.onto(grid, transform)
        if body == 0 or float((weight * pulled.weight).sum()) < IN_VIEW * body:
            values.append(None)
            continue
        mismatch = ((_describe(pulled) - described) ** 2).sum(axis=-1) / ENTRIES
        charged = pulled.weight * mismatch + (1 - pulled.weight) * UNMATCHED
        values.append(1 - float((weight * charged).sum()) / body)
    return tuple(values)


def _describe(scan: Scan) -> np.ndarray:
    near = [1 if n > 1 else 0 for n in scan.grid.shape]
    return mind_ssc(scan.channels[0], tuple(near), (1, 1, 1), (1, 1, 1))  # type: ignore[arg-type]


def _measure(pair: RegisteredPair) -> float | None:
    assert isinstance(pair.fixed, Image)
    assert isinstance(pair.moving, Image)
    (found,) = similarity_of_prepared(pair.fixed, pair.moving, pair.prepared, (pair.fixed_to_moving,))
    return found


def _loss(metrics: Measured) -> float | None:
    """NaN where the result shows nothing of the fixed body that was in view before."""
    before = metrics.before.mean("similarity")
    return None if before is None or math.isnan(before) else loss(before, metrics.after.mean("similarity"))


SIMILARITY = Metric(
    name="similarity",
    title="Image similarity (no measure of accuracy)",
    better="higher",
    measure=_measure,
    needs=("images",),
    meaning="one minus the mean squared difference of MIND-SSC descriptors over the fixed body",
    digits=4,
    prominence="file",
    gates=(
        Gate(
            name="similarity_loss",
            question="signs of failure",
            meaning="loss of image similarity",
            warn=0.005,
            fail=0.05,
            measure=_loss,
            good=lambda m, v: "image similarity did not fall, which says nothing about accuracy",
            bad=lambda m, v: f"the images agree less than before registration (similarity fell by {v:.3f})",
            low_is_bad=False,
        ),
    ),
)
