from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.gates import Gate, change, loss
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.image.points import Points
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair


def tre_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    """Target registration error: distance between each mapped fixed point and its moving point.

    Args:
        fixed_points: landmarks of the fixed scan.
        moving_points: the same landmarks in the moving scan; matched by name when both are named, else by order.
        transform: fixed to moving.

    Returns:
        ``(N,)`` float64, millimetres.

    Raises:
        UserError: the two sets do not correspond.
    """
    return np.linalg.norm(_errors_mm(fixed_points, moving_points, transform), axis=1)


def tre_axes_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    """The same error along each axis: ``(N, 3)``, the absolute distance to the right, anterior and superior.

    Arguments and errors as of :func:`tre_mm`.
    """
    return np.abs(_errors_mm(fixed_points, moving_points, transform))


def _errors_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    fixed, moving = fixed_points.matched(moving_points)
    return transform.map_world(fixed.positions_mm) - moving.positions_mm


def _errors(pair: RegisteredPair) -> np.ndarray:
    return tre_mm(pair.fixed_points, pair.moving_points, pair.fixed_to_moving)


def _axes(pair: RegisteredPair) -> list[float]:
    errors = tre_axes_mm(pair.fixed_points, pair.moving_points, pair.fixed_to_moving)
    return [float(mean) for mean in errors.mean(axis=0)]


def _mean(numbers: Numbers) -> float | None:
    return numbers.mean(numbers.column("tre_mm"))


def _phrase(after: Numbers) -> str:
    p95 = after.mean(after.column("p95_tre_mm"))
    return f"mean landmark error {_mean(after):.3g} mm (95 % below {p95:.3g})"


def _change(metrics: Measured) -> str:
    return change("the mean landmark error", _mean(metrics.before) or 0.0, _mean(metrics.after) or 0.0, ".3g", " mm")


MEAN = Metric(
    name="tre_mm",
    title="Landmark error",
    unit="mm",
    better="lower",
    measure=lambda pair: _errors(pair).tolist(),
    needs=("points",),
    per="point",
    meaning="distance in mm between each mapped fixed point and its moving point, the field read trilinearly",
    digits=2,
    prominence="tile",
    phrase=_phrase,
    gates=(
        Gate(
            name="tre_increase",
            question="signs of failure",
            meaning="increase of the mean landmark error",
            warn=0.1,
            fail=1.0,
            measure=lambda m: loss(_mean(m.after), _mean(m.before)),
            good=lambda m, v: _change(m),
            bad=lambda m, v: f"the landmarks are further apart than before registration: {_change(m)}",
        ),
        Gate(
            name="landmark_error",
            question="accuracy",
            meaning="mean landmark error after registration",
            warn=2.5,
            fail=10.0,
            good=lambda m, v: f"the mean landmark error is {v:.3g} mm, {v / m.voxel_mm:.1f} voxels",
            bad=lambda m, v: f"the landmarks are far apart: {v:.3g} mm on average, {v / m.voxel_mm:.1f} voxels",
            per_voxel=True,
        ),
    ),
)
P95 = Metric(
    name="p95_tre_mm",
    title="Landmark error, 95th percentile",
    unit="mm",
    better="lower",
    measure=lambda pair: float(np.percentile(_errors(pair), 95)),
    needs=("points",),
    meaning="the distance in mm that 95 % of the points keep",
    digits=2,
    prominence="file",
)
LARGEST = Metric(
    name="max_tre_mm",
    title="Largest landmark error",
    unit="mm",
    better="lower",
    measure=lambda pair: float(_errors(pair).max()),
    needs=("points",),
    meaning="the largest distance of a point in mm",
    digits=2,
    prominence="file",
    gates=(
        Gate(
            name="landmark_far",
            question="accuracy",
            meaning="largest landmark error after registration",
            warn=10.0,
            fail=math.inf,
            good=lambda m, v: f"the largest landmark error is {v:.3g} mm, {v / m.voxel_mm:.1f} voxels",
            bad=lambda m, v: f"one landmark or more ends {v:.3g} mm away, {v / m.voxel_mm:.1f} voxels",
            per_voxel=True,
        ),
    ),
)
AXES = Metric(
    name="tre_axes_mm",
    title="Landmark error along an axis",
    unit="mm",
    better="lower",
    measure=_axes,
    needs=("points",),
    per="axis",
    meaning="mean absolute error of the points to the right, anterior and superior",
    digits=2,
    prominence="file",
)
