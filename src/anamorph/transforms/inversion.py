"""The inverse of a dense transform by fixed point iteration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions
from anamorph.transforms.affine import Affine
from anamorph.transforms.base import Transform
from anamorph.transforms.displacement import Displacement


@dataclass(frozen=True)
class Inversion:
    """An inverse and how well it inverts.

    ``residual_mm`` is ``(I, J, K)``: the distance between y and phi(inverse(y)), zero for a perfect inverse.
    """

    transform: Displacement
    residual_mm: np.ndarray


def invert(transform: Transform, grid: Grid, iterations: int = 50, tolerance_mm: float = 1e-2) -> Inversion:
    """Invert a transform on a grid (the moving one, usually).

    ``phi(x) = y`` is solved by ``x <- A^-1 (y - r(x))`` with ``phi = A + r`` and A the least-squares affine part, so that
    large rotations or scalings do not spoil the contraction (Chen et al. 2008 iterate with A = 1).

    Args:
        transform: the map to invert.
        grid: where the inverse is wanted.
        iterations: upper bound; stops earlier once the 99.9th percentile of the residual is below the tolerance.
        tolerance_mm: see above.
    """
    from anamorph.geometry import _sampling_numba as kernels

    linear = affine_part(transform, grid)
    backward = np.linalg.inv(linear)
    target = identity_positions(grid.shape).reshape(3, -1)
    guess = target.copy()
    kernels.advance_affine(guess, backward.astype(np.float32))
    to_mm = grid.affine[:3, :3].astype(np.float32)
    step_linear = backward[:3, :3].astype(np.float32)
    for iteration in range(iterations + 1):
        mapped = guess.copy()
        transform.advance(mapped, grid)
        mismatch = target - mapped
        residual = np.sqrt(((to_mm @ mismatch) ** 2).sum(axis=0))
        if iteration == iterations or np.partition(residual, int(0.999 * residual.size))[
            int(0.999 * residual.size)
        ] <= tolerance_mm:
            break
        # x + A^-1 (y - phi(x)) is the same step as A^-1 (y - r(x)); halved late to settle where phi is barely invertible.
        guess += (step_linear @ mismatch) * np.float32(1.0 if iteration < iterations // 2 else 0.5)
    guess -= target
    return Inversion(Displacement(guess.reshape(3, *grid.shape), grid), residual.reshape(grid.shape))


def affine_part(transform: Transform, grid: Grid) -> np.ndarray:
    """4x4 least-squares affine of a transform over a grid, in voxel coordinates of the grid."""
    if isinstance(transform, Affine):
        return np.linalg.inv(grid.affine) @ transform.matrix @ grid.affine
    axes = [np.unique(np.linspace(0, n - 1, min(n, 12))) for n in grid.shape]
    sites = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    mapped = sites.T.astype(np.float32).copy()
    transform.advance(mapped, grid)
    fit = np.eye(4)
    # Axes with one voxel carry no slope: fit the others and keep the identity there.
    moving = [a for a in range(3) if len(axes[a]) > 1]
    design = np.column_stack([sites[:, moving], np.ones(len(sites))])
    solution = np.linalg.lstsq(design, mapped.T.astype(np.float64) - sites, rcond=None)[0]
    fit[:3, moving] += solution[:-1].T
    fit[:3, 3] = solution[-1]
    return fit
