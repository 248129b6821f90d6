from __future__ import annotations

import csv
import math

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.evaluation.cohort import INITIAL, CaseResult, Evaluation, OrganTable
from anamorph.evaluation.cohort_files import write_json
from anamorph.evaluation.learn2reg.config import Measure
from anamorph.evaluation.numbers import Numbers, Score, Scores

DICE = Measure("DSC", "dice", (1, 2, 3))


def scores(by_label: dict[int, float]) -> Scores:
    mean = sum(by_label.values()) / len(by_label)
    compatible = {"DSC": Score(mean=mean, detailed=[by_label.get(n, math.nan) for n in DICE.labels])}
    return Scores(compatible, Numbers(dice=Score(mean=mean, detailed=by_label)))


def evaluation(method: str, *cases: dict[int, float] | None, task: str = "T") -> Evaluation:
    before = scores({1: 0.1, 2: 0.2, 3: 0.3})
    rows = tuple(
        CaseResult(f"000{n}_0000<--0009_0000", "f", "m", c and scores(c), before, error=None if c else "failed")
        for n, c in enumerate(cases)
    )
    return Evaluation(task, method, (DICE,), rows, label_names={1: "spleen", 2: "liver", 3: "aorta"})


ONE = {1: 0.5, 2: 0.7, 3: 0.3}
TWO = {1: 0.7, 2: 0.9}


def test_means_and_deviations_are_over_pairs_and_those_of_groups_over_organs_too():
    table = OrganTable.of([evaluation("a", ONE, TWO), evaluation("b", TWO, TWO)], [1, 2])
    assert table.columns == ["spleen", "liver", "aorta", "mean of 2", "mean of 3"]
    assert list(table.rows) == [INITIAL, "a", "b"]
    spleen, liver, aorta, two, three = table.rows["a"]
    assert (spleen.mean, spleen.std) == pytest.approx((0.6, 0.1))
    assert (liver.mean, liver.std) == pytest.approx((0.8, 0.1))
    assert (aorta.mean, aorta.count) == (0.3, 1)
    assert (two.mean, two.std) == pytest.approx((0.7, math.sqrt((0.2**2 + 0 + 0 + 0.2**2) / 4)))
    assert (three.mean, three.count) == (pytest.approx(0.62), 5)
    assert table.rows[INITIAL][2].mean == pytest.approx(0.3)
    assert table.rows["b"][2].count == 0


def test_absent_organs_count_zero_as_published_and_failed_pairs_nothing():
    table = OrganTable.of([evaluation("a", ONE, TWO, None)], absent_counts_zero=True)
    assert (table.rows["a"][2].mean, table.rows["a"][2].count) == (pytest.approx(0.15), 2)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([evaluation("a", ONE)], "different pairs"),
        ([evaluation("a", ONE, TWO, task="U")], "different pairs"),
        ([evaluation("x", ONE, TWO)], "--name"),
    ],
)
def test_what_does_not_compare_is_refused(others, words):
    with pytest.raises(UserError, match=words):
        OrganTable.of([evaluation("x", ONE, TWO), *others])


def test_the_command_prints_and_writes_the_table(tmp_path):
    for method, cases in {"slicreg": (ONE, TWO), "regression": (ONE, None)}.items():
        write_json(evaluation(method, *cases), tmp_path / method / "results.json")
    runs = [str(tmp_path / method) for method in ("slicreg", "regression")]
    result = CliRunner().invoke(app, ["slicreg", "table", *runs, "--labels", "1,2", "-o", str(tmp_path / "table.csv")])
    assert result.exit_code == 0, result.output
    assert "60.0 ± 10.0" in result.output
    assert "regression: no result for 1 of 2 pairs" in result.output
    with (tmp_path / "table.csv").open() as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert float(rows["slicreg"]["mean of 2"]) == pytest.approx(0.7)
    assert float(rows["regression"]["liver std"]) == 0
    wrong = CliRunner().invoke(app, ["slicreg", "table", *runs, "--labels", "1,7"])
    assert wrong.exit_code == 2
    assert "no label 7" in wrong.output
