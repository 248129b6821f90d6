from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anamorph.evaluation import Measured, Verdict
from anamorph.image import Image, Labels, Points
from anamorph.transforms import Displacement


@dataclass(frozen=True)
class PairReport:
    """Everything a report shows; what is None is left out.

    Args:
        title: headline.
        fixed: the fixed scan.
        moving: the moving scan, on its own grid.
        verdict: the label and its reasons.
        warped: the moving scan on the fixed grid; None when the run failed.
        displacement: fixed to moving, on the fixed grid.
        jacobian: ``(I, J, K)`` determinants on the fixed grid.
        inverse_consistency_mm: ``(I, J, K)`` on the fixed grid, NaN outside the moving field of view.
        fixed_labels: outlines to draw; any grid.
        moving_labels: outlines before registration, on the grid of the moving labels.
        warped_labels: outlines after registration.
        fixed_points: landmarks, where the views are centred in the absence of labels.
        metrics: the numbers.
        timings: seconds per stage; ``"stage: part"`` is a part of ``"stage"`` and not counted twice.
        trace: objective per iteration of each stage.
        settings: of the method, possibly nested.
        provenance: how to repeat the run, possibly nested.
        start: how the linear start was found, the winner first, one line each.
        warnings: one line each.
        notes: what else is worth knowing about the input, one line each.
        failure: why there is no transform.
    """

    title: str
    fixed: Image
    moving: Image
    verdict: Verdict
    warped: Image | None = None
    displacement: Displacement | None = None
    jacobian: np.ndarray | None = None
    inverse_consistency_mm: np.ndarray | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    warped_labels: Labels | None = None
    fixed_points: Points | None = None
    metrics: Measured | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    trace: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    start: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    failure: str | None = None
