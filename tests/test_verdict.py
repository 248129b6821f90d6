from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from anamorph.evaluation import Agreement, PairMetrics, failed, verdict
from anamorph.evaluation.verdict import GATES, gates_markdown

GOOD = PairMetrics(
    before=Agreement(dice={1: 0.5, 2: 0.7}, hd95_mm={1: 9.0, 2: 9.0}, tre_mm=(5.0, 7.0), similarity=0.4),
    after=Agreement(dice={1: 0.8, 2: 0.9}, hd95_mm={1: 3.0, 2: 3.0}, tre_mm=(1.0, 2.0), similarity=0.7),
    jacobian={"folding_percent": 0.0, "extreme_volume_percent": 0.0},
    inverse_consistency_mm={"mean": 0.2, "p95": 0.5, "max": 2.0},
    outside_percent=10.0,
)


def changed(**after) -> PairMetrics:
    return dataclasses.replace(GOOD, after=dataclasses.replace(GOOD.after, **after))


def with_jacobian(**numbers) -> PairMetrics:
    return dataclasses.replace(GOOD, jacobian=GOOD.jacobian | numbers)


def with_inverse_mean(mean: float) -> PairMetrics:
    return dataclasses.replace(GOOD, inverse_consistency_mm=GOOD.inverse_consistency_mm | {"mean": mean})


FLIPS = [
    ("folding", with_jacobian(folding_percent=0.11), "WARN"),
    ("folding", with_jacobian(folding_percent=1.01), "FAIL"),
    ("volume_change", with_jacobian(extreme_volume_percent=1.1), "WARN"),
    ("volume_change", with_jacobian(extreme_volume_percent=10.1), "FAIL"),
    ("inverse_consistency", with_inverse_mean(1.1), "WARN"),
    ("inverse_consistency", with_inverse_mean(5.1), "FAIL"),
    ("inverse_consistency", with_inverse_mean(float("nan")), "FAIL"),
    ("field_of_view", dataclasses.replace(GOOD, outside_percent=61.0), "WARN"),
    ("field_of_view", dataclasses.replace(GOOD, outside_percent=96.0), "FAIL"),
    ("similarity_loss", changed(similarity=0.39), "WARN"),
    ("similarity_loss", changed(similarity=0.3), "FAIL"),
    ("dice_loss", changed(dice={1: 0.49, 2: 0.69}), "WARN"),
    ("dice_loss", changed(dice={1: 0.4, 2: 0.6}), "FAIL"),
    ("tre_increase", changed(tre_mm=(5.5, 7.0)), "WARN"),
    ("tre_increase", changed(tre_mm=(8.0, 9.0)), "FAIL"),
    ("labels_lost", dataclasses.replace(GOOD, labels_lost=(2,)), "WARN"),
]


def test_a_good_pair_passes_every_gate():
    good = verdict(GOOD)
    assert good.status == "PASS"
    assert good.reasons == []
    assert [check.name for check in good.checks] == [gate.name for gate in GATES]


@pytest.mark.parametrize(("gate", "metrics", "status"), FLIPS, ids=[f"{f[0]}-{f[2]}-{i}" for i, f in enumerate(FLIPS)])
def test_each_gate_is_flipped_by_its_own_number(gate, metrics, status):
    judged = verdict(metrics)
    assert judged.status == status
    assert [(check.name, check.status) for check in judged.checks if check.status != "PASS"] == [(gate, status)]
    assert len(judged.reasons) == 1


def test_every_gate_is_flipped_above():
    assert {gate.name for gate in GATES} == {name for name, _, _ in FLIPS}


def test_a_number_at_the_limit_passes():
    assert verdict(with_jacobian(folding_percent=0.1)).status == "PASS"


def test_gates_without_a_number_are_left_out():
    bare = dataclasses.replace(GOOD, before=Agreement(), after=Agreement())
    names = {check.name for check in verdict(bare).checks}
    assert names == {"folding", "volume_change", "inverse_consistency", "field_of_view"}


def test_reasons_come_worst_first_and_warnings_of_the_method_count():
    judged = verdict(with_jacobian(folding_percent=2.0), ["the header has no orientation"])
    assert judged.status == "FAIL"
    assert judged.reasons == ["the map folds in 2.00 % of the voxels", "the header has no orientation"]
    assert verdict(GOOD, ["the header has no orientation"]).status == "WARN"


def test_a_verdict_is_plain_json():
    values = json.loads(json.dumps(verdict(with_inverse_mean(float("nan"))).to_dict(), allow_nan=False))
    assert values["status"] == "FAIL"
    assert json.loads(json.dumps(failed("out of memory").to_dict()))["reasons"] == ["out of memory"]


def test_the_documentation_shows_the_gates_as_they_are():
    page = Path(__file__).parents[1] / "docs" / "reference" / "verdict.md"
    assert gates_markdown() in page.read_text(encoding="utf-8")
