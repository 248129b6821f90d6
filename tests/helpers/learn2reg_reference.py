"""Slow and plain implementations of what Learn2Reg's evaluator computes, with nothing of the package in them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from scipy import ndimage

# Areas in the lookup table of surface-distance 0.1 for unit spacing. A code names the corners of a cell inside the
# label, corner (a, b, c) by bit 7 - (4a + 2b + c); codes that a rotation or reflection of the cube exchanges share one.
PUBLISHED_AREAS = {
    0b00000000: 0.0,
    0b00000001: 0.216506,
    0b00000011: 0.707107,
    0b00000110: 0.433013,
    0b00000111: 1.149519,
    0b00001111: 1.0,
    0b00010110: 0.649519,
    0b00010111: 1.299038,
    0b00011000: 0.433013,
    0b00011001: 0.923613,
    0b00011011: 1.573132,
    0b00011110: 1.366025,
    0b00011111: 1.149519,
    0b00111100: 1.414214,
    0b00111101: 0.923613,
    0b00111111: 0.707107,
    0b01101001: 0.866025,
    0b01101011: 0.649519,
    0b01101111: 0.433013,
    0b01111110: 0.433013,
    0b01111111: 0.216506,
    0b11111111: 0.0,
}
CODE_KERNEL = np.array([128, 64, 32, 16, 8, 4, 2, 1]).reshape(2, 2, 2)


def published_areas() -> np.ndarray:
    """The 256 areas, by turning and reflecting the cube until a listed code comes up."""
    areas = np.full(256, np.nan)
    for code in range(256):
        corners = np.array([code >> (7 - n) & 1 for n in range(8)]).reshape(2, 2, 2)
        for axes in permutations(range(3)):
            for flips in product((1, -1), repeat=3):
                seen = corners.transpose(axes)[:: flips[0], :: flips[1], :: flips[2]]
                areas[code] = PUBLISHED_AREAS.get(int((seen * CODE_KERNEL).sum()), areas[code])
    return areas


def warped(moving: np.ndarray, disp: np.ndarray) -> np.ndarray:
    places = np.indices(disp.shape[1:]) + disp.astype(np.float64)
    return ndimage.map_coordinates(moving.astype(np.float64), places, order=0)


def dice(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: range) -> list[float]:
    values = []
    for label in labels:
        a, b = fixed == label, warped == label
        known = a.any() and (moving == label).any()
        values.append(2 * (a & b).sum() / (a.sum() + b.sum()) if known else np.nan)
    return values


def hd95(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: range) -> list[float]:
    values = []
    for label in labels:
        if not ((fixed == label).any() and (moving == label).any()):
            values.append(np.nan)
        elif not (warped == label).any():
            values.append(np.inf)
        else:
            values.append(surface_hd95(fixed == label, warped == label))
    return values


def surface_hd95(a: np.ndarray, b: np.ndarray) -> float:
    """Surface elements between voxels, weighted by area; distances by a distance transform."""
    table = published_areas()
    codes = [ndimage.correlate(np.pad(mask, 1).astype(np.uint8), CODE_KERNEL, mode="constant") for mask in (a, b)]
    surfaces = [(code != 0) & (code != 255) for code in codes]
    directed = []
    for own, other in ((0, 1), (1, 0)):
        distances = ndimage.distance_transform_edt(~surfaces[other])[surfaces[own]]
        areas = table[codes[own]][surfaces[own]]
        order = np.argsort(distances)
        reached = np.cumsum(areas[order]) / areas.sum()
        directed.append(distances[order][np.argmax(reached >= 0.95)])
    return max(directed)


def jacobian(disp: np.ndarray) -> np.ndarray:
    """Determinants in double precision by correlation with (-1/2, 0, 1/2), two voxels cropped."""
    matrix = np.empty((*disp.shape[1:], 3, 3))
    for axis in range(3):
        kernel = np.expand_dims(np.array([-0.5, 0, 0.5]), [n for n in range(3) if n != axis])
        for component in range(3):
            matrix[..., component, axis] = ndimage.correlate(disp[component].astype(float), kernel, mode="constant")
            matrix[..., component, axis] += component == axis
    return np.linalg.det(matrix)[2:-2, 2:-2, 2:-2]


def sdlogj(disp: np.ndarray, mask: np.ndarray | None = None) -> float:
    logarithms = np.log((jacobian(disp) + 3).clip(1e-9, 1e9))
    if mask is None:
        return logarithms.std()
    return np.ma.MaskedArray(logarithms, 1 - mask[2:-2, 2:-2, 2:-2].astype(int)).std()


def tre(fixed: np.ndarray, moving: np.ndarray, disp: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Cubic spline interpolation by solving for the coefficients, mirrored at the ends; zero outside."""
    moved = np.zeros(fixed.shape)
    for component in range(3):
        coefficients = disp[component].astype(float)
        for axis, n in enumerate(coefficients.shape):
            solved = np.linalg.solve(spline_rows(np.arange(n), n), np.moveaxis(coefficients, axis, 0).reshape(n, -1))
            shape = np.moveaxis(coefficients, axis, 0).shape
            coefficients = np.moveaxis(solved.reshape(shape), 0, axis)
        rows = [spline_rows(fixed[:, axis], n) for axis, n in enumerate(coefficients.shape)]
        moved[:, component] = np.einsum("pi,pj,pk,ijk->p", *rows, coefficients)
    inside = ((fixed >= 0) & (fixed <= np.array(disp.shape[1:]) - 1)).all(axis=1)
    return np.linalg.norm((fixed + moved * inside[:, None] - moving) * spacing, axis=1)


def spline_rows(places: np.ndarray, n: int) -> np.ndarray:
    """``(places, n)`` weights of the coefficients of a cubic B-spline that is mirrored about the first and last one."""
    rows = np.zeros((len(places), n))
    for row, place in zip(rows, places, strict=True):
        for site in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            t = abs(place - site)
            weight = 2 / 3 - t**2 + t**3 / 2 if t < 1 else max(2 - t, 0) ** 3 / 6
            mirrored = abs(site) % (2 * n - 2)
            row[min(mirrored, 2 * n - 2 - mirrored)] += weight
    return rows
