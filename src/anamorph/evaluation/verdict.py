"""The verdict on a registration: a table of gates, and what a pair's numbers make of it.

A registration is never deleted or withheld, it is labelled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anamorph.evaluation.pair import PairMetrics, plain

Status = Literal["PASS", "WARN", "FAIL"]
_SEVERITY: tuple[Status, ...] = ("PASS", "WARN", "FAIL")


@dataclass(frozen=True)
class Gate:
    """One row of the table: a number of a pair and the two limits it must not exceed.

    ``measure`` returns None when the pair has no such number (the gate is left out) and NaN when it could not be
    measured (the gate fails). ``message`` is completed with ``value`` when a limit is exceeded.
    """

    name: str
    meaning: str
    unit: str
    warn_above: float
    fail_above: float
    message: str
    measure: Callable[[PairMetrics], float | None]

    def check(self, metrics: PairMetrics) -> Check | None:
        """Compare a pair with this gate."""
        measured = self.measure(metrics)
        if measured is None:
            return None
        if math.isnan(measured):
            return Check(self.name, "FAIL", None, self.fail_above, self.unit, f"{self.meaning}: could not be measured")
        status = _SEVERITY[(measured > self.warn_above) + (measured > self.fail_above)]
        threshold = self.fail_above if status == "FAIL" else self.warn_above
        message = self.meaning if status == "PASS" else self.message.format(value=measured)
        return Check(self.name, status, measured, threshold, self.unit, message)


@dataclass(frozen=True)
class Check:
    """What one gate says about a pair; ``threshold`` is the limit that was exceeded, or the first one if none was."""

    name: str
    status: Status
    measured: float | None
    threshold: float | None
    unit: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """PASS, WARN or FAIL: the worst of its checks."""

    status: Status
    checks: list[Check]

    @property
    def reasons(self) -> list[str]:
        """Why it is not PASS, worst first."""
        worst_first = sorted(self.checks, key=lambda check: -_SEVERITY.index(check.status))
        return [check.message for check in worst_first if check.status != "PASS"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        checks = [dataclasses.asdict(check) for check in self.checks]
        return plain({"status": self.status, "reasons": self.reasons, "checks": checks})


def _loss(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


GATES: tuple[Gate, ...] = (
    Gate(
        "folding",
        "voxels where the map folds (det J ≤ 0)",
        "%",
        0.1,
        1.0,
        "the map folds in {value:.2f} % of the voxels",
        lambda m: m.jacobian["folding_percent"],
    ),
    Gate(
        "volume_change",
        "voxels that shrink or grow more than tenfold",
        "%",
        1.0,
        10.0,
        "{value:.1f} % of the voxels shrink or grow more than tenfold",
        lambda m: m.jacobian["extreme_volume_percent"],
    ),
    Gate(
        "inverse_consistency",
        "mean distance after mapping there and back",
        "mm",
        1.0,
        5.0,
        "the two directions disagree by {value:.2f} mm on average",
        lambda m: m.inverse_consistency_mm.get("mean"),
    ),
    Gate(
        "field_of_view",
        "fixed field of view mapped outside the moving scan",
        "%",
        60.0,
        95.0,
        "{value:.0f} % of the fixed field of view is mapped outside the moving scan",
        lambda m: m.outside_percent,
    ),
    Gate(
        "similarity_loss",
        "loss of image similarity",
        "",
        0.005,
        0.05,
        "the images agree less than before registration (similarity fell by {value:.3f})",
        lambda m: _loss(m.before.similarity, m.after.similarity),
    ),
    Gate(
        "dice_loss",
        "loss of mean Dice",
        "",
        0.005,
        0.05,
        "the labels overlap less than before registration (mean Dice fell by {value:.3f})",
        lambda m: _loss(m.before.mean_dice, m.after.mean_dice),
    ),
    Gate(
        "tre_increase",
        "increase of the mean landmark error",
        "mm",
        0.1,
        1.0,
        "the landmarks are further apart than before registration (by {value:.2f} mm on average)",
        lambda m: _loss(m.after.mean_tre_mm, m.before.mean_tre_mm),
    ),
    Gate(
        "labels_lost",
        "labels that vanish when warped",
        "",
        0,
        math.inf,
        "{value:.0f} label(s) vanish when warped",
        lambda m: float(len(m.labels_lost)) if m.after.dice else None,
    ),
)


def verdict(metrics: PairMetrics, warnings: Sequence[str] = ()) -> Verdict:
    """Judge a registration by :data:`GATES`; a warning of the method makes it WARN at least.

    Args:
        metrics: the numbers of the pair.
        warnings: what the method warned of, one line each.
    """
    checks = [check for gate in GATES if (check := gate.check(metrics))]
    checks += [Check("method_warning", "WARN", None, None, "", text) for text in warnings]
    return Verdict(max((check.status for check in checks), key=_SEVERITY.index, default="PASS"), checks)


def failed(message: str) -> Verdict:
    """The verdict on a run that gave no transform."""
    return Verdict("FAIL", [Check("run", "FAIL", None, None, "", message)])


def gates_markdown() -> str:
    """The table of gates as it stands in the documentation."""
    rows = ["| gate | measures | WARN above | FAIL above |", "|---|---|---|---|"]
    for gate in GATES:
        warn, fail = (f"{limit:g} {gate.unit}".strip() for limit in (gate.warn_above, gate.fail_above))
        rows.append(f"| `{gate.name}` | {gate.meaning} | {warn} | {fail if math.isfinite(gate.fail_above) else '–'} |")
    rows.append("| `method_warning` | warnings of the method or of the input check | any | – |")
    return "\n".join(rows)
