"""A result on the grids of its scans."""

from __future__ import annotations

from anamorph.evaluation import RegisteredPair
from anamorph.methods.base import Result
from anamorph.registration.inputs import PairInputs


def registered_pair(result: Result, inputs: PairInputs) -> RegisteredPair:
    """What is measured, written and shown of a result; its transforms are sampled on the grids of the scans."""
    points = {}
    if inputs.fixed_points is not None and inputs.moving_points is not None:
        points["landmarks"] = inputs.fixed_points, inputs.moving_points
    return RegisteredPair(
        inputs.fixed,
        inputs.moving,
        result.fixed_to_moving.displacement_on(inputs.fixed.grid),
        result.moving_to_fixed.displacement_on(inputs.moving.grid),
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        points=points,
        fixed_mask=inputs.fixed_mask,
        moving_mask=inputs.moving_mask,
    )
