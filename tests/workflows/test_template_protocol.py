"""The protocol of SLIC-Reg as commands: named patients are held out, and each is registered to one template."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.methods import METHODS
from small_cohort import write_cohort

STUB = "--method", "cohort-stub", "--set", "step_mm=2", "--year", 2025, "-q"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five scans, each moved on by 2 mm along every axis, as files without a manifest."""
    root = tmp_path_factory.mktemp("scans")
    write_cohort(root, count=5, shift_mm=2.0).unlink()
    for kind in ("images", "labels"):
        (root / f"{kind}Tr").rename(root / kind)
    for kind in ("masksTr", "landmarksTr"):
        (root / kind).rename(root.with_name(f"no-{kind}"))
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Path:
    made = folder.with_name("made")
    names = "--label-names", "1=one,2=two,3=three", "--name", "Organs"
    result = run("dataset", "create", folder, "-o", made, *names, "--ids", "validation=2,4,5", "-q")
    assert result.exit_code == 0, result.stderr
    return made


def test_named_patients_are_held_out_and_all_others_are_for_training(dataset: Path):
    made = read_dataset(dataset)
    assert {case.subject: case.split for case in made.cases} == {
        "0001": "training", "0002": "validation", "0003": "training", "0004": "validation", "0005": "validation",
    }  # fmt: skip
    assert made.extra["created"]["ids"] == ["validation=2,4,5"]
    assert "validation" not in made.extra["created"]
    assert len(made.pairs("val")) == 3


@pytest.mark.parametrize(
    ("template", "pairs"),
    [
        ("3", ["0003_0000<--0002_0000", "0003_0000<--0004_0000", "0003_0000<--0005_0000"]),
        ("0004_0000", ["0004_0000<--0002_0000", "0004_0000<--0005_0000"]),
    ],
    ids=["of training", "held out itself"],
)
def test_a_template_meets_every_scan_that_is_held_out(dataset: Path, template: str, pairs: list[str]):
    made = read_dataset(dataset).with_pairs(f"to:{template}", "val")
    assert [pair.key for pair in made.pairs("val")] == pairs


def test_two_methods_are_compared_organ_by_organ_on_the_pairs_of_the_template(dataset: Path, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS.own, "cohort-stub", "cohort_stub:CohortStub")
    to = "--dataset", dataset, "--pairs", "to:0004"
    submitted = run("submit", *to, "-o", tmp_path / "stub.zip", *STUB)
    assert submitted.exit_code == 0, submitted.stderr
    assert sorted(path.stem for path in (tmp_path / "stub.work").glob("disp_*.json")) == [
        "disp_0004_0000_0002_0000", "disp_0004_0000_0005_0000",
    ]  # fmt: skip
    again = run("evaluate", tmp_path / "stub.zip", *to, "--name", "again", "-o", tmp_path / "again", "-q")
    assert again.exit_code == 0, again.stderr
    runs = tmp_path / "stub.work" / "evaluation", tmp_path / "again"
    table = run("slicreg", "table", *runs, "--labels", "1,2", "-o", tmp_path / "table.csv")
    assert table.exit_code == 0, table.stderr
    with (tmp_path / "table.csv").open() as stream:
        before, first, second = csv.DictReader(stream)
    assert [row["method"] for row in (before, first, second)] == ["before registration", "cohort-stub", "again"]
    assert {"one", "two", "three", "mean of 2", "mean of 3"} <= set(before)
    assert {key: value for key, value in first.items() if key != "method"} == {
        key: value for key, value in second.items() if key != "method"
    }
    # Scan 2 is 4 mm from the template along every axis, scan 5 2 mm; the organs are balls of 6 mm.
    assert 0.3 < float(before["one"]) < 0.7
    assert float(first["one"]) > float(before["one"]) + 0.2


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["--ids", "2,4"], "--ids wants validation=1,4,7 or test=2,5, not '2,4'"),
        (["--ids", "training=2"], "--ids wants validation=1,4,7 or test=2,5, not 'training=2'"),
        (["--ids", "validation=2,9"], "--ids: there is no patient '9'; there are 1 ("),
        (["--ids", "validation=2,4", "--ids", "test=4"], "--ids puts '4' into validation and into test"),
        (["--ids", "validation=2,4", "--test", "0"], "--ids says who is in which split; drop --test"),
    ],
)
def test_rules_that_cannot_be_are_one_line(folder: Path, tmp_path: Path, rules: list[str], words: str):
    result = run("dataset", "create", folder, "-o", tmp_path / "out", *rules)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pairs", "all"], "--pairs wants to:ID, such as to:0038, not 'all'"),
        (["--pairs", "to:0009"], "--pairs: no scans of Organs_dataset.json are called '0009'"),
        (["--pairs", "to:0004", "--split", "test"], "--pairs to:0004: Organs_dataset.json has no other scan of the"),
    ],
)
def test_pairs_that_cannot_be_are_one_line(dataset: Path, tmp_path: Path, options: list[str], words: str):
    for command in (["submit", "-o", tmp_path / "o.zip"], ["evaluate", tmp_path]):
        result = run(*command, "--dataset", dataset, *options)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
