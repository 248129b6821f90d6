from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from anamorph.classification.residual import AffineChoice
from anamorph.errors import UserError

FEWEST_CELLS = 17  # so that the four halvings of the network leave more than one


@dataclass(frozen=True)
class FeatureSettings:
    """What is looked at.

    Args:
        affine: see :func:`~anamorph.classification.residual.choose_affine`.
        cells: of the common grid along its longest side.
        box_mm: longest side of the common grid; the largest field of view by default.

    Raises:
        UserError: another word, too few cells, or an empty box.
    """

    affine: AffineChoice = "auto"
    cells: int = 32
    box_mm: float | None = None

    def __post_init__(self) -> None:
        if self.affine not in get_args(AffineChoice):
            raise UserError(f"--affine must be one of {', '.join(get_args(AffineChoice))}, not '{self.affine}'")
        if self.cells < FEWEST_CELLS:
            raise UserError(f"--cells {self.cells} leaves nothing to look at; take {FEWEST_CELLS} or more")
        if self.box_mm is not None and not self.box_mm > 0:
            raise UserError(f"--box {self.box_mm:g} is empty; give the side of the box in mm")
