"""Labels that a training leaves out, as the published ones on abdomens do, and the option that takes them in."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.data.labels import labels_called, without_labels
from anamorph.networks.model import load_weights
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.cache import Cohort
from anamorph.training.settings import make_settings
from anamorph.training.tasks.segment import SegmentTask
from anamorph.training.tasks.symmetric import SymmetricTask
from blobs import make_blobs
from toy_task import needs_fabric

GLANDS = ("right adrenal gland", "left adrenal gland")


@pytest.fixture
def manifest(tmp_path):
    return make_blobs(tmp_path / "data", training=2, validation=1, labels={"1": "shell", "2": "Left_Adrenal gland"})


@pytest.fixture
def train(tmp_path, manifest, monkeypatch):
    monkeypatch.setenv("ANAMORPH_CACHE", str(tmp_path / "cache"))
    # A small preset that leaves out what the published one does.
    small = {"mult": 1, "convolutions": (1,), "spacing_mm": 4.0, "epochs": 1, "validate_first": False}
    monkeypatch.setitem(SegmentTask.presets, "small-abdomen", small | {"leave_out": GLANDS})
    options = "--dataset", manifest, "-o", tmp_path / "run", "--device", "cpu"
    return lambda *more: CliRunner().invoke(app, ["train", "segment", *map(str, (*options, *more))])


@pytest.mark.parametrize(("task", "preset"), [(SymmetricTask, "abdomen-noisy-labels"), (SegmentTask, "abdomen")])
def test_published_trainings_on_abdomens_leave_out_the_adrenal_glands(task, preset):
    assert make_settings(task, preset)[0].leave_out == GLANDS
    assert make_settings(task, preset, ["leave_out="])[0].leave_out == ()
    assert make_settings(task, "default")[0].leave_out == ()


def test_names_and_numbers_mean_labels():
    labels = {1: "liver", 12: "Left_adrenal-gland", 13: "right adrenal gland"}
    assert list(labels_called(labels, GLANDS)) == [12, 13]
    assert list(labels_called(labels, ["13", "liver"])) == [1, 13]


def test_what_is_left_out_is_annotated_by_no_scan(tmp_path, manifest):
    dataset = read_dataset(manifest)
    case = dataset.cases[0]
    marked = dataclasses.replace(case, extra={"annotated_labels": [2]})
    dataset = dataclasses.replace(dataset, cases=(marked, *dataset.cases[1:]))
    cohorts = [
        Cohort.of(without_labels(dataset, gone), Preprocessing(), tmp_path / "cache") for gone in ((), (2,), (1,))
    ]
    assert [one.annotated_by_row for one in cohorts] == [((2,), (1, 2), (1, 2)), ((), (1,), (1,)), ((2,), (2,), (2,))]
    assert [sorted(set(one.label_maps[1].ravel().tolist())) for one in cohorts] == [[0, 1, 2], [0, 1], [0, 2]]


@needs_fabric
def test_a_preset_leaves_labels_out_and_the_option_takes_them_in(tmp_path, train):
    result = train("--preset", "small-abdomen")
    assert result.exit_code == 0, result.stderr
    assert "neither learned nor measured: Left_Adrenal gland (2); --keep-all-labels takes them in" in result.stderr
    assert load_weights(tmp_path / "run")[0].labels == {1: "shell"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"][0]["annotated_labels"] == [1]
    resumed = train("--resume", "--epochs", 2)
    assert resumed.exit_code == 0, resumed.stderr
    other = train("--resume", "--keep-all-labels")
    assert other.exit_code == 2
    assert "the run was begun with leave_out=" in other.stderr
    everything = train("--preset", "small-abdomen", "--keep-all-labels", "--overwrite")
    assert everything.exit_code == 0, everything.stderr
    assert "neither learned" not in everything.stderr
    assert load_weights(tmp_path / "run")[0].labels == {1: "shell", 2: "Left_Adrenal gland"}


@needs_fabric
def test_a_label_that_no_data_set_has_is_named(tmp_path, train):
    result = train("--preset", "small-abdomen", "--set", "leave_out=shell,kidney")
    assert result.exit_code == 2
    assert "leave_out: no data set has a label 'kidney'; there are shell (1), Left_Adrenal gland (2)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_training_without_such_labels_says_so(tmp_path):
    command = ["train", "slicreg", "--dataset", "none", "-o", str(tmp_path / "run"), "--keep-all-labels"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.stderr == "error: 'slicreg' leaves no labels out; drop --keep-all-labels\n"
