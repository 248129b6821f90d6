"""All translations at once: the masked mean descriptor mismatch by Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TranslationSearch:
    """The best shift and what a mismatch costs.

    ``shift_vox``: voxel x of the fixed grid matches voxel x + shift of the moving grid. ``typical`` is the median
    mismatch over all translations, the price of a fixed voxel that finds no partner.
    """

    shift_vox: np.ndarray
    cost: float
    typical: float


def search_translation(
    fixed: np.ndarray,
    fixed_weight: np.ndarray,
    moving: np.ndarray,
    moving_weight: np.ndarray,
    least_overlap: float,
    missing_price: float,
) -> TranslationSearch:
    """Find the translation of least ``(mismatch in the overlap + price of what does not overlap) / smaller weight``.

    With weights w and descriptors D the mismatch over the overlap is ``sum w_f(x) w_m(x+t) ||D_f(x) - D_m(x+t)||^2``,
    which opens into correlations (Fitch et al. 2005; masked as in Padfield 2012), so one pass of transforms tries every
    t.

    Args:
        fixed: ``(I, J, K, C)``.
        fixed_weight: ``(I, J, K)``.
        moving: ``(L, M, N, C)``, same spacing and directions.
        moving_weight: ``(L, M, N)``.
        least_overlap: fraction of the smaller total weight that must overlap.
        missing_price: price of weight without overlap, as a fraction of the typical mismatch.
    """
    import scipy.fft

    size = [
        scipy.fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed.shape[:3], moving.shape[:3], strict=True)
    ]

    def transform(volume: np.ndarray) -> np.ndarray:
        return scipy.fft.rfftn(volume, size, workers=2)

    def correlate(product: np.ndarray) -> np.ndarray:
        return scipy.fft.irfftn(product, size, workers=2)

    fixed_ones, moving_ones = transform(fixed_weight).conj(), transform(moving_weight)
    overlap = correlate(fixed_ones * moving_ones)
    mismatch_transform = transform(fixed_weight * (fixed**2).sum(axis=-1)).conj() * moving_ones
    mismatch_transform += fixed_ones * transform(moving_weight * (moving**2).sum(axis=-1))
    for channel in range(fixed.shape[3]):
        if fixed[..., channel].any():
            product = transform(fixed_weight * fixed[..., channel]).conj()
            product *= transform(moving_weight * moving[..., channel])
            mismatch_transform -= 2 * product
    mismatch = correlate(mismatch_transform)
    smaller = min(float(fixed_weight.sum()), float(moving_weight.sum()))
    allowed = overlap > least_overlap * smaller
    # Flat images match everywhere but for rounding; the floor makes them stay where they overlap most.
    energy = (fixed_weight * (fixed**2).sum(axis=-1)).sum() / max(float(fixed_weight.sum()), 1e-9)
    typical = float(max(np.median(mismatch[allowed] / overlap[allowed]), 1e-3 * energy))
    total = np.full(overlap.shape, np.inf)
    missing = np.maximum(smaller - overlap[allowed], 0)
    total[allowed] = (mismatch[allowed] + missing_price * typical * missing) / smaller
    best = np.array(np.unravel_index(np.argmin(total), total.shape))
    # Indices past the moving grid are negative shifts, by the periodicity of the transform.
    shift = np.where(best < moving.shape[:3], best, best - np.array(size))
    return TranslationSearch(shift, float(total.min()), typical)


def overlap_cost(
    fixed: np.ndarray,
    fixed_weight: np.ndarray,
    moving: np.ndarray,
    moving_weight: np.ndarray,
    unmatched: float,
) -> float:
    """The cost of :func:`search_translation` for two descriptors already on one grid, per fixed weight.

    ``unmatched`` is what weight without overlap costs: the price of the search times its typical mismatch.
    """
    both = fixed_weight * moving_weight
    mismatch = float((both * ((fixed - moving) ** 2).sum(axis=-1)).sum())
    whole = float(fixed_weight.sum())
    return (mismatch + unmatched * max(whole - float(both.sum()), 0.0)) / max(whole, 1e-9)
