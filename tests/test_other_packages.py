"""Methods and metrics of other packages: the toy package, installed without a network, is found wherever names are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.methods import METHODS, find_method
from anamorph.testing.conformance import MethodConformance
from cohort_runs import standing_of
from small_cohort import write_cohort

TOY = Path(__file__).parent / "toy_package"
SCANS = "AbdomenCTCT_0001_0000.nii.gz", "AbdomenCTCT_0002_0000.nii.gz"


def install(site: Path, project: Path = TOY, more: str = "") -> Path:
    """Lay a package and what pip would write of it into a folder of packages."""
    described = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    shutil.copytree(project / "toy_package", site / "toy_package", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"toy_package-{described['version']}.dist-info"
    info.mkdir()
    name = described["name"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {described['version']}\n")
    groups = {group: dict(points) for group, points in described["entry-points"].items()}
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + more)
    return site


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The folder with the toy package, on the path of this process and of those that it starts."""
    folder = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    yield folder
    for module in [name for name in sys.modules if name.split(".")[0] == "toy_package"]:
        del sys.modules[module]


@pytest.fixture
def scans(tmp_path):
    write_cohort(tmp_path / "raw", count=2, shift_mm=4.0)
    return tuple(str(tmp_path / "raw" / "imagesTr" / name) for name in SCANS)


class TestToy(MethodConformance):
    """A method that only shifts passes the suite by stating so, without a number to guess."""

    deforms = False

    @pytest.fixture(autouse=True)
    def _toy(self, site):
        self.method = find_method("toy")


@pytest.mark.usefixtures("site")
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
    found = record["metrics"]["after"]["largest_shift_mm"]
    assert found == pytest.approx((shift @ shift) ** 0.5 / 2, rel=1e-3)


@pytest.mark.usefixtures("site")
def test_workers_of_a_cohort_find_the_method(scans, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('[[dataset]]\nmanifest = "raw"\n[[method]]\nlabel = "toy"\nname = "toy"\n[run]\nthreads = 1\n')
    command = ["-m", "anamorph", "cohort", "run", str(plan), "-o", str(tmp_path / "run"), "--workers", "1"]
    told = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    standing = standing_of(tmp_path / "run")
    assert standing.counts() == {"complete": 1}
    scores = standing.records[standing.jobs[0].key].result["metrics"]["scores"]["correct"]
    assert scores["largest_shift_mm"]["mean"] > 4


def test_a_broken_package_gets_one_clear_line(tmp_path, monkeypatch, scans):
    more = "\n[anamorph.methods]\nbroken = toy_package.missing:Method\nnothing = toy_package.method:ToyConfig\n"
    site = install(tmp_path / "site")
    points = site / "toy_package-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("[anamorph.methods]\n", more.lstrip("\n")))
    monkeypatch.syspath_prepend(str(site))
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
