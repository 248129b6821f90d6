from __future__ import annotations

import json
import re
import zipfile

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.batch.run import remaining_time
from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.image.read import read_image
from anamorph.methods import METHODS
from anamorph.transforms.files import read_transform
from anamorph.workflows.submission.formats import archive_format
from cohort_runs import flip_a_byte
from small_cohort import SHAPE, write_cohort

HALF = tuple(n // 2 for n in SHAPE)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(autouse=True)
def cohort_method(monkeypatch):
    monkeypatch.setitem(METHODS.own, "cohort-stub", "cohort_stub:CohortStub")


@pytest.fixture
def manifest(tmp_path):
    return write_cohort(tmp_path / "raw", count=3, shift_mm=6.0)


@pytest.fixture
def submit(manifest, tmp_path):
    def call(*options: object, out: str = "out.zip"):
        return run(
            "submit", "--dataset", manifest, "--method", "cohort-stub", "-o", tmp_path / out,
            "--work", tmp_path / "work", *options,
        )  # fmt: skip

    return call


def test_training_pairs_are_predicted_and_evaluated_too(manifest, tmp_path, submit):
    content = json.loads(manifest.read_text())
    content["registration_val"] = []
    manifest.write_text(json.dumps(content))
    result = submit("--split", "training")
    assert result.exit_code == 0, result.stderr
    assert len(members(tmp_path / "out.zip")) == 3
    evaluated = run("evaluate", tmp_path / "out.zip", "--dataset", manifest, "--split", "training")
    assert evaluated.exit_code == 0, evaluated.stderr


def members(path):
    """Shape and dtype of each file of an archive, by its name."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            unpacked = archive.extract(name, path.parent / "unpacked")
            if name.endswith(".npz"):
                (array,) = np.load(unpacked).values()
                found[name] = array.shape, array.dtype.name
            else:
                image = nibabel.load(unpacked)
                found[name] = image.shape, image.get_data_dtype().name
    return found


@pytest.mark.parametrize(
    ("options", "first", "content"),
    [
        (("--year", 2020), "task_03/disp_0001_0002.npz", ((3, *HALF), "float16")),
        (("--year", 2021), "task_01/disp_0001_0002.npz", ((3, *HALF), "float16")),
        (("--year", 2020, "--task", 4), "task_04/disp_0001_0002.npz", ((3, *SHAPE), "float16")),
        (("--year", 2022), "disp_0001_0002.nii.gz", ((*SHAPE, 3), "float32")),
        (("--year", 2023, "--file-type", "npz"), "disp_0001_0002.npz", ((*SHAPE, 3), "float32")),
        (("--year", 2025), "disp_0001_0000_0002_0000.nii.gz", ((*SHAPE, 3), "float32")),
        (("--year", 2024, "--folder", "a/b"), "a/b/disp_0001_0002.nii.gz", ((*SHAPE, 3), "float32")),
    ],
)
def test_archive_has_the_form_of_its_year(submit, tmp_path, options, first, content):
    result = submit(*options)
    assert result.exit_code == 0, result.stderr
    found = members(tmp_path / "out.zip")
    assert len(found) == 3
    assert found[first] == content


def test_both_names_hold_the_same_field(submit, tmp_path):
    assert submit("--year", 2025, "--names", "both").exit_code == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 6
        assert archive.read("disp_0001_0003.nii.gz") == archive.read("disp_0001_0000_0003_0000.nii.gz")


def test_fields_move_the_right_way_and_are_evaluated_from_the_archive(submit, manifest, tmp_path):
    """The stub knows the shift of 6 mm per scan: full Dice after, less before, and the field says so in voxels."""
    result = submit()
    assert result.exit_code == 0, result.stderr
    assert "pair 1 of 3, 0001_0000<--0002_0000\n" in result.stderr
    # The third follows within a second, which no line of its own is printed for.
    assert re.search(r"\[ 33 %\] pair 2 of 3, 0001_0000<--0003_0000, about \d+ s left", result.stderr)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    grid = read_image(read_dataset(manifest).cases[0].image).grid
    field = read_transform(tmp_path / "unpacked" / "disp_0001_0000_0003_0000.nii.gz", grid=grid)
    assert field.map_world(np.zeros((1, 3))) == pytest.approx(np.full((1, 3), 12.0), abs=1e-4)
    record = json.loads((tmp_path / "work" / "submission.json").read_text())
    pair = record["pairs"]["0001_0000<--0003_0000"]
    assert pair["storage_error_mm"] == {"mean": 0, "p95": 0, "max": 0}
    assert pair["dice"]["stored"] == pair["dice"]["computed"] > 0.9
    results = json.loads((tmp_path / "work" / "evaluation" / "results.json").read_text())
    assert results["cases"]["0001_0000<--0003_0000"]["DSC"]["mean"] > 0.9


def test_cost_of_half_resolution_is_what_the_evaluator_will_see(submit, manifest, tmp_path):
    result = submit("--year", 2020, "--set", "wave_mm=3")
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    grid = read_image(read_dataset(manifest).cases[0].image).grid
    fields = [
        read_transform(path, grid=grid)
        for path in (
            tmp_path / "unpacked" / "task_03" / "disp_0001_0002.npz",
            tmp_path / "work" / "disp_0001_0000_0002_0000.nii.gz",
        )
    ]
    distance = np.linalg.norm(fields[0].vectors_mm() - fields[1].vectors_mm(), axis=0)
    record = json.loads((tmp_path / "work" / "submission.json").read_text())
    told = record["pairs"]["0001_0000<--0002_0000"]["storage_error_mm"]
    assert told["mean"] == pytest.approx(distance.mean(), abs=1e-5)
    assert told["max"] == pytest.approx(distance.max(), abs=1e-5)
    assert distance.max() > 0.3
    assert f"{distance.mean():.3f} / {distance.max():.3f} mm" in result.stdout


def test_finished_pairs_are_used_again_unless_settings_or_scans_change(submit, manifest, tmp_path):
    def times():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("disp_*.nii.gz")}

    assert submit().exit_code == 0
    first = times()
    assert submit("--overwrite").exit_code == 0
    assert submit("--year", 2021, out="other.zip").exit_code == 0
    assert times() == first
    path = read_dataset(manifest).cases[2].image
    image = read_image(path)
    from anamorph.image.write import write_image

    write_image(image.with_data(image.data + 1), path)
    assert submit("--overwrite").exit_code == 0
    second = times()
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"disp_0001_0000_0003_0000.nii.gz", "disp_0002_0000_0003_0000.nii.gz"}
    assert submit("--overwrite", "--set", "wave_mm=1").exit_code == 0
    assert all(second[name] != times()[name] for name in second)


def test_a_damaged_field_is_made_again(submit, tmp_path):
    assert submit().exit_code == 0
    field = tmp_path / "work" / "disp_0001_0000_0003_0000.nii.gz"
    whole = field.read_bytes()
    flip_a_byte(field)
    result = submit("--overwrite", "--workers", 2)
    assert result.exit_code == 0, result.stderr
    assert field.read_bytes() == whole
    assert result.stdout.count("(kept)") == 2


def test_a_pair_that_fails_stops_no_other(submit, tmp_path):
    result = submit("--set", "fail=0002_0000")
    assert result.exit_code == 1
    assert "failed: 0001_0000<--0002_0000: no overlap" in result.stderr
    assert "2 of 3 pairs failed" in result.stderr
    assert not (tmp_path / "out.zip").exists()
    assert [path.name for path in (tmp_path / "work").glob("disp_*.nii.gz")] == ["disp_0001_0000_0003_0000.nii.gz"]


def test_zeros_take_the_place_of_failed_pairs_if_wanted(submit, tmp_path):
    result = submit("--set", "fail=0002_0000", "--zero-failed", "--year", "2022")
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert not np.asarray(nibabel.load(tmp_path / "unpacked" / "disp_0001_0002.nii.gz").dataobj).any()
    assert np.asarray(nibabel.load(tmp_path / "unpacked" / "disp_0001_0003.nii.gz").dataobj).any()
    assert result.stdout.count("zeros") == 2
    again = submit("--set", "fail=0002_0000", "--year", "2022", "--overwrite")
    assert "2 of 3 pairs failed" in again.stderr  # zeros count as not done


def test_an_interrupted_run_keeps_what_is_done(submit, tmp_path):
    result = submit("--set", "interrupt=0003_0000")
    assert result.exit_code == 130
    assert "finished pairs are kept" in result.stderr
    assert "nothing was written" not in result.stderr
    assert [path.name for path in (tmp_path / "work").glob("disp_*.json")] == ["disp_0001_0000_0002_0000.json"]
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (75, "75 s"), (600, "10 min"), (7200, "2.0 h")])
def test_remaining_time_is_said_in_a_unit_that_suits(seconds, words):
    assert remaining_time(seconds) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--year", 2019), "there is no format of 2019"),
        (("--year", 2022, "--file-type", "npz"), "reads nii.gz, not 'npz'"),
        (("--year", 2022, "--task", 3), "drop --task"),
        (("--year", 2021, "--task", 4), "there is no --task 4"),
        (("--names", "tall"), "--names must be one of"),
        (("--split", "test"), "registration_test"),
        (("--split", "all"), "--split must be val, test or training, not 'all'"),
        (("--folder", "../x"), "leads out of the archive"),
        (("--set", "wave=1"), "has no setting 'wave'"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_computed(submit, tmp_path, options, words):
    result = submit("-q", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("work/disp_*"))


def test_sizes_and_names_that_do_not_fit_are_told_at_once(tmp_path):
    odd = write_cohort(tmp_path / "odd", count=2, shape=(25, 20, 16))
    result = run("submit", "--dataset", odd, "--year", "2020", "-o", tmp_path / "o.zip", "-q")
    assert result.exit_code == 2
    assert "25 x 20 x 16" in result.stderr
    other = read_dataset(write_cohort(tmp_path / "other", count=2, name="Knee"))
    with pytest.raises(UserError, match="--task"):
        archive_format(2020, other)
