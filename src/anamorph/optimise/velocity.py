"""Symmetric instance optimisation of a stationary velocity field, its data term and diffusion.

One velocity v describes both directions: ``exp(v)`` pulls the moving image to the fixed one and ``exp(-v)`` the fixed
image to the moving one. Both data terms are minimised together, so that swapping the images negates v, the two
directions are inverse to each other and nothing folds (log-domain demons, Vercauteren et al., MICCAI 2008; the
optimiser and the descriptor are those of ConvexAdam, Siebert et al., TMI 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import Radius, box_smooth, pool_volume
from anamorph.optimise.adam import Adam
from anamorph.optimise.pulls import Pulls
from anamorph.optimise.sliding import Surface
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.fields import exponential, upsample

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def data_term(fixed: Array, weight: Array, moving: Array, disp_vox: Array) -> tuple[float, Array]:
    """Sum of ``weight * ||F(p) - M(p + u(p))||^2`` and its gradient with respect to u.

    Args:
        fixed: ``(I, J, K, C)`` descriptor, C a multiple of 16.
        weight: ``(I, J, K)``.
        moving: like ``fixed``; read trilinearly, its border repeated.
        disp_vox: ``(3, I, J, K)`` in voxels of the descriptors.

    Returns:
        The sum, and the gradient ``(3, I, J, K)``.
    """
    if not isinstance(fixed, np.ndarray):
        return data_term_torch(fixed, weight, moving, disp_vox)
    arrays = [np.ascontiguousarray(array, np.float32) for array in (fixed, weight, moving, disp_vox)]
    if kernels is None:
        import torch

        loss, slope = data_term_torch(*map(torch.from_numpy, arrays))
        return loss, slope.numpy()
    gradient = np.empty(disp_vox.shape, np.float32)
    return sum(over_slabs(kernels.data_term, len(fixed), *arrays, gradient)), gradient


def data_terms(
    fixed: Array, fixed_weight: Array, moving: Array, moving_weight: Array, onward: Array, back: Array
) -> tuple[tuple[float, Array], tuple[float, Array]]:
    """The data terms of both directions: :func:`data_term` for each, in turn on a few planes.

    What one direction reads of both descriptors is then still in the cache for the other.
    """
    there, here = (fixed, fixed_weight, moving, onward), (moving, moving_weight, fixed, back)
    if not isinstance(fixed, np.ndarray) or kernels is None:
        return data_term(*there), data_term(*here)
    given = [[np.ascontiguousarray(array, np.float32) for array in arrays] for arrays in (there, here)]
    slopes = [np.empty(field.shape, np.float32) for field in (onward, back)]
    losses = over_slabs(_both_on_planes, len(fixed), *given, slopes)
    return (sum(one for one, _ in losses), slopes[0]), (sum(other for _, other in losses), slopes[1])


def _both_on_planes(
    begin: int, end: int, there: list[np.ndarray], here: list[np.ndarray], slopes: list[np.ndarray]
) -> tuple[float, float]:
    return (
        kernels.data_term(begin, end, *there, slopes[0]),
        kernels.data_term(begin, end, *here, slopes[1]),
    )


def data_term_torch(
    fixed: torch.Tensor, weight: torch.Tensor, moving: torch.Tensor, disp_vox: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """The readable twin of :func:`data_term`; the gradient comes from autograd."""
    import torch

    from anamorph.geometry.sampling import identity_positions_torch, sample_torch

    with torch.enable_grad():
        variable = disp_vox.detach().requires_grad_()
        positions = identity_positions_torch(weight) + variable
        warped = sample_torch(moving.permute(3, 0, 1, 2), positions)
        loss = (weight * ((warped - fixed.permute(3, 0, 1, 2)) ** 2).sum(dim=0)).sum()
        (gradient,) = torch.autograd.grad(loss, variable)
    return float(loss.detach()), gradient


def diffusion_strength(weight: float, spacing_mm: np.ndarray) -> np.ndarray:
    """``(3, 3)`` strengths that make the diffusion term in voxels the one in millimetres.

    A difference of component c along axis a is ``spacing_c / spacing_a`` of its value in voxels; equal spacings give
    ``weight`` everywhere.
    """
    ratio = spacing_mm.reshape(3, 1) / spacing_mm.reshape(1, 3)
    return (weight * ratio**2).astype(np.float32)


def add_diffusion(field: Array, strength: np.ndarray, gradient: Array, stiffness: Array | None = None) -> float:
    """Sum of ``strength[c, a] * (forward difference of component c along axis a)^2``; its gradient is added in place.

    Args:
        field: ``(3, I, J, K)``.
        strength: ``(3, 3)`` from :func:`diffusion_strength`.
        gradient: ``(3, I, J, K)``, changed.
        stiffness: ``(I, J, K)``: a difference counts so much more as the mean of both voxels says; 1 by default.
    """
    if not isinstance(field, np.ndarray):
        return add_diffusion_torch(field, strength, gradient, stiffness)
    if kernels is None:
        return float(by_twin(add_diffusion_torch, field, strength, gradient, stiffness))
    given = np.ascontiguousarray(field), strength, gradient
    if stiffness is None:
        return sum(over_slabs(kernels.add_diffusion, field.shape[1], *given))
    factors = np.ascontiguousarray(stiffness, np.float32)
    return sum(over_slabs(kernels.add_varying_diffusion, field.shape[1], *given, factors))


def add_diffusion_torch(
    field: torch.Tensor, strength: np.ndarray, gradient: torch.Tensor, stiffness: torch.Tensor | None = None
) -> float:
    """The readable twin of :func:`add_diffusion`."""
    total = 0.0
    for axis in range(3):
        weight = field.new_tensor(strength[:, axis].tolist()).reshape(3, 1, 1, 1)
        if stiffness is not None:
            n = stiffness.shape[axis]
            weight = weight * (stiffness.narrow(axis, 0, n - 1) + stiffness.narrow(axis, 1, n - 1)) / 2
        difference = field.diff(dim=axis + 1)
        total += float((weight * difference**2).sum())
        n = field.shape[axis + 1]
        gradient.narrow(axis + 1, 0, n - 1).sub_(2 * weight * difference)
        gradient.narrow(axis + 1, 1, n - 1).add_(2 * weight * difference)
    return total


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
    starts: Sequence[Array],
    control: tuple[int, int, int],
    spacing_mm: np.ndarray,
    radius: Radius,
    settings: VelocitySettings,
    progress: Callable[[float], None],
    pulls: Sequence[Pulls] = (),
    stiffness: Array | None = None,
    surface: Surface | None = None,
) -> tuple[list[Array], list[float]]:
    """Refine a velocity field on a control grid, or two that slide along a surface.

    Args:
        fixed: ``(I, J, K, C)`` descriptor.
        fixed_weight: ``(I, J, K)``.
        moving: descriptor on the same grid.
        moving_weight: its weights.
        starts: ``(3, *control cells)`` velocity in voxels of the control grid; two with a surface, that inside first.
        control: descriptor voxels per control cell and axis.
        spacing_mm: of the control grid.
        radius: of one smoothing pass, in control cells per axis.
        settings: of the method.
        progress: called with the fraction done.
        pulls: pieces that should move rigidly or keep their volume, for each velocity.
        stiffness: ``(*control cells)`` factors of the diffusion.
        surface: along which two velocities slide.

    Returns:
        The velocities on the control grid, and the objective per iteration (mean over weighted voxels).
    """
    ni, nj, nk, _ = fixed.shape
    shape = (ni, nj, nk)
    voxels_per_cell = float(np.prod(control))
    total_weight = max(float(fixed_weight.sum()) + float(moving_weight.sum()), 1e-6) / 2
    adams = [Adam(start * 1.0) for start in starts]
    # A change of one control voxel moves the descriptors by `control` voxels.
    chain = [c * voxels_per_cell / 2 for c in control]
    strength = diffusion_strength(settings.diffusion * voxels_per_cell, spacing_mm)
    trace: list[float] = []
    for iteration in range(settings.iterations):
        velocities = [box_smooth(adam.parameters, radius, settings.smoothing) for adam in adams]
        forwards = [exponential(velocity) for velocity in velocities]
        backwards = [exponential(-velocity) for velocity in velocities]
        onward, back = ([upsample(field, control, shape) for field in fields] for fields in (forwards, backwards))
        here = there = None
        if surface is not None:
            depths = surface.depths(forwards, backwards)
            here, there = (surface.inside(depth, fixed_weight) for depth in depths)
        scans, fields = (fixed, fixed_weight, moving, moving_weight), (_joined(onward, here), _joined(back, there))
        (loss_forward, slope), (loss_backward, opposite) = data_terms(*scans, *fields)
        slopes = [a - b for a, b in zip(_split(slope, here), _split(opposite, there), strict=True)]
        gradients = [pool_volume(one, control) for one in slopes]
        for gradient in gradients:
            for axis in range(3):
                gradient[axis] *= chain[axis]
        roughness = 0.0
        if surface is not None:
            surface.share(depths, gradients)
        for velocity, gradient in zip(velocities, gradients, strict=True):
            roughness += add_diffusion(velocity, strength, gradient, stiffness)
        for n, pull in enumerate(pulls):
            roughness += pull.add(velocities[n], forwards[n], backwards[n], gradients[n], voxels_per_cell)
        if surface is not None:
            roughness += surface.add(depths, forwards, backwards, gradients, voxels_per_cell)
        trace.append(((loss_forward + loss_backward) / 2 + roughness) / total_weight)
        rate = settings.rate if iteration < 0.7 * settings.iterations else 0.4 * settings.rate
        for adam, gradient in zip(adams, gradients, strict=True):
            for axis in range(3):
                if not settings.axes[axis]:
                    gradient[axis] = 0
            adam.step(box_smooth(gradient, radius, settings.smoothing), rate / max(control))
        progress((iteration + 1) / settings.iterations)
    return [box_smooth(adam.parameters, radius, settings.smoothing) for adam in adams], trace


def _joined(fields: Sequence[Array], inside: Array | None) -> Array:
    """One field, or the first of two inside and the second outside."""
    return fields[0] if inside is None else fields[1] + inside * (fields[0] - fields[1])


def _split(slope: Array, inside: Array | None) -> list[Array]:
    """The slope of each field from that of both joined."""
    if inside is None:
        return [slope]
    within = inside * slope
    return [within, slope - within]
