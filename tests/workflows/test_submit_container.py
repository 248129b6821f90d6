"""``submit --container``: the folders that the organisers of a challenge mount, and what they expect to find."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.methods import METHODS
from small_cohort import SHAPE, SPACING_MM, write_cohort

SHIFT_MM = 6.0


@pytest.fixture(autouse=True)
def cohort_method(monkeypatch):
    monkeypatch.setitem(METHODS.own, "cohort-stub", "cohort_stub:CohortStub")


@pytest.fixture
def root(tmp_path):
    """A file system of a container: scans in /input and a folder /output, which is empty."""
    write_cohort(tmp_path / "input", count=3, shift_mm=SHIFT_MM)
    (tmp_path / "output").mkdir()
    return tmp_path


def answer(root, *options: object):
    command = ["submit", "--container", "--dataset", root / "input", "-o", root / "output", "--method", "cohort-stub"]
    return CliRunner().invoke(app, [str(one) for one in (*command, *options)])


def written(root):
    return sorted(path.relative_to(root / "output").as_posix() for path in (root / "output").rglob("*"))


def field_of(path):
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    return np.asarray(image.dataobj)


def check_shift(path, steps: int):
    """The stub moves every voxel by 6 mm per scan: in voxels by the spacing, components last."""
    field = field_of(path)
    assert field.shape == (*SHAPE, 3)
    assert field == pytest.approx(np.broadcast_to(steps * SHIFT_MM / np.array(SPACING_MM), field.shape), abs=1e-5)


def test_a_list_beside_the_input_names_the_pairs(root):
    """LUMIR: the JSON is mounted beside /input, with its pairs under ``validation`` and paths that start in /input."""
    listed = [{"fixed": f"./imagesTr/AbdomenCTCT_{a}_0000.nii.gz", "moving": f"./imagesTr/AbdomenCTCT_{b}_0000.nii.gz"}
              for a, b in (("0002", "0001"), ("0003", "0001"))]  # fmt: skip
    (root / "input" / "AbdomenCTCT_dataset.json").unlink()
    (root / "LUMIR_dataset.json").write_text(json.dumps({"name": "LUMIR", "training": [], "validation": listed}))
    result = answer(root, "--year", 2024, "--names", "short")
    assert result.exit_code == 0, result.stderr
    assert written(root) == ["disp_0002_0001.nii.gz", "disp_0003_0001.nii.gz"]
    check_shift(root / "output" / "disp_0003_0001.nii.gz", -2)


def test_names_of_scans_tell_the_pairs_where_nothing_lists_them(root):
    """ReMIND2Reg: scans alone, modality 0000 fixed; no file of labels, masks or lists."""
    scans = root / "scans"
    scans.mkdir()
    for subject, source in (("0101", 1), ("0102", 2)):
        for modality in ("0000", "0001"):
            shutil.copy(
                root / "input/imagesTr" / f"AbdomenCTCT_{source + int(modality):04d}_0000.nii.gz",
                scans / f"ReMIND2Reg_{subject}_{modality}.nii.gz",
            )
    shutil.rmtree(root / "input")
    scans.rename(root / "input")
    result = answer(root, "--set", "step_mm=0")
    assert result.exit_code == 0, result.stderr
    assert written(root) == ["disp_0101_0000_0101_0001.nii.gz", "disp_0102_0000_0102_0001.nii.gz"]


def test_the_test_pairs_are_taken_if_their_scans_are_there(root):
    manifest = root / "input" / "AbdomenCTCT_dataset.json"
    content = json.loads(manifest.read_text())
    content["registration_test"] = content["registration_val"][:1]
    manifest.write_text(json.dumps(content))
    assert answer(root).exit_code == 0
    assert written(root) == ["disp_0001_0000_0002_0000.nii.gz"]
    content["registration_test"] = [
        {"fixed": "./imagesTs/A_0009_0000.nii.gz", "moving": "./imagesTs/A_0010_0000.nii.gz"}
    ]
    manifest.write_text(json.dumps(content))
    assert answer(root, "--overwrite").exit_code == 0
    assert len(written(root)) == 3


def test_half_resolution_and_folders_of_early_years_are_kept(root):
    assert answer(root, "--year", 2020).exit_code == 0
    with np.load(root / "output" / "task_03" / "disp_0001_0002.npz") as content:
        (field,) = content.values()
    assert field.shape == (3, *(n // 2 for n in SHAPE))
    assert field.dtype == np.float16


def test_a_pair_that_fails_leaves_the_others_and_can_be_zero(root):
    result = answer(root, "--set", "fail=0003_0000")
    assert result.exit_code == 1
    assert "2 of 3 pairs failed" in result.stderr
    assert written(root) == ["disp_0001_0000_0002_0000.nii.gz"]
    result = answer(root, "--set", "fail=0003_0000", "--zero-failed", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert len(written(root)) == 3
    assert not field_of(root / "output" / "disp_0001_0000_0003_0000.nii.gz").any()
    check_shift(root / "output" / "disp_0001_0000_0002_0000.nii.gz", 1)


def test_what_is_there_is_replaced_only_if_wanted(root):
    assert answer(root).exit_code == 0
    result = answer(root)
    assert result.exit_code == 2
    assert "pass --overwrite" in result.stderr


def test_an_interrupted_run_leaves_what_is_done_and_kept_fields_are_not_made_again(root):
    options = "--work", root / "work"
    assert answer(root, *options, "--set", "interrupt=0003_0000").exit_code == 130
    assert written(root) == ["disp_0001_0000_0002_0000.nii.gz"]
    assert answer(root, *options, "--overwrite").exit_code == 0
    times = {path.name: path.stat().st_mtime_ns for path in (root / "work").glob("*.nii.gz")}
    shutil.rmtree(root / "output")
    assert answer(root, *options).exit_code == 0
    assert times == {path.name: path.stat().st_mtime_ns for path in (root / "work").glob("*.nii.gz")}
    assert len(times) == len(written(root)) == 3


def test_a_folder_that_says_nothing_about_pairs_is_refused_in_one_line(root):
    (root / "input" / "AbdomenCTCT_dataset.json").unlink()
    for scan in (root / "input" / "imagesTr").iterdir():
        scan.rename(root / "input" / scan.name)
    result = answer(root)
    assert result.exit_code == 2
    assert "nothing says which scans are a pair" in result.stderr
    assert result.stderr.count("\n") == 1


def test_entries_of_validation_that_are_pairs_are_read_beside_scans(tmp_path):
    manifest = write_cohort(tmp_path, count=3)
    content = json.loads(manifest.read_text())
    content["test"] = [content["registration_val"][2]]
    manifest.write_text(json.dumps(content))
    dataset = read_dataset(manifest)
    assert [pair.key for pair in dataset.pairs("test")] == ["0002_0000<--0003_0000"]
    assert len(dataset.cases) == 3
