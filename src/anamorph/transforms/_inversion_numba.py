# mypy: allow-untyped-defs
"""The fused CPU kernel of inversion; ``invert_by_fixed_point`` in ``inversion.py`` is its readable twin."""

import numpy as np
from numba import njit

from anamorph.geometry._sampling_numba import corner

f32 = np.float32
_EVALUATIONS = 40
_LONGEST_STEP_VOX = f32(8)
_SMALLEST_DETERMINANT = f32(0.05)


@njit
def _value_and_slopes(disp_vox, c, i0, i1, wi, j0, j1, wj, k0, k1, wk):
    """One component of a trilinear field and its derivative along i, j and k."""
    v000, v001 = disp_vox[c, i0, j0, k0], disp_vox[c, i0, j0, k1]
    v010, v011 = disp_vox[c, i0, j1, k0], disp_vox[c, i0, j1, k1]
    v100, v101 = disp_vox[c, i1, j0, k0], disp_vox[c, i1, j0, k1]
    v110, v111 = disp_vox[c, i1, j1, k0], disp_vox[c, i1, j1, k1]
    a, da = v000 + (v001 - v000) * wk, v001 - v000
    b, db = v010 + (v011 - v010) * wk, v011 - v010
    d, dd = v100 + (v101 - v100) * wk, v101 - v100
    e, de = v110 + (v111 - v110) * wk, v111 - v110
    low, high = a + (b - a) * wj, d + (e - d) * wj
    slope_j = (b - a) + ((e - d) - (b - a)) * wi
    slope_k_low, slope_k_high = da + (db - da) * wj, dd + (de - dd) * wj
    return low + (high - low) * wi, high - low, slope_j, slope_k_low + (slope_k_high - slope_k_low) * wi


@njit
def _map_and_jacobian(disp_vox, z, phi, jac):
    """``phi = z + u(z)`` and its derivative; outside the field u is constant along the axis left."""
    _, ni, nj, nk = disp_vox.shape
    i0, i1, wi = corner(z[0], ni)
    j0, j1, wj = corner(z[1], nj)
    k0, k1, wk = corner(z[2], nk)
    in_i = f32(1) if 0 <= z[0] <= ni - 1 else f32(0)
    in_j = f32(1) if 0 <= z[1] <= nj - 1 else f32(0)
    in_k = f32(1) if 0 <= z[2] <= nk - 1 else f32(0)
    for c in range(3):
        u, di, dj, dk = _value_and_slopes(disp_vox, c, i0, i1, wi, j0, j1, wj, k0, k1, wk)
        phi[c] = z[c] + u
        jac[c, 0] = di * in_i
        jac[c, 1] = dj * in_j
        jac[c, 2] = dk * in_k
        jac[c, c] += f32(1)


@njit
def _newton_step(jac, r, step):
    """Solve ``jac step = r``, cut to a sane length; near a fold step along r instead."""
    c00 = jac[1, 1] * jac[2, 2] - jac[1, 2] * jac[2, 1]
    c01 = jac[1, 2] * jac[2, 0] - jac[1, 0] * jac[2, 2]
    c02 = jac[1, 0] * jac[2, 1] - jac[1, 1] * jac[2, 0]
    det = jac[0, 0] * c00 + jac[0, 1] * c01 + jac[0, 2] * c02
    if det < _SMALLEST_DETERMINANT:
        for a in range(3):
            step[a] = f32(0.5) * r[a]
        return
    c10 = jac[0, 2] * jac[2, 1] - jac[0, 1] * jac[2, 2]
    c11 = jac[0, 0] * jac[2, 2] - jac[0, 2] * jac[2, 0]
    c12 = jac[0, 1] * jac[2, 0] - jac[0, 0] * jac[2, 1]
    c20 = jac[0, 1] * jac[1, 2] - jac[0, 2] * jac[1, 1]
    c21 = jac[0, 2] * jac[1, 0] - jac[0, 0] * jac[1, 2]
    c22 = jac[0, 0] * jac[1, 1] - jac[0, 1] * jac[1, 0]
    step[0] = (c00 * r[0] + c10 * r[1] + c20 * r[2]) / det
    step[1] = (c01 * r[0] + c11 * r[1] + c21 * r[2]) / det
    step[2] = (c02 * r[0] + c12 * r[1] + c22 * r[2]) / det
    longest = max(abs(step[0]), abs(step[1]), abs(step[2]))
    if longest > _LONGEST_STEP_VOX:
        for a in range(3):
            step[a] *= _LONGEST_STEP_VOX / longest


