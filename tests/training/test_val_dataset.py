"""Which cohorts are trained on and which are measured: ``--val-dataset`` from the command line to the run folder."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.networks.model import load_weights
from blobs import make_blobs
from toy_task import needs_fabric

pytestmark = needs_fabric
ANY_SHAPE = ["--set", "mult=1", "--set", "spacing_mm=4", "--set", "validate_first=false"]
SMALL = [*ANY_SHAPE, "--set", "shape=16,16,16"]


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    one = make_blobs(folder / "one", training=3, validation=2, name="One")
    return one, make_blobs(folder / "two", training=2, validation=3, name="Two", first_seed=20)


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setenv("ANAMORPH_CACHE", str(tmp_path / "cache"))

    def call(task, *arguments):
        layers = "1,1" if task == "symmetric" else "1"
        options = ["--set", f"convolutions={layers}", "--device", "cpu", "-q"]
        return CliRunner().invoke(app, ["train", task, "-o", str(tmp_path / "run"), *options, *map(str, arguments)])

    return call


def scans(tmp_path):
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    return {one["name"]: (one["scans"]["training"], one["scans"]["validation"]) for one in record["data"]}


@pytest.mark.parametrize("task", ["segment", "symmetric"])
def test_one_cohort_is_trained_on_and_another_one_measured(cohorts, tmp_path, train, task):
    one, two = cohorts
    result = train(task, *SMALL, "--epochs", 1, "--dataset", one, "--val-dataset", two)
    assert result.exit_code == 0, result.stderr
    assert scans(tmp_path) == {"One": (3, 0), "Two": (0, 3)}
    card, _ = load_weights(tmp_path / "run")
    assert card.measured_on == "the validation scans of Two"
    again = train(task, "--resume", "--epochs", 2)
    assert again.exit_code == 0, again.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [session["epoch"] for session in record["sessions"]] == [1, 2]
    other = train(task, "--resume", "--epochs", 3, "--val-dataset", one)
    assert other.exit_code == 2
    assert "its data sets are not those the run was begun with" in other.stderr


def test_a_cohort_of_both_kinds_is_trained_on_and_measured_and_the_others_trained_on_alone(cohorts, tmp_path, train):
    one, two = cohorts
    result = train("segment", *SMALL, "--epochs", 1, "--dataset", one, "--dataset", two, "--val-dataset", two)
    assert result.exit_code == 0, result.stderr
    assert scans(tmp_path) == {"One": (3, 0), "Two": (2, 3)}


def test_cohorts_that_cannot_be_measured_or_trained_on_are_named(cohorts, tmp_path, train):
    one, _ = cohorts
    unseen = make_blobs(tmp_path / "unseen", training=2, validation=0, name="Unseen")
    held = make_blobs(tmp_path / "held", training=0, validation=2, name="Held", first_seed=30)
    for datasets, words in (
        (("--dataset", one, "--val-dataset", unseen), "--val-dataset Unseen_dataset.json: no scans for validation"),
        (("--dataset", held, "--val-dataset", held), "Held_dataset.json: lists no scans for training"),
        (("--val-dataset", held), "name at least one --dataset"),
    ):
        result = train("segment", *SMALL, *datasets)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()
    assert train("segment", *SMALL, "--epochs", 1, "--dataset", one, "--val-dataset", held).exit_code == 0


def test_a_data_set_of_one_split_keeps_its_pairs(cohorts):
    data = read_dataset(cohorts[0])
    only = data.only("validation")
    assert [case.split for case in only.cases] == ["validation"] * 2
    listed = data.with_pairs("to:4", "val")
    assert [pair.key for pair in listed.only("validation").pairs("val")] == ["0004_0000<--0005_0000"]
    assert listed.only("training").listed_pairs["val"] == ()


def test_cohorts_of_different_shapes_are_brought_to_one_scan_and_trained_on_together(cohorts, tmp_path, train):
    one, _ = cohorts
    other = make_blobs(tmp_path / "other", training=2, validation=1, name="Other", first_seed=40, shape=(22, 30, 26))
    apart = train("symmetric", *ANY_SHAPE, "--epochs", 1, "--dataset", one, "--dataset", other)
    assert apart.exit_code == 2
    assert "give them one shape" in apart.stderr
    options = "--spacing", 4, "--align", "translation", "--reference", 1, "--reference-dataset", one, "-q"
    aligned = []
    for manifest in (one, other):
        aligned.append(tmp_path / f"aligned-{manifest.parent.name}")
        made = CliRunner().invoke(app, [*map(str, ("preprocess", "--dataset", manifest, "-o", aligned[-1], *options))])
        assert made.exit_code == 0, made.stderr
    together = train("symmetric", *ANY_SHAPE, "--epochs", 1, "--dataset", aligned[0], "--dataset", aligned[1])
    assert together.exit_code == 0, together.stderr
    assert scans(tmp_path) == {"One": (3, 2), "Other": (2, 1)}
