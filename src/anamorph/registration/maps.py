"""What follows from the two transforms of a result, on the scans' own grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.evaluation import PairMetrics, evaluate_pair, inverse_consistency_mm
from anamorph.evaluation.structural_similarity import structural_similarity
from anamorph.image import Image, Labels
from anamorph.methods.base import Outcome
from anamorph.registration.inputs import PairInputs
from anamorph.transforms import Affine, Displacement


@dataclass(frozen=True)
class Maps:
    """Both fields, the moving scan and its labels warped once, ``(I, J, K)`` Jacobian and inverse consistency maps."""

    fixed_to_moving: Displacement
    moving_to_fixed: Displacement
    warped: Image
    warped_labels: Labels | None
    jacobian: np.ndarray
    inverse_consistency_mm: np.ndarray


def compute_maps(result: Outcome, inputs: PairInputs) -> Maps:
    """Sample a result on the grids of its scans."""
    fixed, moving, labels = inputs.fixed, inputs.moving, inputs.moving_labels
    forward = result.fixed_to_moving.displacement_on(fixed.grid)
    backward = result.moving_to_fixed.displacement_on(moving.grid)
    return Maps(
        fixed_to_moving=forward,
        moving_to_fixed=backward,
        warped=forward.warp_image(moving, fixed.grid),
        warped_labels=None if labels is None else forward.warp_labels(labels, fixed.grid),
        jacobian=forward.jacobian_determinant(),
        inverse_consistency_mm=inverse_consistency_mm(forward, backward, fixed.grid, moving.grid),
    )


def measure(maps: Maps, inputs: PairInputs) -> PairMetrics:
    """The numbers of the pair, from the fields as they are written."""
    before, after = structural_similarity(
        inputs.fixed,
        inputs.moving,
        (Affine.identity(), maps.fixed_to_moving),
        inputs.fixed_mask,
        inputs.moving_mask,
    )
    return evaluate_pair(
        inputs.fixed,
        inputs.moving,
        maps.fixed_to_moving,
        maps.moving_to_fixed,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        fixed_points=inputs.fixed_points,
        moving_points=inputs.moving_points,
        warped_labels=maps.warped_labels,
        jacobian=maps.jacobian,
        inverse_consistency_mm=maps.inverse_consistency_mm,
        similarity=(before, after),
    )
