"""Two scans described on coarse grids, and how much of one the other explains beyond chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anamorph.features.descriptor import DescriptorSettings, describe
from anamorph.features.intensity import IntensityKind
from anamorph.geometry import Grid
from anamorph.methods.working_frame import Scan, body_weight, covering_grid
from anamorph.transforms import Affine

BODY_REACH_MM = 20.0
AIR_WEIGHT = 0.05
DARK = 0.02
"""Of the range of a scan that is no CT: what is darker is taken for the air around the body."""


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

    def fixed_on(self, grid: Grid) -> Volume:
        """The fixed scan on a grid of its own world."""
        return self._described(self.fixed, grid, Affine.identity())

    def moving_on(self, grid: Grid, transform: Affine | None = None) -> Volume:
        """The moving scan on a grid of its own world, or under a transform from the fixed world."""
        return self._described(self.moving, grid, transform or Affine.identity())

    def _described(self, scan: Scan, grid: Grid, transform: Affine) -> Volume:
        read = scan.onto(grid, transform)
        weight, body = weights(read, self.kind)
        return Volume(describe(read.channels, self.settings, self.kind, (1, 1, 1)), weight, body, grid)


def weights(scan: Scan, kind: IntensityKind) -> tuple[np.ndarray, np.ndarray]:
    """How much each voxel counts in a comparison, and in the overlap that a place must have.

    The air of a CT counts little in both. That of other scans is not told from tissue for certain, but two scans that
    share nothing else do not overlap.
    """
    body = body_weight(scan, kind == "ct", BODY_REACH_MM, AIR_WEIGHT, DARK)
    return (body if kind == "ct" else scan.weight), body


def chance_mismatch(fixed: Volume, moving: Volume) -> float:
    """The mean squared difference of a voxel of one scan and a voxel of the other drawn at random."""
    moments = []
    for volume in (fixed, moving):
        weight = volume.weight / max(float(volume.weight.sum()), 1e-9)
        mean = np.tensordot(weight, volume.descriptor, 3)
        moments.append(
            (mean, float((weight * np.einsum("ijkc,ijkc->ijk", volume.descriptor, volume.descriptor)).sum()))
        )
    (fixed_mean, fixed_square), (moving_mean, moving_square) = moments
    total = fixed_square + moving_square
    # Flat images match everywhere but for rounding.
    return max(total - 2 * float(fixed_mean @ moving_mean), 1e-3 * total, 1e-12)


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
    def at(cls, pair: ScanPair, voxels: int, about: Affine, moving_mass_mm3: float) -> Judge:
        """Describe the fixed scan with so many voxels along its longest axis.

        Chance is that of the moving scan under a transform that is about right.
        """
        fixed = pair.fixed_on(search_grid(pair.fixed.grid, voxels))
        return cls(pair, fixed, chance_mismatch(fixed, pair.moving_on(fixed.grid, about)), moving_mass_mm3)

    def finer(self, voxels: int, about: Affine) -> Judge:
        """The same on a finer grid."""
        return Judge.at(self.pair, voxels, about, self.moving_mass_mm3)

    def moved(self, transform: Affine) -> Volume:
        """The moving scan under a transform, described anew: MIND-SSC depends on directions."""
        return self.pair.moving_on(self.fixed.grid, transform)

    def explained(self, moved: Volume, transform: Affine) -> tuple[float, float]:
        """The share of the smaller scan that the other explains, and the share that has a partner.

        0 is what scans laid upon each other at random reach, 1 two equal scans. A voxel without partner counts as one
        drawn at random: it neither speaks for the transform nor against it.
        """
        both = self.fixed.weight * moved.weight
        difference = self.fixed.descriptor - moved.descriptor
        mismatch = float((both * np.einsum("ijkc,ijkc->ijk", difference, difference)).sum())
        stretch = abs(np.linalg.det(transform.matrix[:3, :3]))
        voxel_mm3 = float(np.prod(self.fixed.grid.spacing_mm))
        smaller = max(min(self.fixed.mass_mm3, self.moving_mass_mm3 / stretch) / voxel_mm3, 1e-9)
        overlap = float(both.sum())
        return evidence(overlap / smaller, mismatch / self.chance / smaller), overlap / smaller


def evidence(overlap: Any, mismatch: Any) -> Any:
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
