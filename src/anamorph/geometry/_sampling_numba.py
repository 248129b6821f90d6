# mypy: allow-untyped-defs
"""Fused CPU kernels of sampling; the readable twins are in ``sampling.py``.

Positions are ``(3, N)`` float32 voxel coordinates. ``clamp`` repeats the border; otherwise a position more than half a
voxel outside takes the fill value, which is also ITK's rule.
"""

import numpy as np
from numba import njit

f32 = np.float32


@njit
def corner(x, n):
    """Lower corner, its neighbour and the weight of the neighbour for a coordinate clamped to ``[0, n - 1]``."""
    # Not a number ends at 0: it must never become an index.
    x = min(x, f32(n - 1)) if x > f32(0) else f32(0)
    low = min(int(x), max(n - 2, 0))
    return low, min(low + 1, n - 1), x - f32(low)


@njit
def is_outside(x, y, z, ni, nj, nk):
    return (
        x < f32(-0.5)
        or y < f32(-0.5)
        or z < f32(-0.5)
        or x > f32(ni - 0.5)
        or y > f32(nj - 0.5)
        or z > f32(nk - 0.5)
        or not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z))
    )


@njit(nogil=True, error_model="numpy", cache=True)
def sample_linear(begin, end, volume, positions, clamp, fill, out):
    channels, ni, nj, nk = volume.shape
    for p in range(begin, end):
        x, y, z = positions[0, p], positions[1, p], positions[2, p]
        if not clamp and is_outside(x, y, z, ni, nj, nk):
            for c in range(channels):
                out[c, p] = fill
            continue
        i0, i1, wi = corner(x, ni)
        j0, j1, wj = corner(y, nj)
        k0, k1, wk = corner(z, nk)
        for c in range(channels):
            a = f32(volume[c, i0, j0, k0]) * (1 - wk) + f32(volume[c, i0, j0, k1]) * wk
            b = f32(volume[c, i0, j1, k0]) * (1 - wk) + f32(volume[c, i0, j1, k1]) * wk
            d = f32(volume[c, i1, j0, k0]) * (1 - wk) + f32(volume[c, i1, j0, k1]) * wk
            e = f32(volume[c, i1, j1, k0]) * (1 - wk) + f32(volume[c, i1, j1, k1]) * wk
            out[c, p] = (a * (1 - wj) + b * wj) * (1 - wi) + (d * (1 - wj) + e * wj) * wi


@njit(nogil=True, error_model="numpy", cache=True)
def sample_nearest(begin, end, volume, positions, clamp, fill, out):
    channels, ni, nj, nk = volume.shape
    for p in range(begin, end):
        x, y, z = positions[0, p], positions[1, p], positions[2, p]
        if not clamp and is_outside(x, y, z, ni, nj, nk):
            for c in range(channels):
                out[c, p] = fill
            continue
        i = min(max(int(np.floor(x + f32(0.5))), 0), ni - 1)
        j = min(max(int(np.floor(y + f32(0.5))), 0), nj - 1)
        k = min(max(int(np.floor(z + f32(0.5))), 0), nk - 1)
        for c in range(channels):
            out[c, p] = volume[c, i, j, k]


@njit(nogil=True, error_model="numpy", cache=True)
def sample_labels(begin, end, labels, positions, fill, out):
    """The label with the largest sum of trilinear weights: linear interpolation of one-hot maps without making them."""
    ni, nj, nk = labels.shape
    names = np.empty(8, labels.dtype)
    weights = np.empty(8, np.float32)
    for p in range(begin, end):
        x, y, z = positions[0, p], positions[1, p], positions[2, p]
        if is_outside(x, y, z, ni, nj, nk):
            out[p] = fill
            continue
        i0, i1, wi = corner(x, ni)
        j0, j1, wj = corner(y, nj)
        k0, k1, wk = corner(z, nk)
        first = labels[i0, j0, k0]
        if (
            first == labels[i0, j0, k1]
            and first == labels[i0, j1, k0]
            and first == labels[i0, j1, k1]
            and first == labels[i1, j0, k0]
            and first == labels[i1, j0, k1]
            and first == labels[i1, j1, k0]
            and first == labels[i1, j1, k1]
        ):
            out[p] = first
            continue
        found = 0
        for a in range(2):
            for b in range(2):
                for c in range(2):
                    w = (wi if a else 1 - wi) * (wj if b else 1 - wj) * (wk if c else 1 - wk)
                    value = labels[i1 if a else i0, j1 if b else j0, k1 if c else k0]
                    slot = 0
                    while slot < found and names[slot] != value:
                        slot += 1
                    if slot == found:
                        names[slot] = value
                        weights[slot] = f32(0)
                        found += 1
                    weights[slot] += w
        best = 0
        for slot in range(1, found):
            if weights[slot] > weights[best] or (weights[slot] == weights[best] and names[slot] < names[best]):
                best = slot
        out[p] = names[best]


