"""Structures of the plan on the anatomy of a day, each by itself, because they may overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.metrics.hausdorff import surface_distances_mm
from anamorph.evaluation.tg132 import StructureAgreement
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask, Structure
from anamorph.image.structures import StructureMasks
from anamorph.transforms.maps import Transform

COARSE = (4, 4, 2)
"""Every how many-th voxel of the day tells where the voxels of a structure may lie."""
MOST_POINTS = 20_000
_HALF = 0.5


@dataclass(frozen=True)
class PropagatedStructure:
    """One structure of the plan on a day.

    Args:
        name: of the structure.
        plan_ml: volume in the plan.
        day_ml: volume on the day, as far as the scan shows it.
        outside_percent: of the structure that the scan of the day does not show.
        agreement: with the structure of the same name that is drawn on the day; None where none is.
    """

    name: str
    plan_ml: float
    day_ml: float
    outside_percent: float
    agreement: StructureAgreement | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        told = asdict(self)
        found = told.pop("agreement")
        return told | ({} if found is None else {"dice": found["dice"], "distance_mm": found["distance_mm"]})


@dataclass(frozen=True, eq=False)
class Carrier:
    """Brings structures of the plan to a day.

    Args:
        structures: of the plan.
        plan: grid of the planning CT.
        day: grid of the scan of the day.
        day_to_plan: maps points of the day to points of the plan.
        plan_to_day: the other direction.
        view: where the scan of the day shows something; everywhere by default.
        drawn: structures drawn on the day.
    """

    structures: StructureMasks
    plan: Grid
    day: Grid
    day_to_plan: Transform
    plan_to_day: Transform
    view: Mask | None = None
    drawn: StructureMasks | None = None

    def carried(self, keep: Callable[[PropagatedStructure], None]) -> Iterator[tuple[Structure, np.ndarray]]:
        """Each structure with the share of each voxel of the day that it covers.

        Args:
            keep: is given the numbers of each.

        Yields:
            structure and ``(I, J, K)`` float32.
        """
        coarse = self.day.thinned(COARSE)
        origins = self.day_to_plan.moving_positions(coarse, self.plan)
        for structure in self.structures.structures:
            share = self.structures.share(structure)
            warped = np.zeros(self.day.shape, np.float32)
            box = self._box(share, origins)
            if box is not None:
                part = self.day.cropped(box)
                warped[box] = self.day_to_plan.warp_image(Image(share, self.plan), part, background=0).data[0]
            keep(self._measured(structure, share, warped))
            yield structure, warped

    def _box(self, share: np.ndarray, origins: np.ndarray) -> tuple[slice, slice, slice] | None:
        """The voxels of the day that may come from a structure; None if none do."""
        held = np.argwhere(share > 0)
        if not len(held):
            return None
        reach = 2.0 * float((np.array(COARSE) * self.day.spacing_mm).max()) / self.plan.spacing_mm
        low, high = held.min(axis=0) - reach, held.max(axis=0) + reach
        within = np.logical_and.reduce([(origins[a] >= low[a]) & (origins[a] <= high[a]) for a in range(3)])
        found = np.argwhere(within)
        if not len(found):
            return None
        first, last = found.min(axis=0) - 1, found.max(axis=0) + 2
        i, j, k = (
            slice(max(int(a) * step, 0), min(int(b) * step, n))
            for a, b, step, n in zip(first, last, COARSE, self.day.shape, strict=True)
        )
        return i, j, k

    def _measured(self, structure: Structure, share: np.ndarray, warped: np.ndarray) -> PropagatedStructure:
        plan_ml, day_ml = (abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000 for grid in (self.plan, self.day))
        return PropagatedStructure(
            structure.name,
            plan_ml * float(share.sum(dtype=np.float64)),
            day_ml * float(warped.sum(dtype=np.float64)),
            self._outside_percent(share),
            self._agreement(structure, warped),
        )

    def _outside_percent(self, share: np.ndarray) -> float:
        places = np.argwhere(share >= _HALF)
        if not len(places):
            return 0.0
        places = places[:: -(-len(places) // MOST_POINTS)]
        points = self.plan_to_day.map_world(self.plan.voxel_to_world(places))
        shown = self.day.contains(points, 0.5)
        if self.view is not None:
            at = np.rint(self.day.world_to_voxel(points)).astype(int).clip(0, np.array(self.day.shape) - 1)
            shown &= self.view.data[0][tuple(at.T)] > 0
        return 100 * float(1 - shown.mean())

    def _agreement(self, structure: Structure, warped: np.ndarray) -> StructureAgreement | None:
        if self.drawn is None:
            return None
        same = [one for one in self.drawn.structures if one.name.casefold() == structure.name.casefold()]
        if not same:
            return None
        own = self.drawn.inside(same[0])
        if not own.any():
            return None
        maps = [Labels(inside.astype(np.uint8), self.day) for inside in (own, warped >= _HALF)]
        surfaces = surface_distances_mm(maps[0], maps[1], [1])[1]
        distance = float(np.concatenate([surfaces.to_warped_mm, surfaces.to_fixed_mm]).mean())
        return StructureAgreement(structure.name, dice(maps[0], maps[1], [1])[1], distance)
