"""Methods compared on the same pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from anamorph.report.cohort import CohortReport, CohortRow
from anamorph.report.cohort.model import metrics_of
from anamorph.report.cohort.page import render
from anamorph.report.cohort.paired import comparisons, p_text, shared_scans
from html_page import Page

DICE, HD95, FOLDING = "Dice", "HD95, mm", "Folding, %"


def cohort(numbers: dict[str, list[float]], baseline: str | None = None, metric: str = DICE) -> CohortReport:
    rows = [
        CohortRow(f"{n:04d}_0000<--{n + 100:04d}_0000", method, metrics={metric: value})
        for method, values in numbers.items()
        for n, value in enumerate(values)
    ]
    return CohortReport("c", rows, {metric: "higher" if metric == DICE else "lower"}, baseline=baseline)


def compared(report: CohortReport, of_map=()):
    return comparisons(report, metrics_of(report), of_map)


def test_every_method_is_compared_with_the_first_one_by_wilcoxons_test():
    rng = np.random.default_rng(3)
    first = rng.normal(0.7, 0.1, 20)
    second, third = first + rng.normal(0.02, 0.02, 20), first - 0.1
    two, three = compared(cohort({"a": [*first], "b": [*second], "c": [*third]}))
    assert [(one.method, one.other, one.pairs) for one in (two, three)] == [("b", "a", 20), ("c", "a", 20)]
    assert two.p_value == pytest.approx(wilcoxon(second - first).pvalue)
    assert two.better == (second > first).sum()
    assert (three.better, three.worse, three.difference, three.improves) == (0, 20, "−0.100", False)
    assert three.p_holm == pytest.approx(2 * three.p_value)
    assert two.p_holm == pytest.approx(max(two.p_value, three.p_holm))


def test_lower_is_better_where_it_is():
    (one,) = compared(cohort({"a": [3.0, 4, 5], "b": [2.0, 3, 3]}, metric=HD95))
    assert (one.difference, one.better, one.worse, one.improves) == ("−1.00", 3, 0, True)


def test_a_single_method_is_compared_with_the_state_before():
    report = cohort({"identity": [0.5, 0.6, 0.7], "a": [0.7, 0.8, 0.8]}, "identity")
    (one,) = compared(report)
    assert (one.method, one.other, one.better) == ("a", "identity", 3)
    assert compared(report, of_map={DICE}) == []
    with_two = cohort({"identity": [0.5, 0.6], "a": [0.7, 0.8], "b": [0.7, 0.9]}, "identity")
    assert [(one.method, one.other) for one in compared(with_two, of_map={DICE})] == [("b", "a")]


def test_only_pairs_with_two_finite_numbers_count():
    (one,) = compared(cohort({"a": [1.0, math.inf, 2.0, math.nan], "b": [2.0, 3.0, 2.0]}, metric=HD95))
    assert (one.pairs, one.better, one.worse, one.difference) == (2, 0, 1, "+0.50")
    assert compared(cohort({"a": [math.nan], "b": [1.0]}, metric=HD95)) == []


def test_without_any_difference_there_is_no_test():
    (one,) = compared(cohort({"a": [0.0] * 4, "b": [0.0] * 4}, metric=FOLDING))
    assert math.isnan(one.p_value)
    assert (one.texts, one.difference, one.improves) == (("–", "–"), "0.000", None)
    assert p_text(0.0412) == "0.041"
    assert p_text(1e-9) == "< 0.0001"


def test_the_page_tells_what_was_compared_and_what_the_test_takes_for_granted():
    report = cohort({"a": [0.7, 0.8, 0.9], "b": [0.6, 0.7, 0.8]})
    words = Page(render(report)).words
    assert "Dice b − a −0.100 worse 0 3 3 0.25 0.25" in words
    assert "two-sided signed-rank test of Wilcoxon" in words
    assert "corrected for one comparison (Holm)" in words
    assert "not independent" not in words
    rows = [CohortRow(f"1<--{n}", method, metrics={DICE: n / 9}) for n in (2, 3) for method in "ab"]
    shared = CohortReport("c", rows, {DICE: "higher"})
    assert shared_scans(shared) == 1
    assert "1 scan is in several pairs: such pairs are not independent" in Page(render(shared)).words


def test_numbers_of_a_map_have_no_baseline_and_no_best():
    rows = [
        CohortRow(f"p{n}", method, metrics={DICE: dice, FOLDING: folding})
        for n in range(3)
        for method, dice, folding in (("identity", 0.3, 0.0), ("rigid", 0.5, 0.0), ("bends", 0.8, 0.2))
    ]
    text = render(CohortReport("c", rows, {DICE: "higher", FOLDING: "lower"}, baseline="identity"))
    assert "<b>0.800</b>" in text
    assert "<b>0.000</b>" not in text  # a rigid map folds nothing, which makes it no better
    assert "identity before registration 3 0.300 ± 0.000 – rigid" in Page(text).words


def test_six_numbers_come_first_and_the_others_on_request():
    directions = {f"number {n}": "higher" for n in range(8)}
    rows = [CohortRow("p", "a", metrics=dict.fromkeys(directions, 0.5))]
    text = render(CohortReport("c", rows, directions))
    assert text.count('<th scope="col" class="more"') == 2 * 2  # of the summary and of the pairs
    assert text.count('class="card plot more"') == 2
    assert "All 8 numbers" in text
    few = render(CohortReport("c", rows, dict(list(directions.items())[:6])))
    assert "data-more" not in few.partition("<script>")[0]


def test_source_names_stand_below_numbers():
    evil = "</script>\"'anna.nii.gz ← bert.nii.gz"
    text = render(CohortReport("c", [CohortRow("p", "a", metrics={DICE: 0.5}, names=evil)], {DICE: "higher"}))
    assert evil in Page(text).text
    assert "</script>\"'anna" not in text
