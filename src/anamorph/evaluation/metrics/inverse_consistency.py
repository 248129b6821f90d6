from __future__ import annotations

import numpy as np

from anamorph.evaluation.gates import Gate
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.metrics.outside import outside
from anamorph.evaluation.numbers import Numbers
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import numbers_mm
from anamorph.geometry.sampling import distances
from anamorph.geometry.slabs import over_grid
from anamorph.transforms.maps import Transform


def inverse_consistency_mm(
    fixed_to_moving: Transform, moving_to_fixed: Transform, fixed_grid: Grid, moving_grid: Grid
) -> np.ndarray:
    """Distance between each fixed voxel and where it lands after going to the moving scan and back.

    Returns:
        ``(I, J, K)`` float32 millimetres on the fixed grid; NaN where the mapped point leaves the field of view of the
        moving scan, as the way back is extrapolated there. Computed slab by slab, so memory stays small.
    """
    error = np.empty(fixed_grid.shape, np.float32)

    def there_and_back(planes: slice, slab: Grid) -> None:
        positions = fixed_to_moving.moving_positions(slab, moving_grid)
        lost = outside(positions, moving_grid)
        moving_to_fixed.advance(positions.reshape(3, -1), moving_grid)
        distances(positions, moving_grid.voxel_to_voxel(slab), slab.affine[:3, :3], error[planes])
        error[planes][lost] = np.nan

    over_grid(fixed_grid, there_and_back)
    return error


def summary(error_mm: np.ndarray) -> dict[str, float]:
    """Mean, 95th percentile and maximum of an error map, without its NaN voxels; NaN when nothing is left."""
    values = error_mm[np.isfinite(error_mm)]
    if values.size == 0:
        return {"mean": float("nan"), "p95": float("nan"), "max": float("nan")}
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "max": float(values.max()),
        "p95": float(np.percentile(values, 95, overwrite_input=True)),
    }


def _spread(numbers: Numbers) -> str:
    p95, largest = numbers.mean(P95.name), numbers.mean(LARGEST.name)
    return f"95 % below {numbers_mm([p95], 2)[0]}, largest {numbers_mm([largest], 1)[0]}"


MEAN = Metric(
    name="inverse_consistency_mm_mean",
    title="Inverse consistency",
    unit="mm",
    better="lower",
    measure=lambda pair: pair.inconsistency["mean"],
    needs=("both directions",),
    meaning="mean distance in mm between a fixed voxel and where it lands after going to the moving scan and back",
    at_rest=0.0,
    prominence="tile",
    group="inverse_consistency_mm",
    note=_spread,
    gates=(
        Gate(
            name="inverse_consistency",
            question="signs of failure",
            meaning="mean distance after mapping there and back",
            warn=1.0,
            fail=5.0,
            good=lambda m, v: f"the two directions agree to {v:.2g} mm on average",
            bad=lambda m, v: f"the two directions disagree by {v:.3g} mm on average",
        ),
    ),
)
P95 = Metric(
    name="inverse_consistency_mm_p95",
    title="Inverse consistency, 95th percentile",
    unit="mm",
    better="lower",
    measure=lambda pair: pair.inconsistency["p95"],
    needs=("both directions",),
    meaning="the distance in mm that 95 % of the voxels keep",
    at_rest=0.0,
    prominence="file",
    group="inverse_consistency_mm",
)
LARGEST = Metric(
    name="inverse_consistency_mm_max",
    title="Inverse consistency, largest",
    unit="mm",
    better="lower",
    measure=lambda pair: pair.inconsistency["max"],
    needs=("both directions",),
    meaning="the largest distance in mm",
    at_rest=0.0,
    digits=2,
    prominence="file",
    group="inverse_consistency_mm",
)
