"""Whatever happens once a registration is done, its results stay, and nothing is written or deleted elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.methods import METHODS
from small_dataset import make_learn2reg, write_labels, write_scan

WITH_HELPERS = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])

FILES = {
    *("warped.nii.gz", "fixed_to_moving.nii.gz", "moving_to_fixed.nii.gz", "jacobian.nii.gz"),
    *("fixed_to_moving.tfm", "fixed_to_moving.mat", "moving_to_fixed.tfm", "moving_to_fixed.mat"),
    *("inverse_consistency_mm.nii.gz", "result.json"),
}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


@pytest.fixture
def scans(tmp_path: Path) -> list[str]:
    return [str(write_scan(tmp_path / f"{name}.nii.gz", n)) for n, name in enumerate(("fixed", "moving"))]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def register(scans: list[str], out: Path, *more: object):
    return run("register", *scans, "-o", out, "--method", "stub", *more)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def told(out: Path) -> dict:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 61.0 GiB"), ValueError("no such\ncolour map"), RuntimeError("font")]
)
def test_a_report_that_cannot_be_drawn_is_a_warning(scans, tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        assert names(tmp_path / "out") == FILES  # in place before anything is drawn
        assert told(tmp_path / "out")["report"].startswith("not drawn")
        raise error

    monkeypatch.setattr("anamorph.report.pair.write_report", fail)
    result = register(scans, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == FILES
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert told(tmp_path / "out")["report"] == f"failed: {reason}"
    (line,) = [line for line in result.stderr.splitlines() if "warning: the page" in line]
    assert reason in line
    assert "--max-memory" not in result.output


def test_a_report_that_is_drawn_is_named(scans, tmp_path):
    assert register(scans, tmp_path / "out").exit_code == 0
    assert told(tmp_path / "out")["report"] == "report.html"
    assert told(tmp_path / "out")["timings_s"]["report"] > 0
    assert names(tmp_path / "out") == FILES | {"report.html"}


def test_an_interrupt_while_drawing_costs_the_report_alone(scans, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anamorph.report.pair.write_report", stop)
    result = register(scans, tmp_path / "out")
    assert result.exit_code == 130
    assert f"everything else is in {tmp_path / 'out'}" in result.stderr
    assert names(tmp_path / "out") == FILES


def test_the_record_of_a_failed_run_stays_without_its_report(scans, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("anamorph.report.pair.write_report", fail)
    result = register(scans, tmp_path / "out", "--set", "fail=failure")
    assert result.exit_code == 1
    assert told(tmp_path / "out")["status"] == "FAILED"
    assert result.stderr.endswith(f"report: {tmp_path / 'out' / 'result.json'}\n")


def test_scans_that_are_gone_at_the_end_are_not_needed(scans, tmp_path, monkeypatch):
    image = nibabel.load(scans[0])
    image.set_sform(image.affine, 4)
    nibabel.save(image, tmp_path / "mni.nii.gz")
    from anamorph.registration import run as running

    run_plan = running.run_plan

    def lose(*arguments: object, **options: object):
        (tmp_path / "mni.nii.gz").unlink()
        (tmp_path / "moving.nii.gz").unlink()
        return run_plan(*arguments, **options)

    monkeypatch.setattr(running, "run_plan", lose)
    result = register([str(tmp_path / "mni.nii.gz"), scans[1]], tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == FILES | {"report.html"}
    assert nibabel.load(tmp_path / "out" / "jacobian.nii.gz").header["sform_code"] == 4


@pytest.mark.parametrize("role", ["fixed", "moving-labels", "init"])
def test_register_spares_inputs_in_out(tmp_path, scans, role):
    out = tmp_path / "out"
    assert register(scans, out).exit_code == 0
    inside = {
        "fixed": write_scan(out / "fixed.nii.gz"),
        "moving-labels": write_labels(out / "labels.nii.gz"),
        "init": out / "fixed_to_moving.nii.gz",
    }[role]
    before = {path: path.read_bytes() for path in out.iterdir()}
    given = [str(inside), scans[1]] if role == "fixed" else scans
    more = () if role == "fixed" else (f"--{role}", inside)
    result = register(given, out, "--overwrite", *more)
    assert result.exit_code == 2
    assert f"holds {inside}, which is read" in result.stderr
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_data_sets_spare_what_they_are_made_of(tmp_path):
    manifest = make_learn2reg(tmp_path / "data")
    before = names(tmp_path / "data")
    result = run("preprocess", "--dataset", manifest, "--spacing", 3, "-o", tmp_path / "data", "--overwrite")
    assert result.exit_code == 2
    assert "which is read" in result.stderr
    result = run("dataset", "create", tmp_path / "data", "-o", tmp_path / "data", "--name", "Task", "--overwrite")
    assert result.exit_code == 2
    assert "which is read" in result.stderr
    result = run("evaluate", tmp_path / "data", "--dataset", manifest, "-o", tmp_path / "data", "--overwrite")
    assert result.exit_code == 2
    assert names(tmp_path / "data") == before


def test_a_file_that_is_read_is_not_replaced(tmp_path, scans):
    assert register(scans, tmp_path / "out").exit_code == 0
    field = tmp_path / "out" / "fixed_to_moving.nii.gz"
    before = Path(scans[1]).read_bytes()
    result = run("apply", field, "--to", scans[1], "-o", scans[1], "--overwrite")
    assert result.exit_code == 2
    assert "is read and not replaced" in result.stderr
    assert Path(scans[1]).read_bytes() == before


def test_names_that_are_no_text_lose_nothing(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xfflder")
    stems = os.fsdecode(b"f\xffx"), os.fsdecode(b"m\xfe")
    scans = [str(write_scan(folder / f"{stem}.nii.gz", n)) for n, stem in enumerate(stems)]
    code = (
        "from anamorph.methods import METHODS; METHODS.own['stub'] = 'stub_method:Stub'; "
        "from anamorph.cli.main import main; main()"
    )
    arguments = [sys.executable, "-c", code, "register", *scans, "-o", str(folder / "out"), "--method", "stub"]
    done = subprocess.run(
        arguments,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": WITH_HELPERS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert names(folder / "out") == FILES | {"report.html"}
    assert told(folder / "out")["provenance"]["inputs"]["fixed"]["name"] == f"{stems[0]}.nii.gz"
    assert "f\\udcfflder" in done.stdout
    assert np.isfinite(nibabel.load(folder / "out" / "jacobian.nii.gz").get_fdata()).all()
