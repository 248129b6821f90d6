"""The inverse of a dense transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import patient_mm
from anamorph.geometry.sampling import advance_affine, identity_positions
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform


@dataclass(frozen=True)
class Inversion:
    """An inverse and how well it inverts.

    ``residual_mm`` is ``(I, J, K)``: the distance between y and phi(inverse(y)), zero for a perfect inverse.
    """

    transform: Displacement
    residual_mm: np.ndarray


TOLERANCE_MM = 1e-2
"""Residual at which an inverse is good enough in a scan of a patient."""


def invert(transform: Transform, grid: Grid, tolerance_mm: float | None = None) -> Inversion:
    """Invert a transform on a grid (the moving one, usually).

    One displacement field between any affines is inverted voxel by voxel with Newton's method: with
    ``phi = B o d o A``, ``d(z) = B^-1 y`` is solved for z, and the affines never disturb the iteration. Anything else
    goes through :func:`invert_by_fixed_point`.

    Args:
        transform: the map to invert.
        grid: where the inverse is wanted.
        tolerance_mm: residual at which a voxel is left alone, by default a small part of a voxel whatever its size;
            where the map folds the best point found is kept.
    """
    tolerance_mm = TOLERANCE_MM * patient_mm(grid) if tolerance_mm is None else tolerance_mm
    split = _around_one_field(transform)
    if split is None or kernels is None:
        return invert_by_fixed_point(transform, grid, tolerance_mm=tolerance_mm)
    before, field, after = split
    from_field = field.grid.affine
    to_target = np.linalg.inv(after @ from_field) @ grid.affine
    start = np.linalg.inv(affine_part(field, field.grid)) @ to_target
    from_solution = np.linalg.inv(grid.affine) @ np.linalg.inv(before) @ from_field
    to_mm = (after @ from_field)[:3, :3]
    positions = np.empty((3, *grid.shape), np.float32)
    residual_mm = np.empty(grid.shape, np.float32)
    over_slabs(
        kernels.invert_displacement,
        grid.shape[0] * grid.shape[1],
        *(np.ascontiguousarray(a, np.float32) for a in (field.disp_vox, to_target, start, from_solution, to_mm)),
        float(tolerance_mm),
        positions,
        residual_mm,
    )
    positions -= identity_positions(grid.shape)
    return Inversion(Displacement(positions, grid), residual_mm)


@np.errstate(over="ignore", invalid="ignore")  # what wanders off is left behind
def invert_by_fixed_point(
    transform: Transform, grid: Grid, iterations: int = 50, tolerance_mm: float | None = None
) -> Inversion:
    """Invert any transform on a grid; the readable twin of the Newton kernel behind :func:`invert`.

    ``phi(x) = y`` is solved by ``x <- A^-1 (y - r(x))`` with ``phi = A + r`` and A the least-squares affine part, so
    that large rotations or scalings do not spoil the contraction (Chen et al. 2008 iterate with A = 1). Where this
    wanders off, it begins again at the nearest point found, and steps that lead farther from y are halved again.

    Args:
        transform: the map to invert.
        grid: where the inverse is wanted.
        iterations: upper bound; stops earlier once the 99.9th percentile of the residual is below the tolerance.
        tolerance_mm: see above.
    """
    tolerance_mm = TOLERANCE_MM * patient_mm(grid) if tolerance_mm is None else tolerance_mm
    backward = np.linalg.inv(affine_part(transform, grid))
    target = identity_positions(grid.shape).reshape(3, -1)
    guess = target.copy()
    advance_affine(guess, backward)
    to_mm = grid.affine[:3, :3].astype(np.float32)
    step_linear = backward[:3, :3].astype(np.float32)
    best, lowest = guess, np.full(guess.shape[1], np.inf, np.float32)
    for iteration in range(iterations + 1):
        mapped = guess.copy()
        transform.advance(mapped, grid)
        mismatch = target - mapped
        residual = np.sqrt(((to_mm @ mismatch) ** 2).sum(axis=0))
        better = residual < lowest
        best, lowest = np.where(better, guess, best), np.where(better, residual, lowest)
        if np.quantile(residual, 0.999) <= tolerance_mm:
            break
        # x + A^-1 (y - phi(x)) is the same step as A^-1 (y - r(x)); halved late to settle where phi hardly inverts.
        onward = guess + (step_linear @ mismatch) * np.float32(1.0 if iteration < iterations // 2 else 0.5)
        if iteration < iterations // 2:
            guess = onward
        elif iteration == iterations // 2:
            guess = best
        else:
            guess = np.where(residual <= lowest, onward, (best + guess) / 2)
    return Inversion(Displacement((best - target).reshape(3, *grid.shape), grid), lowest.reshape(grid.shape))


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


def _around_one_field(transform: Transform) -> tuple[np.ndarray, Displacement, np.ndarray] | None:
    """World matrices before and after the only displacement field of a transform; None if there is not exactly one."""
    parts = transform.parts if isinstance(transform, Composite) else (transform,)
    before, field, after = np.eye(4), None, np.eye(4)
    for part in parts:
        if isinstance(part, Affine) and field is None:
            before = part.matrix @ before
        elif isinstance(part, Affine):
            after = part.matrix @ after
        elif isinstance(part, Displacement) and field is None:
            field = part
        else:
            return None
    return None if field is None else (before, field, after)
