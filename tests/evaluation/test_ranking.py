"""The significance ranking, against counts made by hand and the published code's behaviour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.evaluation.cohort import CaseResult, Evaluation
from anamorph.evaluation.cohort_files import write_json
from anamorph.evaluation.learn2reg.config import Measure
from anamorph.evaluation.numbers import Numbers, Score, Scores
from anamorph.evaluation.ranking import columns_of, geometric_mean, rank, rank_scores

DICE, SDLOGJ = Measure("DSC", "dice", (1, 2)), Measure("LogJacDetStd", "sdlogj")
HD95, TRE = Measure("HD95", "hd95", (1, 2)), Measure("TRE_lm", "tre", dest="landmarks")


def evaluation(
    method: str, values: dict[Measure, np.ndarray], before: dict[Measure, np.ndarray] | None = None, task: str = "T"
) -> Evaluation:
    """An evaluation with given detailed values, ``(pairs, entries)``; a row of None is a pair without a result."""
    count = len(next(iter(values.values())))
    cases = []
    for n in range(count):
        rows = [
            None if source is None or any(v[n] is None for v in source.values()) else scores(source, n)
            for source in (values, before)
        ]
        cases.append(CaseResult(f"{n:04d}_0000<--0000_0001", "f", "m", *rows))
    return Evaluation(task, method, tuple(values), tuple(cases))


def scores(source: dict[Measure, np.ndarray], n: int) -> Scores:
    rows = {m.name: np.atleast_1d(v[n]) for m, v in source.items()}
    return Scores({k: Score(mean=float(np.mean(v)), detailed=v.tolist()) for k, v in rows.items()}, Numbers())


def noisy(mean: float, count: int = 30, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (count, 2))


@pytest.mark.parametrize("variant", ["rank-sum", "signed-rank"])
def test_clear_differences_are_ordered_whatever_the_variant(variant):
    rivals = [evaluation(name, {DICE: noisy(mean, seed=n)}) for n, (name, mean) in enumerate(
        {"middle": 0.6, "best": 0.8, "worst": 0.4}.items())]  # fmt: skip
    ranking = rank(rivals, variant)
    assert ranking.overall == pytest.approx({"best": 1.0, "middle": 0.55, "worst": 0.1})
    standings = ranking.tasks[0].columns["DSC"]
    assert {m: (s.wins, s.losses) for m, s in standings.items()} == {"middle": (1, 1), "best": (2, 0), "worst": (0, 2)}


def test_ties_share_the_average_score():
    np.testing.assert_allclose(rank_scores(np.array([0, 2, 4, 3, 4, 0])), [0.19, 0.46, 0.91, 0.64, 0.91, 0.19])
    rivals = [evaluation(name, {DICE: noisy(0.5, seed=n)}) for n, name in enumerate("ab")]
    assert rank(rivals).overall == pytest.approx({"a": 0.55, "b": 0.55})


def test_the_published_code_orders_by_losses_and_its_description_by_wins():
    """a beats c; b spreads too far to differ from either: a and b lose nothing, but only a wins."""
    samples = {"a": np.linspace(0.58, 0.62, 12), "b": np.linspace(0.15, 0.95, 12), "c": np.linspace(0.48, 0.52, 12)}
    assert [stats.ranksums(samples[x], samples[y]).pvalue < 0.05 for x, y in ("ab", "ac", "bc")] == [False, True, False]
    assert [stats.wilcoxon(samples[x], samples[y]).pvalue < 0.05 for x, y in ("ab", "ac", "bc")] == [False, True, False]
    rivals = [evaluation(name, {SDLOGJ: -values}) for name, values in samples.items()]
    assert rank(rivals, "rank-sum").overall == pytest.approx({"a": 0.775, "b": 0.775, "c": 0.1})
    assert rank(rivals, "signed-rank").overall == pytest.approx({"a": 1.0, "b": 0.325, "c": 0.325})


def test_a_small_difference_in_every_pair_is_significant_to_the_signed_rank_test_alone():
    values = noisy(0.5, spread=0.2)
    rivals = [evaluation("a", {DICE: values + 0.01}), evaluation("b", {DICE: values})]
    assert rank(rivals, "rank-sum").overall == pytest.approx({"a": 0.55, "b": 0.55})
    assert rank(rivals, "signed-rank").overall == pytest.approx({"a": 1.0, "b": 0.1})
    same = [evaluation("a", {DICE: values}), evaluation("b", {DICE: values})]
    assert rank(same, "signed-rank").overall == pytest.approx({"a": 0.55, "b": 0.55})


def test_low_distances_and_deformations_are_good_and_scores_are_averaged_geometrically():
    good = {HD95: noisy(2), SDLOGJ: noisy(0.3)[:, 0], DICE: noisy(0.5)}
    bad = {HD95: noisy(5, seed=1), SDLOGJ: noisy(0.1, seed=1)[:, 0], DICE: noisy(0.5)}
    ranking = rank([evaluation("a", good), evaluation("b", bad)])
    columns = ranking.tasks[0].columns
    assert columns["HD95"]["a"].score == columns["LogJacDetStd"]["b"].score == 1
    assert ranking.overall["a"] == pytest.approx((1.0 * 0.1 * 0.55) ** (1 / 3))
    assert geometric_mean([0.1, 1.0, 0.1]) == pytest.approx(0.1 ** (2 / 3))


def test_the_hardest_30_percent_are_those_that_were_worst_before():
    start = np.linspace(0, 1, 20).reshape(10, 2)
    after = np.where(start < 0.3, 0.2, 0.9)
    rivals = [evaluation(name, {DICE: after}, {DICE: start}) for name in "ab"]
    columns, notes = columns_of("T", rivals)
    assert [column.name for column in columns] == ["DSC", "DSC30"]
    np.testing.assert_allclose(columns[1].merits, [[0.2] * 6] * 2)
    assert notes == ()
    far = [evaluation(name, {TRE: start}, {TRE: start}) for name in "ab"]
    hardest = columns_of("T", far)[0][1]
    assert hardest.name == "TRE_lm30"
    np.testing.assert_allclose(np.sort(-hardest.merits[0]), np.sort(start.ravel())[-6:])


def test_without_a_baseline_the_hardest_are_left_out_or_taken_from_another_result():
    rivals = [evaluation(name, {DICE: noisy(0.5, seed=n)}) for n, name in enumerate("ab")]
    columns, notes = columns_of("T", rivals)
    assert [column.name for column in columns] == ["DSC"]
    assert "DSC30 is left out" in notes[0]
    assert [c.name for c in columns_of("T", rivals, evaluation("initial", {DICE: noisy(0.2)}))[0]] == ["DSC", "DSC30"]


def test_missing_pairs_and_lost_labels_count_as_worst_and_absent_labels_not_at_all():
    whole = noisy(0.5, 4)
    whole[:, 1] = np.nan  # a label that no scan has
    holes = [None, *whole[1:] + 0.1]
    (column,), notes = columns_of("T", [evaluation("a", {DICE: whole}), evaluation("b", {DICE: holes})])
    assert column.merits.shape == (2, 4)
    assert column.merits[1, 0] < column.merits[0].min()
    assert column.means[1] == pytest.approx(np.nanmean(whole[1:]) + 0.1)
    assert notes[0] == "b: no result for 1 of 4 pairs, which count as worst"
    lost = np.array([[1.0, 2.0], [np.inf, 3.0]])
    (column,), _ = columns_of("T", [evaluation(name, {HD95: lost}) for name in "ab"])
    assert column.merits[0].argmin() == 2
    assert np.isfinite(column.merits).all()


def test_several_tasks():
    rivals = [evaluation(m, {DICE: noisy(v)}, task=t) for m, v, t in (("a", 0.9, "T"), ("b", 0.1, "T"))]
    rivals += [evaluation(m, {DICE: noisy(v)}, task=t) for m, v, t in (("b", 0.9, "U"), ("c", 0.1, "U"))]
    ranking = rank(rivals)
    assert [task.task for task in ranking.tasks] == ["T", "U"]
    assert ranking.overall == pytest.approx({"a": 0.1**0.5, "b": 0.1**0.5, "c": 0.1})


def test_what_cannot_be_ranked():
    one = evaluation("a", {DICE: noisy(0.5)})
    for rivals, words in (
        ([one], "at least two methods"),
        ([one, one], "two evaluations of T are called 'a'"),
        ([one, evaluation("b", {HD95: noisy(1)})], "share no measure"),
        ([one, evaluation("b", {DICE: noisy(0.5)[:, :1]})], "1 and 2 values of DSC"),
    ):
        with pytest.raises(UserError, match=words):
            rank(rivals)
    with pytest.raises(UserError, match="no variant 'median'"):
        rank([one, one], "median")  # type: ignore[arg-type]


def test_the_command(tmp_path: Path):
    for name, mean in (("good", 0.8), ("poor", 0.3)):
        (tmp_path / name).mkdir()
        write_json(evaluation(name, {DICE: noisy(mean)}, {DICE: noisy(0.1)}), tmp_path / name / "results.json")
    files = [str(tmp_path / "poor"), str(tmp_path / "good" / "results.json")]
    shown = CliRunner().invoke(app, ["rank", *files])
    assert shown.exit_code == 0
    assert "rank-sum test, ordered by the fewest significant losses" in shown.stdout
    assert shown.stdout.index("good") < shown.stdout.index("poor")
    printed = json.loads(CliRunner().invoke(app, ["rank", *files, "--variant", "signed-rank", "--json"]).stdout)
    assert printed["overall"] == pytest.approx({"good": 1.0, "poor": 0.1})
    assert printed["tasks"][0]["columns"]["DSC30"]["good"]["wins"] == 1
    failed = CliRunner().invoke(app, ["rank", *files, "--variant", "median"])
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1


def measured(method: str, **pairs: tuple[dict[str, object], dict[str, object]]) -> Evaluation:
    """An evaluation with the numbers of metrics after and before, by pair."""
    cases = tuple(
        CaseResult(key, key, key, Scores({}, Numbers.of(**after)), Scores({}, Numbers.of(**before)))
        for key, (after, before) in pairs.items()
    )
    return Evaluation("task", method, (), cases)


def test_metrics_of_the_table_rank_by_their_own_better_end():
    start = {"dice": {n: 0.1 * n for n in range(1, 11)}, "folding_percent": 0.0}
    good = {"dice": {n: 0.9 - 0.001 * n for n in range(1, 11)}, "folding_percent": 2.0}
    bad = {"dice": {n: 0.5 - 0.001 * n for n in range(10, 0, -1)}, "folding_percent": 0.1}
    keys = [f"p{n}" for n in range(6)]
    rivals = [
        measured("good", **{key: (good | {"folding_percent": 2 + 0.1 * n}, start) for n, key in enumerate(keys)}),
        measured("bad", **{key: (bad | {"folding_percent": 0.1 * n}, start) for n, key in enumerate(keys)}),
    ]
    found = rank(rivals, metrics=["dice", "folding_percent"]).tasks[0]
    assert list(found.columns) == ["dice", "dice30", "folding_percent"]
    assert found.columns["dice"]["good"].score == 1
    assert found.columns["folding_percent"]["bad"].score == 1
    assert found.columns["dice"]["bad"].mean == pytest.approx(0.5 - 0.0055)
    assert found.columns["dice30"]["good"].mean == pytest.approx(0.9 - 0.002)  # labels 1 to 3 were the worst before


def test_a_metric_that_is_unknown_or_was_not_measured():
    rivals = [measured(name, p=({"dice": {1: 0.5}}, {})) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"no metric 'dise'.*did you mean 'dice'"):
        rank(rivals, metrics=["dise"])
    with pytest.raises(UserError, match="a has no hd95_mm"):
        rank(rivals, metrics=["hd95_mm"])