@njit(nogil=True, error_model="numpy", cache=True)
def advance_affine(begin, end, positions, matrix):
    for p in range(begin, end):
        x, y, z = positions[0, p], positions[1, p], positions[2, p]
        for a in range(3):
            positions[a, p] = matrix[a, 0] * x + matrix[a, 1] * y + matrix[a, 2] * z + matrix[a, 3]


@njit(nogil=True, error_model="numpy", cache=True)
def advance_displacement(begin, end, positions, disp_vox, to_field, from_field_linear):
    """``p <- p + L u(T p)``, u read trilinearly with its border repeated; L turns field voxels into position voxels."""
    _, ni, nj, nk = disp_vox.shape
    for p in range(begin, end):
        x, y, z = positions[0, p], positions[1, p], positions[2, p]
        t = to_field
        i0, i1, wi = corner(t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3], ni)
        j0, j1, wj = corner(t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3], nj)
        k0, k1, wk = corner(t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3], nk)
        u0 = f32(0)
        u1 = f32(0)
        u2 = f32(0)
        for c in range(3):
            a = disp_vox[c, i0, j0, k0] * (1 - wk) + disp_vox[c, i0, j0, k1] * wk
            b = disp_vox[c, i0, j1, k0] * (1 - wk) + disp_vox[c, i0, j1, k1] * wk
            d = disp_vox[c, i1, j0, k0] * (1 - wk) + disp_vox[c, i1, j0, k1] * wk
            e = disp_vox[c, i1, j1, k0] * (1 - wk) + disp_vox[c, i1, j1, k1] * wk
            v = (a * (1 - wj) + b * wj) * (1 - wi) + (d * (1 - wj) + e * wj) * wi
            if c == 0:
                u0 = v
            elif c == 1:
                u1 = v
            else:
                u2 = v
        m = from_field_linear
        positions[0, p] = x + m[0, 0] * u0 + m[0, 1] * u1 + m[0, 2] * u2
        positions[1, p] = y + m[1, 0] * u0 + m[1, 1] * u1 + m[1, 2] * u2
        positions[2, p] = z + m[2, 0] * u0 + m[2, 1] * u1 + m[2, 2] * u2


@njit(nogil=True, error_model="numpy", cache=True)
def identity_positions(begin, end, shape, out):
    _, nj, nk = shape
    for i in range(begin, end):
        for j in range(nj):
            for k in range(nk):
                p = (i * nj + j) * nk + k
                out[0, p] = i
                out[1, p] = j
                out[2, p] = k


@njit(nogil=True, error_model="numpy", cache=True)
def jacobian_determinant(begin, end, disp_vox, out):
    """det(I + du/dx) by central differences, one-sided at the border; an axis of one voxel counts as unchanged."""
    _, ni, nj, nk = disp_vox.shape
    m = np.empty((3, 3), np.float32)
    for i in range(begin, end):
        a0, a1 = max(i - 1, 0), min(i + 1, ni - 1)
        for j in range(nj):
            b0, b1 = max(j - 1, 0), min(j + 1, nj - 1)
            for k in range(nk):
                c0, c1 = max(k - 1, 0), min(k + 1, nk - 1)
                for c in range(3):
                    m[c, 0] = (disp_vox[c, a1, j, k] - disp_vox[c, a0, j, k]) / f32(max(a1 - a0, 1))
                    m[c, 1] = (disp_vox[c, i, b1, k] - disp_vox[c, i, b0, k]) / f32(max(b1 - b0, 1))
                    m[c, 2] = (disp_vox[c, i, j, c1] - disp_vox[c, i, j, c0]) / f32(max(c1 - c0, 1))
                    m[c, c] += f32(1)
                out[i, j, k] = (
                    m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
                    - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
                    + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
                )
