from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class CohortRow:
    """One pair, registered by one method. A number that is missing, None or NaN is shown as a dash.

    Args:
        key: of the pair, such as ``"0001_0000<--0002_0000"``; the same for all methods.
        method: who registered it.
        verdict: ``"PASS"``, ``"WARN"`` or ``"FAIL"``; None when nobody judged the pair.
        metrics: number of the pair as a whole by metric.
        per_label: metric, then name of the label, then number.
        thumbnail: a JPEG or PNG file, put into the page in small; see :func:`write_thumbnail`.
        report_link: file of the pair's own report, absolute or relative to the folder of the page.
        error: why the pair has no result.
        reasons: why the verdict is not PASS, one line each.
        answers: the two answers of the verdict in one line, shown with it.
    """

    key: str
    method: str
    verdict: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    per_label: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    thumbnail: Path | None = None
    report_link: str | None = None
    error: str | None = None
    reasons: Sequence[str] = ()
    answers: str = ""


@dataclass(frozen=True)
class CohortReport:
    """Everything the page of an evaluation shows.

    Args:
        title: headline.
        rows: one per pair and method, in any order.
        metric_directions: metrics to show, the most telling first, each with ``"higher"`` or ``"lower"`` for the better
            end; the name carries the unit (``"HD95, mm"``). Other metrics of the rows are not shown.
        notes: remarks on the evaluation, one paragraph each.
        baseline: the method among the rows that stands for the state before registration. Its numbers are shown beside
            those of the others, and its rows are not listed.

    Raises:
        ValueError: a direction is neither ``"higher"`` nor ``"lower"``.
    """

    title: str
    rows: Sequence[CohortRow]
    metric_directions: Mapping[str, Direction]
    notes: Sequence[str] = ()
    baseline: str | None = None

    def __post_init__(self) -> None:
        for metric, direction in self.metric_directions.items():
            if direction not in get_args(Direction):
                raise ValueError(f"{metric}: the better end is 'higher' or 'lower', not {direction!r}")

    @property
    def listed(self) -> list[CohortRow]:
        """The rows without those of the baseline."""
        return [row for row in self.rows if row.method != self.baseline]

    @property
    def methods(self) -> list[str]:
        """All methods in the order of the rows, the baseline first."""
        names = dict.fromkeys(row.method for row in self.rows)
        return sorted(names, key=lambda name: name != self.baseline)
