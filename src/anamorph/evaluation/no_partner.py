"""What of two scans has no partner: maps of both, from a user's masks and from what a method has found, and regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anamorph.geometry.lengths import numbers_mm, significant
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.pieces import Piece, pieces_of
from anamorph.methods.no_partner import LEAST_ML
from anamorph.transforms.maps import Affine

ROLES = ("fixed", "moving")
NOT_LOOKED_FOR = "not looked for"
NOTHING_FOUND = f"looked for, nothing of {LEAST_ML:g} mL or more found"
NAMED = 3
"""Regions that a line names."""


@dataclass(frozen=True)
class Region:
    """A connected part of a scan that has no partner.

    Args:
        volume_ml: of its voxels.
        middle_ras_mm: mean of its voxels.
    """

    volume_ml: float
    middle_ras_mm: tuple[float, float, float]

    @classmethod
    def of(cls, piece: Piece) -> Region:
        """The numbers of a piece of a map."""
        x, y, z = piece.centres_mm.mean(axis=0)
        return cls(piece.volume_mm3 / 1000, (float(x), float(y), float(z)))

    def __str__(self) -> str:
        return f"{significant(self.volume_ml, 3):g} mL at RAS ({', '.join(numbers_mm(self.middle_ras_mm, 0))}) mm"


@dataclass(frozen=True, eq=False)
class NoPartner:
    """What of two scans has no partner.

    Args:
        maps: of the fixed and of the moving scan, each in its own frame: 0 has a partner, 1 has none; None for a scan
            of which nothing is known.
        regions: of both, the largest first.
    """

    maps: tuple[Image | None, Image | None]
    regions: tuple[tuple[Region, ...], tuple[Region, ...]]

    def lines(self) -> list[str]:
        """A sentence on each scan that has something without a partner."""
        told = []
        for role, regions in zip(ROLES, self.regions, strict=True):
            if regions:
                count = "1 region has" if len(regions) == 1 else f"{len(regions)} regions have"
                more = ", ..." if len(regions) > NAMED else ""
                told.append(f"{role} scan: {count} no partner: {', '.join(map(str, regions[:NAMED]))}{more}")
        return told

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``result.json``."""
        return {
            role: [
                {"volume_ml": significant(r.volume_ml, 4), "middle_ras_mm": [round(v, 2) for v in r.middle_ras_mm]}
                for r in regions
            ]
            for role, regions in zip(ROLES, self.regions, strict=True)
        }


def judge_no_partner(found: tuple[Image, Image] | None, given: Sequence[Mask | None]) -> NoPartner | None:
    """Join what was found and what was given; None where there is neither.

    Args:
        found: maps of both scans, of any grids.
        given: masks of both scans, on their grids.
    """
    if found is None and all(mask is None for mask in given):
        return None
    fixed, moving = (
        _joined(None if found is None else found[side], mask, role)
        for side, (mask, role) in enumerate(zip(given, ROLES, strict=True))
    )
    return NoPartner((fixed, moving), (_regions(fixed), _regions(moving)))


def _joined(found: Image | None, given: Mask | None, role: str) -> Image | None:
    if given is None:
        return found
    values = given.data.astype(np.float32)
    if found is not None:
        values = np.maximum(values, Affine.identity().warp_image(found, given.grid, background=0).data)
    return Image(values, given.grid, f"no partner of the {role} scan")


def _regions(values: Image | None) -> tuple[Region, ...]:
    if values is None:
        return ()
    pieces, _ = pieces_of(Labels((values.data[0] > 0.5).astype(np.uint8), values.grid))
    return tuple(Region.of(piece) for piece in pieces)
