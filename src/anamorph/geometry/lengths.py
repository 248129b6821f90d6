"""Lengths: how they are printed, and what those chosen for patients become in smaller or larger scans."""

from __future__ import annotations

import math
from collections.abc import Iterable

from anamorph.geometry.grid import Grid

NOTHING_MM = 1e-9
"""Shorter than a thousandth of a nanometre: what rounding leaves of zero."""
MISSING = "–"


def length_text(length_mm: float | None, decimals: int) -> str:
    """A length with its unit; see :func:`lengths_text`."""
    return lengths_text([length_mm], decimals)


def lengths_text(lengths_mm: Iterable[float | None], decimals: int, separator: str = " x ") -> str:
    """Lengths of one kind, with their unit once: ``35 x 51 x 35 mm``, ``0.32 x 0.32 x 0.16 mm``."""
    return separator.join(numbers_mm(lengths_mm, decimals)) + " mm"


def numbers_mm(lengths_mm: Iterable[float | None], decimals: int) -> list[str]:
    """Lengths or coordinates in mm with equally many decimals, two digits of the largest at least.

    Args:
        lengths_mm: what belongs together; a dash stands for None and for what is not finite.
        decimals: for lengths of ordinary size, such as 1 for tenths of a millimetre.
    """
    values = [math.nan if value is None else float(value) for value in lengths_mm]
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest > NOTHING_MM:
        decimals = max(decimals, 1 - math.floor(math.log10(largest)))
    # Adding zero turns the negative zero that rounding leaves into a plain one.
    return [f"{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else MISSING for value in values]


def significant(value: float, digits: int) -> float:
    """A number rounded to so many significant digits, as records hold it."""
    return float(f"{value:.{digits}g}")


PATIENT_EXTENT_MM = (20.0, 3000.0)
"""Longest side of the field of view for which lengths chosen on scans of patients hold as they are."""
NOMINAL_EXTENT_MM = 300.0
"""Longest side of a usual scan of a patient."""


def is_patient_sized(grid: Grid) -> bool:
    """Whether a field of view has the size of a part of a patient."""
    smallest, largest = PATIENT_EXTENT_MM
    return smallest <= grid.longest_mm <= largest


def patient_mm(grid: Grid) -> float:
    """What stands for a millimetre of a patient: 1 mm in scans of that size, else a share of the field of view."""
    return 1.0 if is_patient_sized(grid) else grid.longest_mm / NOMINAL_EXTENT_MM
