from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anamorph.cli.main import app
from anamorph.data import read_dataset
from small_dataset import image_of, make_learn2reg, write_labels, write_scan


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(1, 7):
        write_scan(tmp_path / f"scans/images/p{n}.nii.gz", n)
        write_labels(tmp_path / f"scans/labels/p{n}.nii.gz")
    return tmp_path / "scans"


def test_a_sound_set_is_shown_and_exits_with_0(tmp_path: Path):
    make_learn2reg(tmp_path)
    result = invoke("check", tmp_path, "--cases")
    assert result.exit_code == 0, result.output
    assert "liver" in result.stdout
    assert "5 of 5" in result.stdout
    assert "8 x 9 x 7" in result.stdout
    assert "0003_0000" in result.stdout
    assert "sound" in result.stdout


def test_errors_are_listed_and_exit_with_2(tmp_path: Path):
    make_learn2reg(tmp_path)
    (tmp_path / image_of(2)).unlink()
    result = invoke("check", tmp_path)
    assert result.exit_code == 2
    assert "does not exist" in result.stdout
    assert "1 errors and 0 warnings" in result.stderr
    as_json = invoke("check", tmp_path, "--json")
    assert as_json.exit_code == 2
    problems = json.loads(as_json.stdout)["problems"]
    assert [(one["severity"], one["place"]) for one in problems] == [("error", "0002_0000")]


def test_a_data_set_is_planned_created_and_checked(folder: Path, tmp_path: Path):
    arguments = ("create", folder, "-o", tmp_path / "out", "--name", "Livers", "--label-names", "1=liver", "--seed", 5)
    planned = invoke(*arguments, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "nothing was written" in planned.stdout
    assert not (tmp_path / "out").exists()
    created = invoke(*arguments)
    assert created.exit_code == 0, created.output
    dataset = read_dataset(tmp_path / "out")
    assert dataset.path.name == "Livers_dataset.json"
    assert dataset.labels == {1: "liver"}
    for case in dataset.cases:
        assert f"{case.key}   {case.split}" in planned.stdout
    again = invoke(*arguments)
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    assert invoke("check", tmp_path / "out", "-q").output == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label-names", "liver"), "--label-names wants 1=liver,2=spleen, not 'liver'"),
        (("--pairs", "some"), "choose one of auto, paired, unpaired"),
        (("--files", "move"), "choose one of link, copy, reference"),
        (("--images", "images/p1.nii.gz"), "has no *"),
        (("--labels", "segs/*"), "no label files match 'segs/*'"),
        (("--validation", "-1"), "neither a share below 1 nor a number"),
        (("--max-pairs", "0"), "--max-pairs must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, tmp_path: Path, options: tuple[str, str], message: str):
    result = invoke("create", folder, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_download_is_imported(tmp_path: Path):
    for n in range(6):
        write_scan(tmp_path / f"kits19/case_{n:05}/imaging.nii.gz", n)
        if n:
            write_labels(tmp_path / f"kits19/case_{n:05}/segmentation.nii.gz")
    result = invoke("import", "kits19", tmp_path / "kits19", "-o", tmp_path / "out", "--labelled-only")
    assert result.exit_code == 0, result.output
    dataset = read_dataset(tmp_path / "out")
    assert dataset.name == "KiTS19"
    assert {case.subject for case in dataset.cases} == {f"{n:04}" for n in range(1, 6)}
    assert invoke("import", "kits19", tmp_path / "kits19", "-o", tmp_path / "x", "--channel", "T2").exit_code == 2
