"""All translations at once: the share that each explains, by Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.start.volumes import ScanPair, Volume, chance_mismatch, search_grid
from anamorph.methods.working_frame import covering_grid
from anamorph.runtime.threads import thread_count
from anamorph.transforms.maps import Affine

AXES = (-3, -2, -1)
NOT_TRIED = -10.0
"""Less than any translation explains."""
WORKERS = 2
"""Threads of the transforms, at the most."""
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
    """The share explained ``(L, M, N)`` by every shift of whole voxels; ``NOT_TRIED`` where too little overlaps.

    Index s means that voxel x of the fixed grid meets voxel x + s of the moving grid, negative shifts from the end.
    ``chance_spread`` is the standard deviation over all shifts: what differs by less may be chance.
    """

    explained: np.ndarray
    overlap: np.ndarray
    fixed: Volume
    moving: Volume
    chance_spread: float

    @classmethod
    def of(cls, pair: ScanPair, fixed: Volume, moving: Volume) -> Translations:
        """Try every shift of two volumes with the same directions and spacing."""
        correlator = Correlator(pair, fixed, moving, moving.weight.shape)
        descriptor = np.moveaxis(moving.descriptor, -1, 0)
        explained, overlap = correlator.explained(descriptor, moving.weight, moving.body, LEAST_OVERLAP)
        tried = explained[explained > NOT_TRIED]
        return cls(explained, overlap, fixed, moving, float(tried.std()) if len(tried) else 0.0)

    def best(self, count: int, apart_vox: int, dense: float = 0.0) -> list[tuple[float, Affine]]:
        """The highest peaks with what they explain, best first, none closer to a higher one than so many voxels.

        ``dense`` is the exponent of the overlap by which what fits well in a smaller part is preferred.
        """
        from scipy.ndimage import maximum_filter

        score = self.explained
        if dense:
            enough = self.overlap > DENSE_OVERLAP
            score = np.where(enough, score / np.maximum(self.overlap, DENSE_OVERLAP) ** dense, NOT_TRIED)
        peaks = (maximum_filter(score, 2 * apart_vox + 1, mode="wrap") == score) & (score > 0)
        values = self.explained[peaks]
        order = np.argsort(-score[peaks], kind="stable")[:count]
        places = np.argwhere(peaks)
        return [(float(values[i]), self._translation(places[i])) for i in order]

    def near(self, transform: Affine) -> float:
        """What the best shift within a voxel of a transform explains."""
        middle = self.fixed.grid.centre_mm
        shift = self.moving.grid.world_to_voxel(transform.map_world(middle)) - self.fixed.grid.world_to_voxel(middle)
        around = np.rint(shift).astype(int) + np.array(list(np.ndindex(3, 3, 3))) - 1
        shape = np.array(self.explained.shape)
        reachable = (around > -np.array(self.fixed.weight.shape)) & (around < self.moving.weight.shape)
        around = around[reachable.all(axis=1)] % shape
        return float(self.explained[tuple(around.T)].max()) if len(around) else NOT_TRIED

    def _translation(self, index: np.ndarray) -> Affine:
        shift = shifts_of(index, self.moving.weight.shape, self.explained.shape)
        return Affine.translation(self.moving.grid.voxel_to_world(shift) - self.fixed.grid.voxel_to_world(np.zeros(3)))


def shifts_of(index: np.ndarray, moving_shape: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """The shifts that indices ``(..., 3)`` into a correlation stand for: past the moving volume they are negative."""
    return np.where(index < moving_shape, index, index - np.array(size))


def translation_grids(fixed: Grid, moving: Grid) -> tuple[Grid, Grid]:
    """Both fields of view along the axes of the fixed one, with voxels of one size, on which shifts are tried."""
    here = search_grid(fixed, SEARCH_VOXELS)
    spacing_mm = here.finest_mm
    there = covering_grid(moving, fixed.directions, spacing_mm)
    while np.prod(there.shape) > MOST_VOXELS:
        spacing_mm *= max((np.prod(there.shape) / MOST_VOXELS) ** (1 / 3), 1.02)
        here, there = (covering_grid(grid, fixed.directions, spacing_mm) for grid in (fixed, moving))
    return here, there


class Correlator:
    """What the fixed scan shares with the moving one under every shift: its transforms are computed once.

    Args:
        pair: both scans.
        fixed: the fixed scan.
        moving: the whole moving scan, as coarse.
        moving_shape: ``(L, M, N)`` of the volumes that are shifted.
    """

    def __init__(self, pair: ScanPair, fixed: Volume, moving: Volume, moving_shape: tuple[int, ...]) -> None:
        import scipy.fft

        self.pair = pair
        self.chance = chance_mismatch(fixed, moving)
        self.smaller = max(min(float(fixed.weight.sum()), float(moving.weight.sum())), 1e-9)
        pairs = zip(fixed.weight.shape, moving_shape, strict=True)
        self.size = tuple(scipy.fft.next_fast_len(a + b - 1, real=True) for a, b in pairs)
        channels, weight = np.moveaxis(fixed.descriptor, -1, 0), np.sqrt(fixed.weight)
        self.used = [number for number, values in enumerate(channels) if values.any()]
        self.ones = self._forward(weight).conj()
        self.body = self._forward(fixed.body).conj()
        self.body_sum = float(fixed.body.sum())
        self.squares = self._forward(weight * np.einsum("cijk,cijk->ijk", channels, channels)).conj()
        self.values = [self._forward(2 * weight * channels[number]).conj() for number in self.used]

    @property
    def spectra(self) -> np.ndarray:
        """``(2 + channels, F)``: the conjugate transforms of weight, squared length and doubled channels."""
        return np.stack([one.ravel() for one in (self.ones, self.squares, *self.values)])

    def explained(
        self, channels: np.ndarray, weight: np.ndarray, body: np.ndarray, least_overlap: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """What every shift explains, ``NOT_TRIED`` where less of the scans or their bodies overlaps, and the overlap.

        Arguments and shapes are those of :meth:`shares`; the overlap is a share of the smaller scan.
        """
        overlap, mismatch, bodies = self.shares(channels, weight, body)
        overlap /= self.smaller
        allowed = (overlap > least_overlap) & (bodies > least_overlap)
        explained = np.full(overlap.shape, NOT_TRIED, np.float32)
        explained[allowed] = self.pair.evidence(overlap[allowed], mismatch[allowed] / self.chance / self.smaller)
        return explained, overlap

    def shares(
        self, channels: np.ndarray, weight: np.ndarray, body: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every shift the weight of the overlap, the mismatch over it, and the share of the smaller body.

        With roots of weights w and descriptors D the mismatch is ``sum w_f(x) w_m(x+t) ||D_f(x) - D_m(x+t)||^2``, which
        opens into correlations (Fitch et al. 2005; masked as in Padfield 2012): one pass of transforms tries every t.

        Args:
            channels: ``(..., C, L, M, N)``; leading axes are tried alike.
            weight: ``(..., L, M, N)``.
            body: likewise.

        Returns:
            three arrays ``(..., *size)``, negative shifts from the end.
        """
        weight = np.sqrt(weight)
        ones = self._forward(weight)
        total = self.squares * ones
        total += self.ones * self._forward(weight * np.einsum("...cijk,...cijk->...ijk", channels, channels))
        for number, values in zip(self.used, self.values, strict=True):
            total -= values * self._forward(weight * channels[..., number, :, :, :])
        overlap = self.back(self.ones * ones)
        bodies = self.back(self.body * self._forward(body))
        smaller = np.minimum(self.body_sum, body.sum(axis=(-3, -2, -1), keepdims=True))
        return overlap, self.back(total), bodies / np.maximum(smaller, 1e-9)

    def _forward(self, volume: np.ndarray) -> np.ndarray:
        import scipy.fft

        return scipy.fft.rfftn(
            volume.astype(np.float32, copy=False), self.size, AXES, workers=min(thread_count(), WORKERS)
        )

    def padded_forward(self, volumes: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The transforms of ``(..., L, M, N)`` that end in zeros along the last axis; other zeros are left out.

        Args:
            volumes: of which N is the size of the transform.
            out: ``(..., *half of the size)`` complex64, overwritten.
        """
        import scipy.fft

        planes, rows = volumes.shape[-3:-1]
        out.fill(0)
        out[..., :planes, :rows, :] = scipy.fft.rfft(volumes, axis=-1)
        scipy.fft.fft(out[..., :planes, :, :], axis=-2, overwrite_x=True)
        return scipy.fft.fft(out, axis=-3, overwrite_x=True)

    def back(self, product: np.ndarray) -> np.ndarray:
        """The volumes ``(..., *size)`` of some transforms."""
        import scipy.fft

        return scipy.fft.irfftn(product, self.size, AXES, workers=min(thread_count(), WORKERS))
