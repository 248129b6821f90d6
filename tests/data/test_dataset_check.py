from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anamorph.data import read_dataset
from anamorph.data.check import DatasetCheck, check_dataset
from small_dataset import AFFINE, SHAPE, image_of, make_learn2reg, name_of, write_labels, write_points, write_scan


def check(folder: Path, **changes: object) -> DatasetCheck:
    return check_dataset(read_dataset(make_learn2reg(folder, **changes)))


def messages(result: DatasetCheck, severity: str) -> list[str]:
    return [f"{one.place}: {one.message}" for one in result.problems if one.severity == severity]


def recheck(folder: Path) -> DatasetCheck:
    return check_dataset(read_dataset(folder))


def test_a_sound_set_has_no_problems_and_true_numbers(tmp_path: Path):
    result = check(tmp_path)
    assert result.problems == ()
    assert [one.grid.shape for one in result.facts if one.grid] == [SHAPE] * 5
    assert result.facts[0].volumes_ml == {1: pytest.approx(10 * 12 / 1000)}
    assert result.as_dict()["scans"][2]["spacing_mm"] == [2, 2, 3]


def test_files_that_are_missing_or_damaged_are_errors_of_their_scan(tmp_path: Path):
    make_learn2reg(tmp_path)
    (tmp_path / image_of(1)).write_bytes(gzip.compress(b"x" * 400))
    (tmp_path / image_of(2)).unlink()
    (tmp_path / f"labelsTr/{name_of(3)}.nii.gz").unlink()
    found = messages(recheck(tmp_path), "error")
    assert [one.split(":")[0] for one in found] == ["0001_0000", "0002_0000", "0003_0000"]
    assert "cannot be read as an image" in found[0]
    assert f"image imagesTr/{name_of(2)}.nii.gz does not exist" in found[1]
    assert "label" in found[2]


def test_label_maps_and_masks_lie_on_the_grid_of_their_scan(tmp_path: Path):
    make_learn2reg(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 0.8
    write_labels(tmp_path / f"labelsTr/{name_of(1)}.nii.gz", affine=moved)
    write_labels(tmp_path / f"labelsTr/{name_of(2)}.nii.gz", shape=(8, 9, 8))
    write_labels(tmp_path / f"masksTr/{name_of(3)}.nii.gz", shape=(8, 8, 7))
    found = messages(recheck(tmp_path), "error")
    assert found == [
        "0001_0000: the label map lies up to 0.80 mm from its scan: a header was changed",
        "0002_0000: the label map has 8 x 9 x 8 voxels, its scan 8 x 9 x 7",
        "0003_0000: the mask has 8 x 8 x 7 voxels, its scan 8 x 9 x 7",
    ]


def test_labels_are_those_the_manifest_names(tmp_path: Path):
    make_learn2reg(tmp_path, labels={"1": "liver", "2": "spleen"})
    write_labels(tmp_path / f"labelsTr/{name_of(1)}.nii.gz", value=3)
    data = np.full(SHAPE, 0.5, np.float32)
    data[0] = 0
    nibabel.Nifti1Image(data, AFFINE).to_filename(tmp_path / f"labelsTr/{name_of(2)}.nii.gz")
    first, second = messages(recheck(tmp_path), "error")
    assert "holds the labels 3; the manifest names 1 to 2" in first
    assert "whole numbers" in second


def test_points_lie_in_their_scan_and_correspond(tmp_path: Path):
    make_learn2reg(tmp_path)
    write_points(tmp_path / f"landmarksTr/{name_of(3)}.csv", 3)
    write_points(tmp_path / f"landmarksTr/{name_of(4)}.csv", 4)
    write_points(tmp_path / f"keypointsTr/{name_of(5)}.csv", 2, offset=20)
    outside, counts = messages(recheck(tmp_path), "error")
    assert outside == f"0005_0000: {name_of(5)}.csv: 2 of 2 points lie outside the scan"
    assert counts == "0003_0000<--0004_0000: 3 fixed but 4 moving landmarks"


def test_a_patient_in_two_splits_is_an_error(tmp_path: Path):
    write_scan(tmp_path / image_of(1, 1, "Ts"))
    result = check(tmp_path, test=[image_of(1, 1, "Ts")])
    assert messages(result, "error") == ["0001: the patient is in test and training"]


def test_two_scans_under_one_key_are_an_error(tmp_path: Path):
    write_scan(tmp_path / "more" / f"{name_of(1)}.nii.gz")
    entries = [{"image": image_of(1)}, {"image": f"./more/{name_of(1)}.nii.gz"}]
    assert "2 scans go by this subject" in messages(check(tmp_path, training=entries), "error")[0]


def test_lists_that_contradict_themselves_are_warned_of(tmp_path: Path):
    pair = {"fixed": image_of(3), "moving": image_of(4)}
    result = check(
        tmp_path, numTraining=7, registration_val=[pair, pair], training_paired_images=[pair], pairings="paired"
    )
    found = "\n".join(messages(result, "warning"))
    assert not result.errors
    assert "0003_0000<--0004_0000: listed 2 times for val" in found
    assert "pairings is paired, but 2 pairs of val join two patients" in found
    assert "1 pairs of val or test are listed for training too" in found
    assert "numTraining is 7, but 5 are listed" in found


def test_a_pair_of_one_scan_is_an_error(tmp_path: Path):
    result = check(tmp_path, registration_val=[{"fixed": image_of(3), "moving": image_of(3)}])
    assert messages(result, "error") == ["0003_0000<--0003_0000: a scan is paired with itself"]


def test_shapes_that_differ_are_warned_of(tmp_path: Path):
    make_learn2reg(tmp_path)
    write_scan(tmp_path / image_of(4), shape=(8, 9, 6))
    write_labels(tmp_path / f"labelsTr/{name_of(4)}.nii.gz", shape=(8, 9, 6))
    pair, shape = messages(recheck(tmp_path), "warning")
    assert pair.startswith("val: 1 of 1 pairs have scans of different shapes")
    assert shape == "tensorImageShape: 1 scans are not [8, 9, 7]: 0004_0000"


def test_pairs_without_anything_to_measure_are_warned_of(tmp_path: Path):
    make_learn2reg(tmp_path, training=[image_of(n) for n in range(1, 6)])
    for path in (tmp_path / "labelsTr").iterdir():
        path.unlink()
    assert messages(recheck(tmp_path), "warning") == [
        "0003_0000<--0004_0000: has no labels or points on both sides to measure"
    ]
