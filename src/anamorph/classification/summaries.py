"""A deformation in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anamorph.evaluation.metrics.jacobian import LOG_DET_LIMITS
from anamorph.image import Labels
from anamorph.transforms import Displacement

PERCENTILES = (5, 50, 95)


def summarise(residual: Displacement, labels: Labels | None, shared: Sequence[int]) -> dict[str, float]:
    """Numbers of a residual deformation over the fixed scan.

    Args:
        residual: on the fixed grid.
        labels: of the fixed scan, on the same grid.
        shared: the labels that every patient's fixed scan has.

    Returns:
        mean, standard deviation and percentiles of the length of the displacement (mm) and of the log Jacobian
        (clipped to [1e-3, 1e3] before the logarithm, so that a few folded voxels do not rule it), and the latter also
        within each label.
    """
    length = np.linalg.norm(residual.vectors_mm(), axis=0)
    log_jacobian = np.log(np.clip(residual.jacobian_determinant(), *LOG_DET_LIMITS))
    numbers = _spread("displacement_mm", length) | _spread("log_jacobian", log_jacobian)
    if labels is not None:
        for label in shared:
            numbers |= _spread(f"log_jacobian_label_{label}", log_jacobian[labels.data[0] == label])
    return numbers


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    spread = {"mean": values.mean(dtype=np.float64), "std": values.std(dtype=np.float64)}
    spread |= {f"p{p}": q for p, q in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
    return {f"{name}_{statistic}": float(value) for statistic, value in spread.items()}
