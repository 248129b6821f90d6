"""A metric of another package is found by every command, and by the workers of a cohort."""

from __future__ import annotations

import csv
import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.evaluation import METRICS, Metric, RegisteredPair, measure, verdict
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.evaluation.verdict import all_gates
from anamorph.geometry import Grid
from anamorph.transforms import Affine, Displacement
from anamorph.transforms.files import write_transform
from cohort_runs import write_plan
from small_cohort import SHAPE, write_cohort

TOY = Path(__file__).parents[1] / "helpers" / "toy_package"
STEP_MM = 6.0
FAST = ("init=world", "search_scales=2", "search_cells=2", "search_radius_mm=0", "refine_iterations=2,2")


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """The toy package on the path of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOY)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    write_cohort(folder / "raw", count=2, shift_mm=STEP_MM)
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_without_the_package_there_is_no_such_metric():
    assert "toy_shift_mm" not in METRICS


@pytest.mark.usefixtures("installed")
def test_it_comes_after_those_of_this_package_with_its_gate():
    assert [*METRICS][-1] == "toy_shift_mm"
    column = all_columns()[-1]
    assert (column.heading, column.metric.better) == ("Toy shift, mm", "lower")
    (gate,) = [gate for gate in all_gates() if gate.name == "toy_shift"]
    grid = Grid((4, 4, 4), np.eye(4))
    shift = Affine.translation(np.array([0.0, 3.0, 4.0]))
    measured = measure(RegisteredPair(grid, grid, shift))
    assert measured.before.mean("toy_shift_mm") == 0
    assert measured.after.mean("toy_shift_mm") == pytest.approx(5)
    check = gate.check(measured)
    assert (check.status, check.threshold, check.unit) == ("WARN", 3.0, "mm")
    assert check.message == "Toy shift is 5 mm"
    assert "Toy shift is 5 mm" in verdict(measured).reasons


@pytest.mark.usefixtures("installed")
def test_the_command_line_and_the_reference_list_it():
    assert "toy_shift_mm" in run("metrics")
    pages = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_reference.py"))["pages"]()
    assert "| `toy_shift_mm` | Toy shift | mm | lower |" in pages["metrics.md"]


@pytest.mark.usefixtures("installed")
def test_register_measures_and_shows_it(data):
    images = data / "raw" / "imagesTr"
    told = run(
        "register",
        images / "AbdomenCTCT_0001_0000.nii.gz",
        images / "AbdomenCTCT_0002_0000.nii.gz",
        *("-o", data / "out"),
        *(word for setting in FAST for word in ("--set", setting)),
    )
    assert "Toy shift, mm" in told
    record = json.loads((data / "out" / "result.json").read_text())
    assert record["metrics"]["before"]["toy_shift_mm"] == 0
    assert record["metrics"]["after"]["toy_shift_mm"] > 0
    assert "toy_shift" in {check["name"] for check in record["verdict"]["checks"]}
    assert "Toy shift, mm" in (data / "out" / "report.html").read_text()


@pytest.mark.usefixtures("installed")
def test_evaluate_and_rank_find_it(data):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = -np.diag(affine)[:3] * (np.array(SHAPE) - 1) / 2
    grid = Grid(SHAPE, affine)
    for name, share in (("near", 0.5), ("far", 1.0)):
        (data / name).mkdir()
        field = Displacement.from_world(np.full((3, *SHAPE), share * STEP_MM, np.float32), grid)
        write_transform(field, data / name / "disp_0001_0000_0002_0000.nii.gz", "itk", grid)
        told = run("evaluate", data / name, "--dataset", data / "raw", "-o", data / "scores" / name, "--quiet")
        assert "toy_shift_mm" in told
        with (data / "scores" / name / "results.csv").open() as stream:
            row = next(csv.DictReader(stream))
        assert float(row["toy_shift_mm"]) == pytest.approx(share * STEP_MM * np.sqrt(3), rel=1e-5)
        assert float(row["initial_toy_shift_mm"]) == 0
        assert "Toy shift, mm" in (data / "scores" / name / "report.html").read_text()
    results = [data / "scores" / name for name in ("near", "far")]
    ranked = json.loads(run("rank", *results, "--metric", "toy_shift_mm", "--json"))["tasks"][0]
    assert list(ranked["columns"]) == ["toy_shift_mm"]
    assert ranked["columns"]["toy_shift_mm"]["near"]["mean"] == pytest.approx(STEP_MM * np.sqrt(3) / 2, rel=1e-5)


@pytest.mark.usefixtures("installed")
def test_workers_of_a_cohort_find_it(data):
    pytest.importorskip("distributed")
    plan = write_plan(data, rest="[run]\nthreads = 1")
    run("cohort", "run", plan, "-o", data / "run", "--workers", "1", "--quiet")
    run("cohort", "report", data / "run", "-o", data / "report")
    with (data / "report" / "results.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["toy_shift_mm"]) > 0
    assert "Toy shift, mm" in (data / "report" / "report.html").read_text()


def test_one_that_fails_or_is_none_costs_the_others_nothing(installed, monkeypatch):
    import toy_package.shift

    grid = Grid((4, 4, 4), np.eye(4))
    pair = RegisteredPair(grid, grid, Affine.identity())

    def fails(pair: RegisteredPair) -> float:
        raise RuntimeError("no scanner\nfound")

    things = {
        "RuntimeError: no scanner found": Metric("toy_shift_mm", "Toy shift", "lower", fails),
        "gives dict, so set per='label'": Metric("toy_shift_mm", "Toy shift", "lower", lambda pair: {1: 2.0}),
        "calls itself 'other'": Metric("other", "Toy shift", "lower", lambda pair: 2.0),
        "is str, not a Metric": "text",
    }
    for reason, thing in things.items():
        monkeypatch.setattr(toy_package.shift, "SHIFT", thing)
        measured = measure(pair)
        assert measured.after.mean("folding_percent") == 0
        (note,) = measured.notes
        assert note.startswith("metric 'toy_shift_mm' could not be measured")
        assert reason in note


def test_every_metric_of_this_package_is_complete():
    for name in METRICS.own:
        metric = METRICS.find(name)
        assert metric.name == name
        assert metric.title[:1].isupper()
        assert metric.better in ("higher", "lower")
        assert (metric.unit == "mm") == ("_mm" in name)
        assert (metric.unit == "%") == name.endswith("_percent")
        assert metric.meaning, name


def test_a_record_with_a_word_that_nothing_reads_is_refused():
    for wrong in ({"better": "smaller"}, {"needs": ("label",)}, {"per": "voxel"}, {"prominence": "large"}):
        with pytest.raises(ValueError, match="metric m: "):
            Metric(**{"name": "m", "title": "M", "better": "lower", "measure": lambda pair: 1.0} | wrong)
