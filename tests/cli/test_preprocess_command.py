from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.image.read import read_image, read_labels, read_points
from anamorph.transforms import Affine
from anamorph.transforms.files import read_transform, write_transform
from small_cohort import SHAPE, write_cohort


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("raw"), count=2, shift_mm=8.0)


@pytest.fixture(scope="module")
def new(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("preprocessed") / "new"
    result = run(
        "preprocess", "--dataset", raw, "-o", out, "--spacing", 2, "--align", "translation",
        "--reference", "0001_0000", "--normalise", "percentile",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "0002_0000" in result.stdout
    return out


def test_a_transform_between_preprocessed_scans_is_mapped_back(raw, new, tmp_path):
    """After the alignment nothing is left to do but a voxel here and there: the identity maps back to the shift."""
    dataset = read_dataset(raw)
    cases = read_dataset(new).cases
    grids = [read_image(case.image).grid for case in cases]
    write_transform(Affine.identity(), tmp_path / "found.nii.gz", "learn2reg", *grids)
    out = tmp_path / "back.nii.gz"
    records = [new / "records" / f"{case.key}.json" for case in cases]
    result = run("map-back", tmp_path / "found.nii.gz", "--fixed", records[0], "--moving", records[1], "-o", out)
    assert result.exit_code == 0, result.stderr
    points = [read_points(case.landmarks, read_image(case.image).grid).positions_mm for case in dataset.cases]
    mapped = read_transform(out)
    assert mapped.grid.shape == SHAPE
    error = np.linalg.norm(mapped.map_world(points[0]) - points[1], axis=1)
    assert np.linalg.norm(points[1] - points[0], axis=1) == pytest.approx([8 * 3**0.5] * 3)
    assert error.max() < 3.0
    again = run("map-back", tmp_path / "found.nii.gz", "--fixed", records[0], "--moving", records[1], "-o", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_labels_of_a_preprocessed_scan_go_back_with_its_affine(raw, new, tmp_path):
    original, case = read_dataset(raw).cases[1], read_dataset(new).cases[1]
    back = tmp_path / "back.nii.gz"
    result = run(
        "apply", new / "records" / f"{case.key}.tfm", "--to", case.label, "--like", original.image,
        "--as", "labels", "-o", back,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    here, there = read_labels(back).data, read_labels(original.label).data
    for label in (1, 2, 3):
        overlap = 2 * ((here == label) & (there == label)).sum() / ((here == label).sum() + (there == label).sum())
        assert overlap > 0.8


def test_record_says_what_was_done(new):
    record = json.loads((new / "records" / "0002_0000.json").read_text())
    assert record["alignment"]["reference"] == "0001_0000"
    assert set(record["intensity"]) == {"offset", "scale", "clip"}
    assert record["original"]["shape"] == list(SHAPE)
    assert np.array(record["preprocessed_to_original_ras_mm"])[:3, 3] == pytest.approx([8, 8, 8], abs=2.5)


def test_scans_of_another_data_set_are_brought_to_the_same_reference(raw, new, tmp_path):
    """A cohort of another shape and place shares the grid of the reference, and its organs lie on those of it."""
    other = write_cohort(tmp_path / "other", count=2, shift_mm=10.0, name="Liver", shape=(28, 22, 18))
    out = tmp_path / "out"
    options = "--spacing", 2, "--align", "translation", "--reference", 1, "--normalise", "percentile"
    result = run("preprocess", "--dataset", other, "-o", out, *options, "--reference-dataset", raw)
    assert result.exit_code == 0, result.stderr
    reference, *_ = read_dataset(new).cases
    fixed = read_labels(reference.label)
    for case in read_dataset(out).cases:
        moved = read_labels(case.label)
        assert moved.grid.matches(fixed.grid, 1e-4)
        here, there = fixed.data == 1, moved.data == 1
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.75
        record = json.loads((out / "records" / f"{case.key}.json").read_text())
        assert record["alignment"]["model"] == "translation"
        assert (record["alignment"]["dataset"], record["alignment"]["reference"]) == ("AbdomenCTCT", "0001_0000")
    assert "dataset" not in json.loads((new / "records" / "0002_0000.json").read_text())["alignment"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shape", "20,20"), "--shape wants three whole numbers"),
        (("--window", "low"), "--window wants two numbers"),
        (("--spacing", "2", "--workers", "0"), "--workers must be at least 1"),
        (
            ("--align", "affine", "--reference", "0009_0000"),
            "--reference: no scans of AbdomenCTCT_dataset.json are",
        ),
        (
            ("--spacing", "2", "--reference-dataset", "other"),
            "--reference-dataset holds the scan that",
        ),
        (("--crop", "head", "--spacing", "2"), "--crop must be one of none, body"),
    ],
)
def test_mistakes_are_one_line(raw, tmp_path, options, words):
    result = run("preprocess", "--dataset", raw, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_existing_output_and_foreign_folders_are_left_alone(raw, tmp_path):
    (tmp_path / "out").mkdir()
    assert run("preprocess", "--dataset", raw, "-o", tmp_path / "out", "--spacing", "4").exit_code == 2
    foreign = tmp_path / "other.partial"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    result = run("preprocess", "--dataset", raw, "-o", tmp_path / "other", "--spacing", "4")
    assert result.exit_code == 2
    assert "no unfinished run" in result.stderr
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_a_map_back_without_a_record_says_where_records_are(new, tmp_path):
    (tmp_path / "no.json").write_text("{}")
    for record, words in ((tmp_path / "none.json", "folder records"), (tmp_path / "no.json", "is no record")):
        result = run("map-back", "t.nii.gz", "--fixed", record, "--moving", record, "-o", tmp_path / "o.nii.gz")
        assert result.exit_code == 2
        assert words in result.stderr
