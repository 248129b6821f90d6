"""Where PDD-Net looks for displacements, and how far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Search:
    """A dense search.

    Args:
        control: points along each axis; published is 32.
        width: displacements along each axis, odd; published is 15.
        reach: the largest of them, as a share of half the extent of the scan; published is 0.4.

    Raises:
        ValueError: no such search is possible.
    """

    control: tuple[int, int, int] = (32, 32, 32)
    width: int = 15
    reach: float = 0.4

    def __post_init__(self) -> None:
        if len(self.control) != 3 or min(self.control) < 2:
            raise ValueError("a search needs at least 2 control points along each of the three axes")
        if self.width < 3 or self.width % 2 == 0 or not 0 < self.reach <= 2:
            raise ValueError("a search needs an odd width of at least 3, and a reach above 0 and at most 2")
