from __future__ import annotations

from collections.abc import Iterable, Sequence

from anamorph.report.cohort.cohort_report import CohortRow
from anamorph.report.cohort.metric import Metric

NO_RESULT = "no result"
_SEVERITY = {NO_RESULT: 0, "FAIL": 1, "WARN": 2, "PASS": 3, "": 4}


def status(row: CohortRow) -> str:
    """``"no result"`` for a pair that failed, else its verdict, else nothing."""
    if row.error is not None:
        return NO_RESULT
    return row.verdict if row.verdict in _SEVERITY else ""


def severity(row: CohortRow) -> int:
    """0 for a pair without a result, 1 for FAIL, 2 for WARN, 3 for PASS, 4 without a verdict."""
    return _SEVERITY[status(row)]


def worst_first(rows: Iterable[CohortRow], metrics: Sequence[Metric]) -> list[CohortRow]:
    """Pairs without a result, then FAIL, WARN, PASS; among equals the worst by the first metric, then by the next."""

    def place(row: CohortRow) -> tuple[object, ...]:
        return severity(row), *(-metric.badness(metric.of(row.metrics)) for metric in metrics), row.key

    return sorted(rows, key=place)
