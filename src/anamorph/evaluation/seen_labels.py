"""What a guide sees in both scans, and how well the result lays it upon each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anamorph.evaluation.metrics.dice import dice
from anamorph.image.image import Labels
from anamorph.transforms.maps import Affine, Transform

NOT_GUIDED = "no guide was used"


@dataclass(frozen=True)
class SeenLabel:
    """One label of a guide: how far it was trusted, how sure the network was, and its Dice before and after.

    Both are None where the label was not compared.
    """

    name: str
    trust: float
    sure: float
    before: float | None
    after: float | None


@dataclass(frozen=True)
class SeenLabels:
    """The label map of the fixed scan, that of the moving scan upon it, and a row for each label, numbered from 1."""

    model: str
    fixed: Labels
    warped: Labels
    rows: tuple[SeenLabel, ...]

    @property
    def least_agreed(self) -> int | None:
        """The number of the label that the result lays worst upon each other; None where none was compared."""
        found = {n: row.after for n, row in enumerate(self.rows, start=1) if row.after is not None}
        return min(found, key=found.__getitem__) if found else None

    def alone(self, number: int) -> Labels:
        """One label of the fixed scan without the others."""
        values = self.fixed.data[0]
        return Labels(np.where(values == number, values, 0), self.fixed.grid)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``result.json``."""
        return {"model": self.model, "labels": [asdict(row) for row in self.rows]}


def judge_seen(seen: tuple[Labels, Labels] | None, guide: Mapping[str, Any], there: Transform) -> SeenLabels | None:
    """Compare what a guide sees in both scans before and after; None where none was used.

    Args:
        seen: label maps of the fixed and of the moving scan, numbered from 1.
        guide: name of the model, and by the names of the labels, in their order, ``trust`` and ``sure``.
        there: of fixed to moving points.
    """
    if seen is None:
        return None
    fixed, moving = seen
    numbers = range(1, len(guide["trust"]) + 1)
    warped = there.warp_labels(moving, fixed.grid)
    before = dice(fixed, Affine.identity().warp_labels(moving, fixed.grid), numbers)
    after = dice(fixed, warped, numbers)
    rows = []
    for n, (name, trust) in zip(numbers, guide["trust"].items(), strict=True):
        overlaps = (_rounded(found.get(n)) if trust > 0 else None for found in (before, after))
        rows.append(SeenLabel(name, trust, guide["sure"][name], *overlaps))
    return SeenLabels(guide["name"], fixed, warped, tuple(rows))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(np.round(value, 4))
