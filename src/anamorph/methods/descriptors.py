"""Two scans on one grid, described for comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.features.mind_ssc import LANES, DescriptorSettings, describe, lanes_used
from anamorph.geometry.averaging import Cell, pool_descriptor, pool_volume
from anamorph.methods.guide import Guide
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.working_frame import Side
from anamorph.runtime.device import to_device
from anamorph.transforms.maps import Transform

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""


@dataclass(frozen=True)
class DescribedPair:
    """Both descriptors ``(I, J, K, C)`` and weights ``(I, J, K)`` on one grid; lanes from ``used`` on are empty."""

    fixed: Array
    fixed_weight: Array
    moving: Array
    moving_weight: Array
    used: int | None = None

    @property
    def filled(self) -> int:
        """How many lanes hold something."""
        return int(self.fixed.shape[-1]) if self.used is None else self.used

    @classmethod
    def of(
        cls,
        fixed: Side,
        moving: Side,
        settings: DescriptorSettings,
        kind: IntensityKind,
        pyramid: Pyramid,
        device: Literal["cpu", "cuda"],
    ) -> DescribedPair:
        """Describe two scans read on the working grid, at the base of the pyramid.

        Args:
            fixed: the fixed scan.
            moving: the moving scan under the linear start.
            settings: of the descriptor.
            kind: how intensities compare.
            pyramid: whose working grid it is.
            device: where the descriptors go.
        """
        sides = []
        for side, other in ((fixed, moving), (moving, fixed)):
            inside = pool_volume(side.scan.weight[None], pyramid.pool)[0]
            shown = (side.translated or side.scan).channels
            descriptor = describe(side.scan.channels, settings, kind, pyramid.pool, shown)
            # What the other scan does not show has no partner, and must not be pulled to where it ends.
            weight = side.weight * (other.scan.weight > 0)
            sides += [_without_missing(descriptor, inside), pool_volume(weight[None], pyramid.pool)[0]]
        used = lanes_used(len(fixed.scan.channels), settings, kind)
        here, here_weight, there, there_weight = (to_device(array, device) for array in sides)
        return cls(here, here_weight, there, there_weight, used)

    def guided(self, guide: Guide | None, weight: float, pyramid: Pyramid, start: Transform) -> DescribedPair:
        """The same with what a segmentation network sees in both scans, if there is one."""
        return self if guide is None else self.with_lanes(*guide.onto(pyramid.working, start), weight, pyramid.pool)

    def with_lanes(self, fixed: np.ndarray, moving: np.ndarray, weight: float, pool: Cell) -> DescribedPair:
        """The same with more to compare, in the empty lanes first.

        Args:
            fixed: ``(L, I, J, K)`` on the working grid.
            moving: likewise, under the linear start.
            weight: of their squared differences beside those of MIND-SSC.
            pool: of the pyramid.
        """
        here, there = (np.moveaxis(pool_volume(lanes, pool), 0, -1) for lanes in (fixed, moving))
        return self.beside(here, there, weight)

    def beside(self, fixed: np.ndarray, moving: np.ndarray, weight: float) -> DescribedPair:
        """The same with more to compare, ``(I, J, K, L)`` on its grid, in the empty lanes first; arguments as above."""
        first, added = self.filled, fixed.shape[-1]
        padding = -(first + added) % LANES
        sides = (
            _joined(described, first, np.float32(np.sqrt(weight)) * lanes, padding)
            for described, lanes in ((self.fixed, fixed), (self.moving, moving))
        )
        used = None if padding == 0 else first + added
        return DescribedPair(next(sides), self.fixed_weight, next(sides), self.moving_weight, used)

    def first(self, lanes: int) -> DescribedPair:
        """The same with its first lanes alone, or none."""
        if lanes == self.filled:
            return self
        kept = max(-(-lanes // LANES), 1) * LANES
        fixed, moving = self.fixed[..., :kept] * 1, self.moving[..., :kept] * 1
        fixed[..., lanes:] = moving[..., lanes:] = 0
        return replace(self, fixed=fixed, moving=moving, used=lanes)

    def pooled(self, cell: Cell) -> DescribedPair:
        """The same on a coarser grid."""
        if max(cell) == 1:
            return self
        weights = (pool_volume(w[None], cell)[0] for w in (self.fixed_weight, self.moving_weight))
        fixed_weight, moving_weight = weights
        return DescribedPair(
            pool_descriptor(self.fixed, cell),
            fixed_weight,
            pool_descriptor(self.moving, cell),
            moving_weight,
            self.used,
        )


def _joined(described: Array, first: int, lanes: np.ndarray, padding: int) -> Array:
    """A descriptor whose lanes from the first on are given, ``(I, J, K, L)``, and so many more that are 0."""
    added = np.pad(lanes, [(0, 0)] * 3 + [(0, padding)])
    if isinstance(described, np.ndarray):
        return np.concatenate([described[..., :first], added], axis=-1)
    import torch

    return torch.cat([described[..., :first], to_device(added, described.device.type)], dim=-1)


def _without_missing(descriptor: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The descriptor faded to its mean where the scan has no data, which matches nothing well and pulls nothing."""
    if (inside >= 1).all() or not (inside > 0.5).any():
        return descriptor
    mean = descriptor[inside > 0.5].mean(axis=0)
    return (descriptor - mean) * inside[..., None] + mean
