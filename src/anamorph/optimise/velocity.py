"""Symmetric instance optimisation of a stationary velocity field.

One velocity v describes both directions: ``exp(v)`` pulls the moving image to the fixed one and ``exp(-v)`` the fixed
image to the moving one. Both data terms are minimised together, so that swapping the images negates v, the two
directions are inverse to each other and nothing folds (log-domain demons, Vercauteren et al., MICCAI 2008; the
optimiser and the descriptor are those of ConvexAdam, Siebert et al., TMI 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import Radius, box_smooth, pool_volume
from anamorph.optimise.adam import Adam
from anamorph.optimise.data_term import data_term
from anamorph.regularisation.diffusion import add_diffusion, diffusion_strength
from anamorph.transforms.fields import exponential, upsample

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


@dataclass(frozen=True)
class VelocitySettings:
    """Iterations, Adam's rate in descriptor voxels, weight of diffusion, passes of smoothing, axes that are refined."""

    iterations: int
    rate: float
    diffusion: float
    smoothing: int
    axes: tuple[bool, bool, bool] = (True, True, True)


def optimise_velocity(
    fixed: Array,
    fixed_weight: Array,
    moving: Array,
    moving_weight: Array,
    start: Array,
    control: tuple[int, int, int],
    spacing_mm: np.ndarray,
    radius: Radius,
    settings: VelocitySettings,
    progress: Callable[[float], None],
) -> tuple[Array, list[float]]:
    """Refine a velocity field on a control grid.

    Args:
        fixed: ``(I, J, K, C)`` descriptor.
        fixed_weight: ``(I, J, K)``.
        moving: descriptor on the same grid.
        moving_weight: its weights.
        start: ``(3, *control cells)`` velocity in voxels of the control grid.
        control: descriptor voxels per control cell and axis.
        spacing_mm: of the control grid.
        radius: of one smoothing pass, in control cells per axis.
        settings: see there.
        progress: called with the fraction done.

    Returns:
        The velocity on the control grid, and the objective per iteration (mean over weighted voxels).
    """
    ni, nj, nk, _ = fixed.shape
    shape = (ni, nj, nk)
    voxels_per_cell = float(np.prod(control))
    total_weight = max(float(fixed_weight.sum()) + float(moving_weight.sum()), 1e-6) / 2
    parameters = start * 1.0
    adam = Adam(parameters)
    # A change of one control voxel moves the descriptors by `control` voxels.
    chain = [c * voxels_per_cell / 2 for c in control]
    strength = diffusion_strength(settings.diffusion * voxels_per_cell, spacing_mm)
    trace: list[float] = []
    for iteration in range(settings.iterations):
        velocity = box_smooth(parameters, radius, settings.smoothing)
        loss_forward, gradient = data_term(fixed, fixed_weight, moving, upsample(exponential(velocity), control, shape))
        loss_backward, opposite = data_term(
            moving, moving_weight, fixed, upsample(exponential(-velocity), control, shape)
        )
        gradient -= opposite
        gradient = pool_volume(gradient, control)
        for axis in range(3):
            gradient[axis] *= chain[axis]
        roughness = add_diffusion(velocity, strength, gradient)
        trace.append(((loss_forward + loss_backward) / 2 + roughness) / total_weight)
        for axis in range(3):
            if not settings.axes[axis]:
                gradient[axis] = 0
        rate = settings.rate if iteration < 0.7 * settings.iterations else 0.4 * settings.rate
        adam.step(box_smooth(gradient, radius, settings.smoothing), rate / max(control))
        progress((iteration + 1) / settings.iterations)
    return box_smooth(parameters, radius, settings.smoothing), trace
