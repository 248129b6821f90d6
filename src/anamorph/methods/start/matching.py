"""From a rough linear start to an exact one: block matching, then Gauss-Newton steps on the descriptors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anamorph.discrete.coupled_convex import match_blocks
from anamorph.methods.start.volumes import Judge, Volume
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import POINTS, over_slabs
from anamorph.transforms.affine import LinearModel, fit_least_trimmed_squares, is_plausible
from anamorph.transforms.maps import Affine

KEEP = 0.5
"""Fraction of the blocks, the clearest ones, that enter the fit."""
STRETCH_PRICE = 0.5
"""Relative rise of the cost per squared log of the stretch: what a smaller, smoother image would gain by itself."""
LEAST_GAIN = 0.002
SHRINKS = 0.95
"""A Gauss-Newton step that is not so much shorter than the one before leads nowhere."""
TOLERATED = 0.03
"""Loss of what is explained in one such step."""
COPIES, TOLERATED_OF_COPIES = 0.92, 0.06
"""The same from an explained share on that copies of one scan reach: noise that is read alike in both agrees best where
the voxels coincide, half a voxel away from the right place. Slabs would slide through their few slices."""
EXACT_VOX = 0.1
"""Steps of which the corners move less end the search."""
MOST_POSITIONS = 12000
"""Voxels that enter a Gauss-Newton step."""


@dataclass(frozen=True)
class Stage:
    """Block matching: voxels along the longest axis, block size, and reach of the window per round, in voxels."""

    voxels: int
    cell: int
    radii: tuple[int, ...]


@dataclass(frozen=True)
class Matched:
    """A transform, the moving scan under it, and what it explains."""

    transform: Affine
    moved: Volume
    explained: float
    overlap: float

    @classmethod
    def of(cls, judge: Judge, transform: Affine) -> Matched:
        """Lay the moving scan upon the fixed one."""
        moved = judge.moved(transform)
        return cls(transform, moved, *judge.explained(moved, transform))

    @property
    def cost(self) -> float:
        """What is left unexplained, more for a map that stretches."""
        stretch = np.linalg.svd(self.transform.matrix[:3, :3], compute_uv=False)
        return max(1 - self.explained, 0.0) * (1 + STRETCH_PRICE * float((np.log(stretch) ** 2).sum()))


def match(judge: Judge, start: Matched, stage: Stage, model: LinearModel) -> Matched:
    """Rounds of block matching, as long as they lower the cost."""
    for radius in stage.radii:
        source, target = _correspondences(judge.fixed, start.moved, stage.cell, radius)
        for normal in judge.pair.slab_normals:
            # Neighbouring slices differ too little from noise: blocks are moved within them only.
            target = target - np.outer((target - source) @ normal, normal)
        if len(source) < 4:
            break
        better = _accepted(judge, start, fit_least_trimmed_squares(source, target, model))
        if better is None:
            break
        start = better
    return start


def polish(judge: Judge, start: Matched, model: LinearModel, rounds: int) -> Matched:
    """Gauss-Newton steps, as long as they shrink.

    What a map explains is no guide so close to the end: a map that blurs or cuts off a little may explain more than the
    right one. It only must not fall by much.
    """
    corners = judge.fixed.grid.corners_mm()
    last_mm = np.inf
    are_copies = start.explained > COPIES and not judge.pair.is_slab
    tolerated = TOLERATED_OF_COPIES if are_copies else TOLERATED
    for _ in range(rounds):
        step = Affine(gauss_newton(judge, start.moved, model))
        length_mm = float(np.linalg.norm(step.map_world(corners) - corners, axis=1).mean())
        better = Matched.of(judge, Affine(start.transform.matrix @ step.matrix))
        if length_mm > SHRINKS * last_mm or better.explained < start.explained - tolerated:
            break
        start, last_mm = better, length_mm
        if length_mm < EXACT_VOX * judge.fixed.grid.finest_mm:
            break
    return start


def gauss_newton(judge: Judge, moved: Volume, model: LinearModel) -> np.ndarray:
    """The linear map of the fixed world that brings the moved scan closer to the fixed one.

    Gradients are the mean of those of both scans, which makes the step one of second order (Benhimane and Malis 2004);
    voxels count the less the closer their mismatch comes to chance, and beyond it not at all.

    Returns:
        4x4 matrix in mm; directions without structure keep the identity.
    """
    fixed = judge.fixed
    weight = (fixed.weight * moved.weight).ravel()
    shape = np.array(fixed.weight.shape)
    inner = np.zeros(shape, bool)
    inner[tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)] = True
    chosen = np.flatnonzero(inner.ravel() & (weight > 0))
    if len(chosen) == 0:
        return np.eye(4)
    chosen = np.ascontiguousarray(chosen[:: -(-len(chosen) // MOST_POSITIONS) or 1])
    # From voxels to a frame in which the field of view has about unit size.
    size_mm = fixed.grid.longest_mm / 2
    place = fixed.grid.affine[:3].copy()
    place[:, 3] -= fixed.grid.centre_mm
    place /= size_mm
    to_unit = np.linalg.inv(fixed.grid.affine[:3, :3]) * size_mm
    right, left = _sums(fixed, moved, chosen, judge.chance, place)
    right = (to_unit.T @ right).ravel()
    left = np.einsum("deab,dx,ey->xayb", left, to_unit, to_unit).reshape(12, 12)
    basis = _generators(model)
    reduced = basis @ left @ basis.T
    damping = 1e-4 * max(float(np.trace(reduced)) / len(basis), 1e-12)
    step = basis.T @ np.linalg.solve(reduced + damping * np.eye(len(basis)), basis @ right)
    return _as_matrix(step.reshape(3, 4), model, size_mm, fixed.grid.centre_mm)


def _sums(
    fixed: Volume, moved: Volume, chosen: np.ndarray, chance: float, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Over the chosen voxels ``(N,)``, the sums that make a Gauss-Newton step.

    ``place`` ``(3, 4)`` leads from voxels to where they are; with a 1 after it h is that place, t the trust in a voxel.

    Returns:
        ``(3, 4)``: the sum of t, the product of gradient and difference, and h; ``(3, 3, 4, 4)``: that of t, two
        components of the gradient, and two of h.
    """
    if kernels is None:
        return _sums_numpy(fixed, moved, chosen, chance, place)
    sides = [
        (
            volume.descriptor,
            volume.weight,
            volume.descriptor.reshape(-1, volume.descriptor.shape[-1])[chosen].mean(axis=0),
        )
        for volume in (fixed, moved)
    ]
    arrays = (np.ascontiguousarray(array, np.float32) for side in sides for array in side)
    given = *arrays, chosen, chance, np.ascontiguousarray(place)
    sums = np.sum(over_slabs(kernels.gauss_newton, len(chosen), *given, least=POINTS // 8), axis=0)
    return sums[:12].reshape(3, 4), sums[12:].reshape(3, 3, 4, 4)


def _sums_numpy(
    fixed: Volume, moved: Volume, chosen: np.ndarray, chance: float, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The readable twin of the kernel of :func:`_sums`."""
    shape = fixed.weight.shape
    here, there = _lanes_at(fixed, chosen), _lanes_at(moved, chosen)
    difference = here(0) - there(0)
    mismatch = np.einsum("nc,nc->n", difference, difference)
    weight = (fixed.weight * moved.weight).ravel()[chosen]
    trust = weight * np.clip(1 - mismatch / chance, 0, None) ** 2
    gradient = np.zeros((*difference.shape, 3), np.float32)
    for axis, stride in enumerate((shape[1] * shape[2], shape[2], 1)):
        if shape[axis] > 2:
            gradient[..., axis] = (here(stride) + there(stride) - here(-stride) - there(-stride)) / 4
    pull = np.einsum("ncd,nc->nd", gradient, difference)
    metric = np.einsum("ncd,nce->nde", gradient, gradient)
    voxels = np.stack(np.unravel_index(chosen, shape), axis=-1)
    homogeneous = np.concatenate([voxels @ place[:, :3].T + place[:, 3], np.ones((len(chosen), 1))], axis=1)
    right = np.einsum("n,nd,na->da", trust, pull, homogeneous)
    return right, np.einsum("n,nde,na,nb->deab", trust, metric, homogeneous, homogeneous, optimize=True)


def _lanes_at(volume: Volume, chosen: np.ndarray) -> Callable[[int], np.ndarray]:
    """What reads the descriptor so many voxels from those chosen, their mean where the scan has no data."""
    descriptor, weight = volume.descriptor.reshape(-1, volume.descriptor.shape[-1]), volume.weight.ravel()
    mean = descriptor[chosen].mean(axis=0)
    return lambda offset: np.where(weight[chosen + offset, None] > 0, descriptor[chosen + offset], mean)


def _generators(model: LinearModel) -> np.ndarray:
    """The ``(P, 12)`` directions, rows of a 3x4 matrix one after another, in which a model may change."""
    shifts = np.zeros((3, 3, 4))
    shifts[range(3), range(3), 3] = 1
    if model == "translation":
        return shifts.reshape(3, 12)
    if model == "affine":
        return np.eye(12)
    turns = np.zeros((3, 3, 4))
    for turn, (a, b) in zip(turns, ((1, 2), (2, 0), (0, 1)), strict=True):
        turn[b, a], turn[a, b] = 1, -1
    size = [np.eye(3, 4)[None]] if model == "similarity" else []
    return np.concatenate([turns, *size, shifts]).reshape(-1, 12)


def _as_matrix(step: np.ndarray, model: LinearModel, size_mm: float, centre_mm: np.ndarray) -> np.ndarray:
    from scipy.linalg import expm

    linear = step[:, :3]
    around = np.eye(4)
    around[:3, :3] = np.eye(3) + linear if model == "affine" else expm(linear)
    around[:3, 3] = size_mm * step[:, 3] + centre_mm - around[:3, :3] @ centre_mm
    return around


def _accepted(judge: Judge, current: Matched, update: np.ndarray) -> Matched | None:
    """The updated map if it lowers the cost, else the map half-way there if that does, else nothing."""
    for part in (lambda: update, lambda: _half(update)):
        matrix = current.transform.matrix @ part()
        if not is_plausible(matrix):
            continue
        candidate = Matched.of(judge, Affine(matrix))
        if candidate.cost < (1 - LEAST_GAIN) * current.cost:
            return candidate
    return None


def _correspondences(fixed: Volume, moved: Volume, cell: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """World positions of matching blocks where both scans have data, searched in both directions."""
    both = fixed.weight * moved.weight
    window = (cell, 1, radius, KEEP)
    fixed_side, matched = match_blocks(fixed.descriptor, both, moved.filled, *window)
    moving_side, back = match_blocks(moved.descriptor, both, fixed.filled, *window)
    source = fixed.grid.voxel_to_world(np.concatenate([fixed_side, back]))
    target = fixed.grid.voxel_to_world(np.concatenate([matched, moving_side]))
    return source, target


def _half(matrix: np.ndarray) -> np.ndarray:
    """Half of a linear map: the real square root of its matrix, so that half of a rotation is a rotation."""
    from scipy.linalg import sqrtm  # other powers are found by threads that go on waiting at full speed

    half: np.ndarray = np.real(sqrtm(matrix))
    return half
