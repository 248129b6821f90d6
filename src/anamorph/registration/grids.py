"""Whether what belongs to a scan lies on its grid."""

from __future__ import annotations

from typing import Literal

from anamorph.errors import UserError
from anamorph.geometry.grid import SAME_GRID_MM
from anamorph.geometry.lengths import length_text
from anamorph.image.image import Image


def check_grid(companion: Image, image: Image, resample: bool, kind: Literal["mask", "labels", "stiffness"]) -> bool:
    """True when a mask or label map lies on the grid of its scan, False when it has to be resampled.

    Raises:
        UserError: it lies elsewhere and ``resample`` is off.
    """
    from anamorph.registration.preflight import header_mismatch_mm

    apart = header_mismatch_mm(companion.grid, image.grid)
    same = apart <= image.grid.limit_mm(SAME_GRID_MM)
    if same or resample:
        return same
    where = (
        f"has shape {_times(companion)}, not {_times(image)}"
        if companion.grid.shape != image.grid.shape
        else f"lies up to {length_text(apart, 1)} away (another header)"
    )
    verb = "are" if kind == "labels" else "is"
    raise UserError(
        f"the {kind} {companion.name} {verb} not on the grid of {image.name}: it {where}; "
        f"pass --resample to bring it there by world position, or repair the header"
    )


def _times(image: Image) -> str:
    return " x ".join(map(str, image.grid.shape))
