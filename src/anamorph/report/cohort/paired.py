"""Methods compared on the same pairs: differences, and whether chance may have made them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anamorph.report.cohort.model import CohortReport, Metric


@dataclass(frozen=True)
class Comparison:
    """One method against another by one metric, over the pairs for which both have a finite number.

    Args:
        metric: what is compared.
        method: whose numbers are compared.
        other: from which they are taken.
        pairs: how many pairs.
        better: of them, where the method is better.
        worse: where it is worse.
        difference: median of method minus other, as text.
        improves: whether the median difference is for the better; None if it is zero.
        p_value: of Wilcoxon's signed-rank test; NaN where no pair differs.
        p_holm: the same, corrected for all comparisons of the page (Holm 1979).
    """

    metric: Metric
    method: str
    other: str
    pairs: int
    better: int
    worse: int
    difference: str
    improves: bool | None
    p_value: float
    p_holm: float = math.nan

    @property
    def texts(self) -> tuple[str, str]:
        """Both p values."""
        return p_text(self.p_value), p_text(self.p_holm)


def p_text(value: float) -> str:
    """A p value with two digits, or a dash."""
    if math.isnan(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def comparisons(report: CohortReport, metrics: Sequence[Metric], of_map: Container[str] = ()) -> list[Comparison]:
    """Every method against the first one, or a single method against the baseline, by every metric.

    The first method is the one that was listed first, whatever its numbers: choosing the best one would make chance
    look like a difference. Metrics ``of_map`` are known of a map alone, so that the baseline has none.
    """
    rivals = [method for method in report.methods if method != report.baseline]
    compared = rivals if len(rivals) > 1 or report.baseline is None else [report.baseline, *rivals]
    found = [
        one
        for metric in metrics
        for method in compared[1:]
        if not (compared[0] == report.baseline and metric.name in of_map)
        and (one := _compared(report, metric, method, compared[0])) is not None
    ]
    return _corrected(found)


def shared_scans(report: CohortReport) -> int:
    """Of the scans that the keys of pairs name (``A<--B``), how many are in several pairs."""
    keys = {row.key for row in report.rows}
    scans = Counter(scan for key in keys if "<--" in key for scan in key.split("<--"))
    return sum(count > 1 for count in scans.values())


def _compared(report: CohortReport, metric: Metric, method: str, other: str) -> Comparison | None:
    ours, theirs = (
        {row.key: metric.of(row.metrics) for row in report.rows if row.method == name} for name in (method, other)
    )
    both = [(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
    differences = np.array([one - two for one, two in both if math.isfinite(one) and math.isfinite(two)])
    if not differences.size:
        return None
    gain = differences if metric.direction == "higher" else -differences
    median = float(np.median(differences))
    text = metric.text(abs(median))
    return Comparison(
        *(metric, method, other, differences.size),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        difference=f"{'+' if median > 0 else '−' if median < 0 else ''}{text}",
        improves=None if median == 0 else float(np.median(gain)) > 0,
        p_value=_signed_rank(differences),
    )


def _signed_rank(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test without the zeros; NaN without anything else."""
    from scipy.stats import wilcoxon

    kept = differences[differences != 0]
    return float(wilcoxon(kept).pvalue) if kept.size else math.nan


def _corrected(found: list[Comparison]) -> list[Comparison]:
    """Holm's step-down correction over all that could be tested."""
    tested = sorted((n for n, one in enumerate(found) if not math.isnan(one.p_value)), key=lambda n: found[n].p_value)
    largest, corrected = 0.0, {}
    for place, n in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * found[n].p_value))
        corrected[n] = largest
    return [replace(one, p_holm=corrected.get(n, math.nan)) for n, one in enumerate(found)]