@njit
def _residual(w, phi, to_mm, r):
    """Fill the mismatch in field voxels and return its length in mm, squared."""
    r[0], r[1], r[2] = w[0] - phi[0], w[1] - phi[1], w[2] - phi[2]
    total = f32(0)
    for a in range(3):
        one = to_mm[a, 0] * r[0] + to_mm[a, 1] * r[1] + to_mm[a, 2] * r[2]
        total += one * one
    return total


@njit
def _apply(matrix, i, j, k, out):
    for a in range(3):
        out[a] = matrix[a, 0] * i + matrix[a, 1] * j + matrix[a, 2] * k + matrix[a, 3]


@njit(nogil=True, error_model="numpy", cache=True)
def invert_displacement(begin, end, disp_vox, to_target, start, from_solution, to_mm, tolerance_mm, out, residual_mm):
    """Solve ``z + u(z) = to_target y`` for every voxel y of the output by Newton's method with backtracking.

    Along a row each voxel continues from its neighbour's solution and derivative, so that one or two evaluations do.
    ``start`` (4x4) gives the first guess from y, ``from_solution`` (4x4) takes z to the output's voxels.
    """
    _, _, nj, nk = out.shape
    limit = f32(tolerance_mm * tolerance_mm)
    for row in range(begin, end):
        i, j = row // nj, row % nj
        w = np.empty(3, np.float32)
        z = np.empty(3, np.float32)
        best = np.empty(3, np.float32)
        solution = np.empty(3, np.float32)
        phi = np.empty(3, np.float32)
        r = np.empty(3, np.float32)
        step = np.empty(3, np.float32)
        jac = np.empty((3, 3), np.float32)
        solved = False
        for k in range(nk):
            _apply(to_target, i, j, k, w)
            lowest = f32(np.inf)
            # From the neighbour's solution; if that fails or there is none, from the first guess.
            for attempt in range(0 if solved else 1, 2):
                if attempt == 1:
                    _apply(start, i, j, k, z)
                    _map_and_jacobian(disp_vox, z, phi, jac)
                error = _residual(w, phi, to_mm, r)
                best[0], best[1], best[2] = z[0], z[1], z[2]
                better = True
                for _ in range(_EVALUATIONS):
                    if error <= limit:
                        break
                    if better:
                        _newton_step(jac, r, step)
                    else:
                        step[0], step[1], step[2] = f32(0.5) * step[0], f32(0.5) * step[1], f32(0.5) * step[2]
                    z[0], z[1], z[2] = best[0] + step[0], best[1] + step[1], best[2] + step[2]
                    _map_and_jacobian(disp_vox, z, phi, jac)
                    trial = _residual(w, phi, to_mm, r)
                    better = trial < error
                    if better:
                        error = trial
                        best[0], best[1], best[2] = z[0], z[1], z[2]
                if error < lowest:
                    lowest = error
                    solution[0], solution[1], solution[2] = best[0], best[1], best[2]
                solved = error <= limit
                if solved:
                    break
            if not solved:
                # Near a fold Newton stalls in a local minimum; steps along the mismatch may climb out of it.
                _apply(start, i, j, k, z)
                for _ in range(_EVALUATIONS):
                    _map_and_jacobian(disp_vox, z, phi, jac)
                    error = _residual(w, phi, to_mm, r)
                    if error < lowest:
                        lowest = error
                        solution[0], solution[1], solution[2] = z[0], z[1], z[2]
                    z[0], z[1], z[2] = z[0] + f32(0.5) * r[0], z[1] + f32(0.5) * r[1], z[2] + f32(0.5) * r[2]
            residual_mm[i, j, k] = np.sqrt(lowest)
            for a in range(3):
                m = from_solution
                out[a, i, j, k] = m[a, 0] * solution[0] + m[a, 1] * solution[1] + m[a, 2] * solution[2] + m[a, 3]
