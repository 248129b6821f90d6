"""What became of the pieces that were to move rigidly or to keep their volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from anamorph.image.pieces import Piece
from anamorph.methods.base import Outcome, Pair
from anamorph.transforms.maps import Transform
from anamorph.transforms.piece_change import rigid_deviation_mm, volume_change_percent

Scan = Literal["fixed", "moving"]
Property = Literal["rigid", "volume"]


@dataclass(frozen=True)
class Change:
    """What a map does to a piece: its change of volume, and its largest distance from a rigid motion.

    The second is None for a piece that need not be rigid.
    """

    volume_percent: float
    deviation_mm: float | None


@dataclass(frozen=True)
class KeptPiece:
    """A piece that was to keep a property, before that had a say and in the delivered map.

    Args:
        name: mask, label and piece.
        scan: which it is of; the map is that of points of this scan.
        keeps: the property.
        weight: of a soft demand; None for an exact one.
        free: by the map before tissue had a say.
        after: by the delivered map.
    """

    name: str
    scan: Scan
    keeps: Property
    weight: float | None
    free: Change
    after: Change

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "scan": self.scan,
            "keeps": self.keeps,
            "weight": "exact" if self.weight is None else self.weight,
            "volume_percent": {"free": self.free.volume_percent, "after": self.after.volume_percent},
            "deviation_mm": {"free": self.free.deviation_mm, "after": self.after.deviation_mm},
        }


def kept_pieces(
    pair: Pair, outcome: Outcome, fixed_to_moving: Transform, moving_to_fixed: Transform
) -> Iterator[KeptPiece]:
    """Measure the kept pieces of a registration.

    Args:
        pair: with what is known of its tissue.
        outcome: of the registration.
        fixed_to_moving: the map as it is delivered.
        moving_to_fixed: the other direction.
    """
    free = outcome.free or (fixed_to_moving, moving_to_fixed)
    sides: tuple[tuple[Scan, Transform, Transform], ...] = (
        ("fixed", free[0], fixed_to_moving),
        ("moving", free[1], moving_to_fixed),
    )
    for tissue, (scan, before, after) in zip(pair.tissues, sides, strict=True):
        properties: tuple[Property, ...] = ("rigid", "volume")
        for keeps in properties:
            for kept in getattr(tissue, keeps):
                for piece in kept.pieces:
                    free_change, change = (_change(piece, one, keeps == "rigid") for one in (before, after))
                    yield KeptPiece(piece.name, scan, keeps, kept.weight, free_change, change)


def _change(piece: Piece, transform: Transform, rigid: bool) -> Change:
    deviation = rigid_deviation_mm(piece, transform) if rigid else None
    return Change(volume_change_percent(piece, transform), deviation)
