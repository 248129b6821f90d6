"""Landmarks in world coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import lengths_text

POINT_MARGIN_VOX = 1.5
"""Landmarks may lie so far outside the scan: those set on its last voxel, in whichever voxel convention."""
FARTHEST_MM = 1e9
"""Farther away than this no scan lies, and single precision ends."""


@dataclass(frozen=True, eq=False, repr=False)
class Points:
    """Landmarks in RAS millimetres.

    Args:
        positions_mm: ``(N, 3)`` float64, RAS.
        labels: one name per point; empty for unnamed points, which then correspond by their order.
        notes: what was assumed in reading them, for people.
        sigma_mm: ``(N,)`` how exactly each is known, a standard deviation; None where nobody said.

    Raises:
        UserError: the array is not ``(N, 3)``, holds values that are not finite, or a deviation is not positive.
    """

    positions_mm: np.ndarray
    labels: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    sigma_mm: np.ndarray | None = None

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions_mm, np.float64)
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise UserError(f"points must be an (N, 3) table, not {positions.shape}")
        if not (np.abs(positions) <= FARTHEST_MM).all():  # also what is not a number
            raise UserError(f"points contain values that are not finite numbers below {FARTHEST_MM:.0e}")
        if self.labels and len(self.labels) != len(positions):
            raise UserError(f"{len(self.labels)} point names for {len(positions)} points")
        if self.sigma_mm is not None:
            sigma_mm = np.asarray(self.sigma_mm, np.float64)
            if sigma_mm.shape != positions.shape[:1] or not (np.isfinite(sigma_mm) & (sigma_mm > 0)).all():
                raise UserError("how exactly points are known (sigma_mm) must be one positive number of mm for each")
            object.__setattr__(self, "sigma_mm", sigma_mm)
        object.__setattr__(self, "positions_mm", positions)
        object.__setattr__(self, "labels", tuple(self.labels))

    def __len__(self) -> int:
        return len(self.positions_mm)

    def __repr__(self) -> str:
        named = ", named" if self.labels else ""
        return f"Points({len(self)} in RAS mm{named})"

    @classmethod
    def from_voxel(cls, positions_vox: np.ndarray, grid: Grid, labels: tuple[str, ...] = ()) -> Points:
        """Landmarks given as (fractional) voxel indices of a grid."""
        return cls(grid.voxel_to_world(np.asarray(positions_vox, np.float64)), labels)

    def to_voxel(self, grid: Grid) -> np.ndarray:
        """``(N, 3)`` voxel indices on a grid."""
        return grid.world_to_voxel(self.positions_mm)

    def check_inside(self, grid: Grid, name: str) -> None:
        """See that the points lie in their scan.

        Args:
            grid: of the scan.
            name: what messages call it.

        Raises:
            UserError: some lie outside; the message tells what would put them inside.
        """
        inside = grid.contains(self.positions_mm, POINT_MARGIN_VOX)
        if inside.all():
            return
        first = lengths_text(self.positions_mm[~inside][0], 1, ", ")
        raise UserError(
            f"{(~inside).sum()} of {len(self)} points lie outside {name} (the first at RAS {first}); "
            f"{self._remedy(grid)}"
        )

    def _remedy(self, grid: Grid) -> str:
        """Which other reading of the same numbers would put all points inside."""
        flipped = flip_ras_lps(self.positions_mm)
        if grid.contains(flipped, POINT_MARGIN_VOX).all():
            return (
                "with x and y negated all lie inside: LPS taken for RAS, or the reverse; name the columns "
                "x_lps,y_lps,z_lps or x_ras,y_ras,z_ras"
            )
        for numbers in (self.positions_mm, flipped):
            if grid.contains(grid.voxel_to_world(numbers), POINT_MARGIN_VOX).all():
                return "taken as voxel indices all lie inside; name the columns i,j,k"
        return "check which scan the points belong to"

    def matched(self, other: Points) -> tuple[Points, Points]:
        """The points of both sets that correspond: by name when both are named, else by order.

        Raises:
            UserError: unnamed sets differ in length, or no name is shared.
        """
        if self.labels and other.labels:
            shared = [name for name in self.labels if name in set(other.labels)]
            if not shared:
                raise UserError("the two point files share no point name; name corresponding points alike")
            mine = [self.labels.index(name) for name in shared]
            theirs = [other.labels.index(name) for name in shared]
            return self._only(mine), other._only(theirs)
        if len(self) != len(other):
            raise UserError(f"{len(self)} fixed but {len(other)} moving points; they must correspond one to one")
        return self, other

    def _only(self, chosen: list[int]) -> Points:
        """Named points by their numbers."""
        sigma_mm = None if self.sigma_mm is None else self.sigma_mm[chosen]
        return Points(self.positions_mm[chosen], tuple(self.labels[n] for n in chosen), self.notes, sigma_mm)
