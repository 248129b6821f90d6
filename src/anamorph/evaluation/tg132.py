"""The numbers by which AAPM's Task Group 132 recommends to judge a registration, each beside its tolerance.

Brock et al., Use of image registration and fusion algorithms and techniques in radiotherapy, Med. Phys. 44 (2017),
table III. What was not measured is named, and nothing is concluded from what was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anamorph.evaluation.measure import RegisteredPair
from anamorph.evaluation.metrics.landmarks import tre_mm

LOWEST_DICE = 0.80
"""Of the range 0.80 to 0.90 within which experts agree."""
RIGHT, WRONG, UNKNOWN = "within tolerance", "outside tolerance", "not measured"


@dataclass(frozen=True)
class Criterion:
    """One number beside its tolerance.

    Args:
        name: as TG-132 calls it.
        value: the number that is compared; None where it was not measured.
        unit: such as mm; empty for shares and determinants.
        tolerance: in words.
        within: whether the value keeps to it; None without a value.
        detail: what else is known, such as the largest error.
        missing: what it takes to measure it.
    """

    name: str
    value: float | None
    unit: str
    tolerance: str
    within: bool | None
    detail: Mapping[str, float] = field(default_factory=dict)
    missing: str = ""

    @property
    def word(self) -> str:
        """Within tolerance, outside it, or not measured."""
        return UNKNOWN if self.within is None else RIGHT if self.within else WRONG

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "value": self.value,
            "unit": self.unit,
            "tolerance": self.tolerance,
            "result": self.word,
            **({"detail": dict(self.detail)} if self.detail else {}),
            **({"missing": self.missing} if self.missing and self.within is None else {}),
        }


@dataclass(frozen=True)
class StructureAgreement:
    """How a propagated structure agrees with the one drawn on the day.

    Args:
        name: of the structure.
        dice: overlap.
        distance_mm: mean distance to agreement of the surfaces.
    """

    name: str
    dice: float
    distance_mm: float


def criteria(pair: RegisteredPair, agreements: tuple[StructureAgreement, ...] = ()) -> list[Criterion]:
    """All criteria of the table, measured or not.

    Args:
        pair: the registered scans, with landmarks if there are any.
        agreements: of structures that are drawn on both scans.
    """
    voxel_mm = float(max(pair.fixed_grid.spacing_mm.max(), pair.moving_grid.spacing_mm.max()))
    limit = f"largest voxel side, {voxel_mm:.3g} mm"
    return [
        _landmarks(pair, voxel_mm, limit),
        _distance(agreements, voxel_mm, limit),
        _dice(agreements),
        _jacobian(pair),
        _consistency(pair, voxel_mm, limit),
    ]


def _landmarks(pair: RegisteredPair, voxel_mm: float, limit: str) -> Criterion:
    name = "Target registration error"
    if "landmarks" not in pair.points:
        return Criterion(name, None, "mm", limit, None, missing="landmarks of both scans (--points, --day-points)")
    errors = tre_mm(*pair.points["landmarks"], pair.fixed_to_moving)
    value = float(errors.mean())
    detail = {"largest": float(errors.max()), "landmarks": float(len(errors))}
    return Criterion(name, value, "mm", limit, value <= voxel_mm, detail)


def _distance(agreements: tuple[StructureAgreement, ...], voxel_mm: float, limit: str) -> Criterion:
    name = "Mean distance to agreement"
    tolerance = f"contouring uncertainty or {limit}"
    if not agreements:
        return Criterion(name, None, "mm", tolerance, None, missing="the same structures drawn on the day")
    values = {one.name: one.distance_mm for one in agreements}
    worst = max(values.values())
    return Criterion(name, worst, "mm", tolerance, worst <= voxel_mm, values)


def _dice(agreements: tuple[StructureAgreement, ...]) -> Criterion:
    name, tolerance = "Dice similarity coefficient", "contouring uncertainty, 0.80 to 0.90"
    if not agreements:
        return Criterion(name, None, "", tolerance, None, missing="the same structures drawn on the day")
    values = {one.name: one.dice for one in agreements}
    worst = min(values.values())
    return Criterion(name, worst, "", tolerance, worst >= LOWEST_DICE, values)


def _jacobian(pair: RegisteredPair) -> Criterion:
    found = pair.deformation.summary
    detail = {"largest": found["max"], "negative_percent": found["folding_percent"]}
    tolerance = "no negative values; deviations from 1 as the anatomy lets expect"
    return Criterion("Jacobian determinant, smallest", found["min"], "", tolerance, found["min"] > 0, detail)


def _consistency(pair: RegisteredPair, voxel_mm: float, limit: str) -> Criterion:
    name = "Inverse consistency"
    if pair.moving_to_fixed is None:
        return Criterion(name, None, "mm", limit, None, missing="the other direction")
    found = pair.inconsistency
    mean = found["mean"]
    within = None if not np.isfinite(mean) else bool(mean <= voxel_mm)
    return Criterion(name, mean, "mm", limit, within, {key: value for key, value in found.items() if key != "mean"})
