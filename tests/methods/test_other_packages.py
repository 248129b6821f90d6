"""A method of another package is found by Python, the command line and the workers of a cohort."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.methods import METHODS, find_method
from anamorph.testing.conformance import MethodConformance
from cohort_runs import status_of
from small_cohort import write_cohort

TOY = Path(__file__).parents[1] / "helpers" / "toy_package"
SCANS = "AbdomenCTCT_0001_0000.nii.gz", "AbdomenCTCT_0002_0000.nii.gz"


@pytest.fixture
def installed(monkeypatch):
    """The toy package on the path of this process and of those that it starts."""
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def scans(tmp_path):
    write_cohort(tmp_path / "raw", count=2, shift_mm=4.0)
    return tuple(str(tmp_path / "raw" / "imagesTr" / name) for name in SCANS)


class TestToy(MethodConformance):
    """A method that only shifts passes the suite by stating so, without a number to guess."""

    deforms = False

    @pytest.fixture(autouse=True)
    def _toy(self, installed):
        self.method = find_method("toy")


@pytest.mark.usefixtures("installed")
def test_python_and_the_command_line_find_the_method(scans, tmp_path):
    names = list(METHODS)
    assert names.index("toy") == len(METHODS.own)
    listed = CliRunner().invoke(app, ["methods"])
    assert "a shift, from a package" in " ".join(listed.output.split())
    one = CliRunner().invoke(app, ["methods", "toy"])
    assert "how much of the shift to apply" in " ".join(one.output.split())

    result = anamorph.register(*scans, method="toy", device="cpu")
    shift = result.fixed_to_moving.matrix[:3, 3]
    assert abs(shift - 4).max() < 1.5
    assert result.provenance["method"] == "toy"

    out = tmp_path / "out"
    arguments = ["register", *scans, "-o", str(out), "--method", "toy", "--set", "fraction=0.5"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    record = json.loads((out / "result.json").read_text("utf-8"))
    assert record["provenance"]["settings"] == {"fraction": 0.5}
    found = record["metrics"]["after"]["toy_shift_mm"]
    assert found == pytest.approx((shift @ shift) ** 0.5 / 2, rel=1e-3)


@pytest.mark.usefixtures("installed")
def test_workers_of_a_cohort_find_the_method(scans, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('[[dataset]]\nmanifest = "raw"\n[[method]]\nlabel = "toy"\nname = "toy"\n[run]\nthreads = 1\n')
    told = CliRunner().invoke(app, ["cohort", "run", str(plan), "-o", str(tmp_path / "run"), "--workers", "1"])
    assert told.exit_code == 0, told.output
    status = status_of(tmp_path / "run")
    assert status.counts() == {"complete": 1}
    scores = status.records[status.jobs[0].key].result["metrics"]["scores"]["correct"]
    assert scores["toy_shift_mm"]["mean"] > 4


def test_a_broken_package_gets_one_clear_line(tmp_path, monkeypatch, scans):
    site = shutil.copytree(TOY, tmp_path / "site", ignore=shutil.ignore_patterns("__pycache__"))
    points = next(site.glob("*.dist-info")) / "entry_points.txt"
    broken = "broken = toy_package.missing:Method\nnothing = toy_package.method:ToyConfig\n"
    points.write_text(points.read_text("utf-8").replace("[anamorph.methods]\n", "[anamorph.methods]\n" + broken))
    monkeypatch.syspath_prepend(site)
    with pytest.raises(UserError) as told:
        anamorph.register(*scans, method="broken")
    assert str(told.value) == (
        "method 'broken' of the package toy-package cannot be loaded: No module named 'toy_package.missing'"
    )
    with pytest.raises(UserError, match="'nothing' is no subclass"):
        anamorph.register(*scans, method="nothing")
    listed = " ".join(CliRunner().invoke(app, ["methods"]).output.split())
    assert "a shift, from a package" in listed, "the others are listed all the same"
    assert "cannot be loaded" in listed


def test_the_package_is_what_installing_its_project_makes():
    project = tomllib.loads((TOY / "pyproject.toml").read_text("utf-8"))["project"]
    points = entry_points_of(TOY)
    assert points == {group: dict(named) for group, named in project["entry-points"].items()}


def entry_points_of(site: Path) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    for point in next(iter(distributions(path=[str(site)]))).entry_points:
        groups.setdefault(point.group, {})[point.name] = point.value
    return groups
