"""Two scans described on coarse grids, and how much of one the other explains beyond chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.features.mind_ssc import DescriptorSettings, describe
from anamorph.geometry.grid import Grid
from anamorph.methods.pyramid import FEW_SLICES
from anamorph.methods.working_frame import Scan, body_weight, covering_grid
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.maps import Affine

BODY_REACH_MM = 20.0
AIR_WEIGHT = 0.05
SLAB_PRICE = 0.1
"""Of a voxel without partner in scans of a few slices, beyond what chance costs."""
DARK_REACH_MM = 4.0
DARK = 0.02
"""Of the range of a scan that is no CT: what is darker is taken for the air around the body."""
WEAK, WEAK_UNLIKE = 0.35, 0.5
"""Between scans of one kind, and of intensities that do not compare: where a map explains less, nothing tells a true
change of size or shape from chance, so that it stays rigid, and what matching gains must be clear."""


def weak_share(kind: IntensityKind) -> float:
    """What a wrong place may explain of scans whose intensities compare so."""
    return WEAK_UNLIKE if kind == "none" else WEAK


@dataclass(frozen=True)
class Volume:
    """A scan on a coarse grid: descriptor ``(I, J, K, C)``, weight ``(I, J, K)`` and weight of what is body."""

    descriptor: np.ndarray
    weight: np.ndarray
    body: np.ndarray
    grid: Grid

    @property
    def filled(self) -> np.ndarray:
        """The descriptor with its mean where the scan has no data, so that emptiness matches nothing well."""
        empty = self.weight <= 0
        if not empty.any() or empty.all():
            return self.descriptor
        return np.where(empty[..., None], self.descriptor[~empty].mean(axis=0), self.descriptor)

    @property
    def body_middle_mm(self) -> np.ndarray:
        """``(3,)`` RAS mm: the middle of the body."""
        weight = self.body / max(float(self.body.sum()), 1e-9)
        return self.grid.voxel_to_world(np.einsum("ijk,dijk->d", weight, np.indices(weight.shape)))

    @property
    def mass_mm3(self) -> float:
        """Weighted volume."""
        return float(self.weight.sum()) * float(np.prod(self.grid.spacing_mm))


@dataclass(frozen=True)
class ScanPair:
    """Two prepared scans, and how they are described."""

    fixed: Scan
    moving: Scan
    kind: IntensityKind
    settings: DescriptorSettings

    @property
    def is_slab(self) -> bool:
        """Whether a scan has so few slices that one of them is much of the scan."""
        return len(self.slab_normals) > 0

    @property
    def shows_whole_bodies(self) -> bool:
        """Whether both scans show a body on a ground of one value, as brains without their skulls."""
        return self.fixed.is_masked and self.moving.is_masked

    @property
    def slab_normals(self) -> np.ndarray:
        """``(N, 3)`` unit vectors in the fixed world along which a scan has a few slices only."""
        grids = self.fixed.grid, self.moving.grid
        normals = [grid.directions[:, a] for grid in grids for a, n in enumerate(grid.shape) if 1 < n <= FEW_SLICES]
        return np.array(normals).reshape(-1, 3)

    def evidence(self, overlap: Any, mismatch: Any) -> Any:
        """How much is explained beyond chance: see :func:`evidence_beyond_chance`.

        In a slab what lies outside the other scan speaks against a transform, so that without evidence no slice is
        moved out of view.
        """
        if self.is_slab:
            return overlap - mismatch - SLAB_PRICE * (1 - overlap)
        return evidence_beyond_chance(overlap, mismatch)

    def fixed_on(self, grid: Grid) -> Volume:
        """The fixed scan on a grid of its own world."""
        return self._described(self.fixed, grid, Affine.identity())

    def moving_on(self, grid: Grid, transform: Affine | None = None) -> Volume:
        """The moving scan on a grid of its own world, or under a transform from the fixed world."""
        return self._described(self.moving, grid, transform or Affine.identity())

    def _described(self, scan: Scan, grid: Grid, transform: Affine) -> Volume:
        read = scan.onto(grid, transform)
        descriptor = describe(read.channels, self.settings, self.kind, (1, 1, 1))
        return Volume(descriptor, *weights(read, self.kind, scan.is_masked), grid)


def weights(scan: Scan, kind: IntensityKind, is_masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """How much each voxel counts in a comparison, and in the overlap that a place must have.

    The air of a CT counts little in both, as does what somebody set to one value around a brain. Other air is
    not known for certain, but two scans that share nothing else do not overlap.
    """
    if kind == "ct":
        near = body_weight(scan, True, BODY_REACH_MM, AIR_WEIGHT)
        return near, near
    body = body_weight(scan, False, DARK_REACH_MM, AIR_WEIGHT, DARK)
    return (body if is_masked else scan.weight), body


def chance_mismatch(fixed: Volume, moving: Volume) -> float:
    """The mean squared difference of a voxel of one scan and a voxel of the other drawn at random."""
    (fixed_mean, fixed_square), (moving_mean, moving_square) = moments(fixed), moments(moving)
    total = fixed_square + moving_square
    # Flat images match everywhere but for rounding.
    return max(total - 2 * float(fixed_mean @ moving_mean), 1e-3 * total, 1e-12)


def moments(volume: Volume) -> tuple[np.ndarray, float]:
    """The mean ``(C,)`` of the descriptor over the body and the mean of its squared length."""
    weight = volume.body / max(float(volume.body.sum()), 1e-9)
    squares = np.einsum("ijkc,ijkc->ijk", volume.descriptor, volume.descriptor)
    # No product of matrices: its threads would wait for more of them at full speed, long after this.
    mean = np.einsum("ijk,ijkc->c", weight, volume.descriptor, dtype=np.float64)
    return mean, float((weight * squares).sum())


def variance(volume: Volume) -> float:
    """The variance of the descriptor over the body, summed over its entries."""
    mean, square = moments(volume)
    return max(square - float(mean @ mean), 1e-3 * square, 1e-12)


@dataclass(frozen=True)
class Judge:
    """Says how much a transform explains, on one coarse grid of the fixed scan.

    ``fixed`` is the fixed scan there, ``chance`` the mismatch of voxels drawn at random, ``moving_mass_mm3`` the
    weighted volume of the whole moving scan.
    """

    pair: ScanPair
    fixed: Volume
    chance: float
    moving_mass_mm3: float

    @classmethod
    def of(cls, pair: ScanPair, fixed: Volume, moving: Volume) -> Judge:
        """Judge on the grid of a description of the fixed scan; ``moving`` is the whole moving scan, as coarse."""
        return cls(pair, fixed, chance_mismatch(fixed, moving), moving.mass_mm3)

    def on(self, voxels: int) -> Judge:
        """The same with so many voxels along the longest axis; chance grows as the variance of the fixed scan does."""
        fixed = self.pair.fixed_on(search_grid(self.pair.fixed.grid, voxels))
        chance = self.chance * variance(fixed) / variance(self.fixed)
        return Judge(self.pair, fixed, chance, self.moving_mass_mm3)

    def moved(self, transform: Affine) -> Volume:
        """The moving scan under a transform, described anew: MIND-SSC depends on directions."""
        return self.pair.moving_on(self.fixed.grid, transform)

    def explained(self, moved: Volume, transform: Affine) -> tuple[float, float]:
        """The share of the smaller scan that the other explains, and the share that has a partner.

        0 is what scans laid upon each other at random reach, 1 two equal scans. A voxel without partner counts as one
        drawn at random: it neither speaks for the transform nor against it.
        """
        # The geometric mean, so that a scan overlaps with itself by its own weight.
        both = np.sqrt(self.fixed.weight * moved.weight)
        apart = np.empty_like(both)
        over_slabs(_squared_differences, len(apart), self.fixed.descriptor, moved.descriptor, apart)
        mismatch = float((both * apart).sum())
        stretch = abs(np.linalg.det(transform.matrix[:3, :3]))
        voxel_mm3 = float(np.prod(self.fixed.grid.spacing_mm))
        overlap = float(both.sum())
        smaller = max(min(self.fixed.mass_mm3, self.moving_mass_mm3 / stretch) / voxel_mm3, overlap, 1e-9)
        share = overlap / smaller
        return self.pair.evidence(share, mismatch / self.chance / smaller), share


def _squared_differences(begin: int, end: int, one: np.ndarray, other: np.ndarray, out: np.ndarray) -> None:
    """Of descriptors, summed over their entries, plane by plane, as a plane fits into the cache."""
    for i in range(begin, end):
        difference = one[i] - other[i]
        np.einsum("jkc,jkc->jk", difference, difference, out=out[i])


def evidence_beyond_chance(overlap: Any, mismatch: Any) -> Any:
    """How much is explained beyond chance, in units in which chance varies alike whatever the overlap.

    Args:
        overlap: share of the smaller scan that has a partner.
        mismatch: summed over the overlap, as a share of what chance costs over the whole smaller scan.

    Returns:
        ``(overlap - mismatch) / sqrt(overlap)``: the mean over n independent voxels varies as 1 / sqrt(n).
    """
    return (overlap - mismatch) / np.sqrt(np.maximum(overlap, 1e-6))


def search_grid(grid: Grid, voxels: int) -> Grid:
    """A field of view with equal voxels, so many along its longest side, but none smaller than those of the scan."""
    return covering_grid(grid, grid.directions, max(grid.longest_mm / voxels, grid.finest_mm))
