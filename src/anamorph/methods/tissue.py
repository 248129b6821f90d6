"""What is known of the tissue of a scan: pieces that move rigidly or keep their volume, and stiffness."""

from __future__ import annotations

from dataclasses import dataclass

from anamorph.image.image import Image
from anamorph.image.pieces import Piece

RIGID_PULL, VOLUME_PULL, WEIGHED_PULL = 200.0, 2.0, 20.0
"""In the refinement, of pieces that will move exactly rigidly or keep their volume exactly, and per unit of weight of
others. A volume is made exact with little effort at last, so that a hint is enough."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Pieces of one mask that keep a property.

    Args:
        pieces: each keeps it of its own.
        weight: of the property beside the images; None makes it exact.
    """

    pieces: tuple[Piece, ...]
    weight: float | None = None

    def pull(self, exact: float) -> float:
        """The weight in the refinement, where that of an exact property is given."""
        return exact if self.weight is None else WEIGHED_PULL * self.weight

    @property
    def share(self) -> float:
        """How much of the way to the property the map is brought at last."""
        return 1.0 if self.weight is None else self.weight / (1 + self.weight)


@dataclass(frozen=True, eq=False)
class Tissue:
    """What is known of the tissue of one scan.

    Args:
        rigid: pieces that move as rigid bodies.
        volume: pieces that keep their volume.
        stiffness: factors of the smoothness of the deformation, 1 for ordinary tissue, on any grid.
        sliding: depth in mm below the surface along which tissue slides, negative outside, on any grid.
    """

    rigid: tuple[Kept, ...] = ()
    volume: tuple[Kept, ...] = ()
    stiffness: Image | None = None
    sliding: Image | None = None


NOTHING_KNOWN = Tissue()
