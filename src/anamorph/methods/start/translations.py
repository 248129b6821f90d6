"""All translations at once: the share that each explains, by Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anamorph.geometry import Grid
from anamorph.methods.start.volumes import Volume, chance_mismatch, evidence, search_grid
from anamorph.methods.working_frame import covering_grid
from anamorph.transforms import Affine

Transform = Callable[[np.ndarray], np.ndarray]
WORKERS = 2
"""Threads of the transforms."""
SEARCH_VOXELS = 32
"""Along the longest axis of the fixed scan."""
MOST_VOXELS = 2**19
"""Of the moving scan; a larger field of view is searched with coarser voxels."""
LEAST_OVERLAP = 0.2
"""Of the smaller scan; below it a translation is not considered."""

DENSE_OVERLAP = 0.35
"""The same for a little that fits well."""


@dataclass(frozen=True)
class Translations:
    """The share explained ``(L, M, N)`` by every shift of whole voxels; -1 where too little overlaps.

    Index s means that voxel x of the fixed grid meets voxel x + s of the moving grid, negative shifts from the end.
    ``chance_spread`` is the standard deviation over all shifts: what differs by less may be chance.
    """

    explained: np.ndarray
    overlap: np.ndarray
    fixed: Volume
    moving: Volume
    chance_spread: float

    @classmethod
    def of(cls, fixed: Volume, moving: Volume) -> Translations:
        """Try every shift of two volumes with the same directions and spacing.

        With weights w and descriptors D the mismatch over the overlap is
        ``sum w_f(x) w_m(x+t) ||D_f(x) - D_m(x+t)||^2``, which opens into correlations (Fitch et al. 2005; masked as in
        Padfield 2012), so one pass of transforms tries every t.
        """
        overlap, mismatch = masked_mismatch(
            np.moveaxis(fixed.descriptor, -1, 0), fixed.weight, np.moveaxis(moving.descriptor, -1, 0), moving.weight
        )
        smaller = max(min(float(fixed.weight.sum()), float(moving.weight.sum())), 1e-9)
        allowed = (overlap > LEAST_OVERLAP * smaller) & enough_body(fixed.body, moving.body, LEAST_OVERLAP)
        explained = np.full(overlap.shape, -1.0, np.float32)
        explained[allowed] = evidence(
            overlap[allowed] / smaller, mismatch[allowed] / chance_mismatch(fixed, moving) / smaller
        )
        return cls(
            explained, overlap / smaller, fixed, moving, float(explained[allowed].std()) if allowed.any() else 0.0
        )

    def best(self, count: int, apart_vox: int, dense: float = 0.0) -> list[tuple[float, Affine]]:
        """The highest peaks with what they explain, best first, none closer to a higher one than so many voxels.

        ``dense`` is the exponent of the overlap by which what fits well in a smaller part is preferred.
        """
        from scipy.ndimage import maximum_filter

        score = self.explained
        if dense:
            enough = self.overlap > DENSE_OVERLAP
            score = np.where(enough, score / np.maximum(self.overlap, DENSE_OVERLAP) ** dense, -1.0)
        peaks = (maximum_filter(score, 2 * apart_vox + 1, mode="wrap") == score) & (score > 0)
        values = self.explained[peaks]
        order = np.argsort(-score[peaks], kind="stable")[:count]
        places = np.argwhere(peaks)
        return [(float(values[i]), self._translation(places[i])) for i in order]

    def near(self, transform: Affine) -> float:
        """What the best shift within a voxel of a transform explains."""
        middle = self.fixed.grid.centre_mm
        shift = self.moving.grid.world_to_voxel(transform.map_world(middle)) - self.fixed.grid.world_to_voxel(middle)
        around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) + np.rint(
            shift
        ).astype(int)
        shape = np.array(self.explained.shape)
        reachable = (around > -np.array(self.fixed.weight.shape)) & (around < self.moving.weight.shape)
        around = around[reachable.all(axis=1)] % shape
        return float(self.explained[tuple(around.T)].max()) if len(around) else -1.0

    def _translation(self, index: np.ndarray) -> Affine:
        # Indices past the moving grid are negative shifts, by the periodicity of the transform.
        shift = np.where(index < self.moving.weight.shape, index, index - np.array(self.explained.shape))
        return Affine.translation(self.moving.grid.voxel_to_world(shift) - self.fixed.grid.voxel_to_world(np.zeros(3)))


def enough_body(fixed: np.ndarray, moving: np.ndarray, least: float) -> np.ndarray:
    """For which shifts so much of the smaller body ``(..., I, J, K)`` lies in the other one."""
    overlap = correlation(fixed, moving)
    smaller = np.minimum(fixed.sum(), moving.sum(axis=(-3, -2, -1), keepdims=True))
    return overlap > least * np.maximum(smaller, 1e-9)


def translation_grids(fixed: Grid, moving: Grid) -> tuple[Grid, Grid]:
    """Both fields of view along the axes of the fixed one, with voxels of one size, on which shifts are tried."""
    here = search_grid(fixed, SEARCH_VOXELS)
    spacing_mm = here.finest_mm
    there = covering_grid(moving, fixed.directions, spacing_mm)
    while np.prod(there.shape) > MOST_VOXELS:
        spacing_mm *= max((np.prod(there.shape) / MOST_VOXELS) ** (1 / 3), 1.02)
        here, there = (covering_grid(grid, fixed.directions, spacing_mm) for grid in (fixed, moving))
    return here, there


def masked_mismatch(
    fixed: np.ndarray, fixed_weight: np.ndarray, moving: np.ndarray, moving_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the overlap and weighted squared difference over it, for every shift.

    Args:
        fixed: ``(C, I, J, K)``.
        fixed_weight: ``(I, J, K)``.
        moving: ``(..., C, L, M, N)``; leading axes are tried alike.
        moving_weight: ``(..., L, M, N)``.

    Returns:
        two arrays ``(..., *sizes)``, sizes of at least I + L - 1 along each axis, negative shifts from the end.
    """
    transform, back = transforms(fixed.shape, moving.shape)
    ones, moving_ones = transform(fixed_weight).conj(), transform(moving_weight)
    total = transform(fixed_weight * (fixed**2).sum(axis=0)).conj() * moving_ones
    total += ones * transform(moving_weight * (moving**2).sum(axis=-4))
    for channel, values in enumerate(fixed):
        if values.any():
            product = transform(2 * fixed_weight * values).conj()
            total -= product * transform(moving_weight * moving[..., channel, :, :, :])
    return back(ones * moving_ones), back(total)


def correlation(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """The sum of products of two volumes for every shift; shapes and shifts as for :func:`masked_mismatch`."""
    transform, back = transforms(fixed.shape, moving.shape)
    return back(transform(fixed).conj() * transform(moving))


def transforms(fixed: tuple[int, ...], moving: tuple[int, ...]) -> tuple[Transform, Transform]:
    """The Fourier transform of the last three axes, large enough for every shift, and its inverse."""
    import scipy.fft

    axes = (-3, -2, -1)
    size = [scipy.fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed[-3:], moving[-3:], strict=True)]

    def forward(volume: np.ndarray) -> np.ndarray:
        return scipy.fft.rfftn(volume.astype(np.float32, copy=False), size, axes, workers=WORKERS)

    def back(product: np.ndarray) -> np.ndarray:
        return scipy.fft.irfftn(product, size, axes, workers=WORKERS)

    return forward, back
