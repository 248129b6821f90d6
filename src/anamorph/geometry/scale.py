"""Lengths chosen for patients, and what they become in a scan of an embryo or of a building block."""

from __future__ import annotations

from anamorph.geometry.grid import Grid

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
