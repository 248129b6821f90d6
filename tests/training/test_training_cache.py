from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

import small_dataset
from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.image.read import read_image
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.trained import RegistrationModel
from anamorph.training.cache import Cohort
from anamorph.transforms import Affine
from small_dataset import image_of, name_of, write_labels, write_scan
from tiny_models import save_tiny

PREPROCESSING = Preprocessing(multiple=4)


def make(tmp_path, preprocessing=PREPROCESSING, subjects=5, **changes):
    return Cohort.of(
        read_dataset(small_dataset.make_learn2reg(tmp_path / "data", subjects, **changes)),
        preprocessing,
        tmp_path / "cache",
    )


def test_scans_are_kept_in_the_direction_of_ras_around_their_middle(tmp_path):
    cohort = make(tmp_path)
    assert cohort.images.shape == (5, 1, 8, 12, 8), "8 x 9 x 7 rounded up to multiples of 4"
    assert isinstance(cohort.images, np.memmap)
    assert cohort.images.dtype == np.float16
    original = read_image(cohort.dataset.cases[0].image).data[0].astype(float)
    inside = original[original > original.min()]
    low, high = np.percentile(inside, (1, 99))
    expected = np.clip((original - low) / (high - low), 0, 1)[::-1, ::-1]  # the file runs to the left and back
    start = [int(np.floor((a - b) / 2 + 0.5)) for a, b in zip(expected.shape, cohort.shape, strict=True)]
    window = tuple(slice(-s, -s + n) for s, n in zip(start, expected.shape, strict=True))
    np.testing.assert_allclose(cohort.images[0, 0][window], expected, atol=1e-3)
    outside = np.ones(cohort.shape, bool)
    outside[window] = False
    assert not cohort.images[0, 0][outside].any()
    assert cohort.frames[0].orientation == "RAS"
    np.testing.assert_allclose(
        cohort.frames[0].voxel_to_world(-np.array(start, float)),
        read_image(cohort.dataset.cases[0].image).grid.voxel_to_world(np.array([7.0, 8.0, 0.0])),
    )


@pytest.mark.parametrize("reading", ["averaged", "point"])
def test_what_a_training_caches_is_what_a_method_shows_the_network(tmp_path, reading):
    cohort = make(tmp_path, Preprocessing(7.0, multiple=4, reading=reading))
    reads = {"spacing_mm": 7.0, "multiple": 4, "reading": reading}
    model = RegistrationModel.load(save_tiny(tmp_path / "model", shape=cohort.shape, **reads))
    fixed, moving = (read_image(case.image) for case in cohort.dataset.cases[:2])
    frame = model.frame(fixed.grid, moving.grid)
    assert frame == cohort.frames[0]
    for row, seen in enumerate(model.inputs(fixed, moving, frame, Affine.identity())):
        np.testing.assert_array_equal(seen[0].numpy().astype(np.float16), cohort.images[row])
    inside = cohort.images[0].astype(float)[cohort.images[0] > 0]
    assert (inside.std() < 0.1) == (reading == "averaged"), "noise is averaged out"


def test_labels_lie_where_they_lie_in_the_scan(tmp_path):
    cohort = make(tmp_path)
    assert int((cohort.label_maps[0] == 1).sum()) == 10
    voxels = np.argwhere(cohort.label_maps[0] == 1)
    in_file = cohort.frames[0].voxel_to_world(voxels.mean(axis=0))
    grid = read_image(cohort.dataset.cases[0].image).grid
    np.testing.assert_allclose(grid.world_to_voxel(in_file), [3, 2.5, 3], atol=1e-6)


def test_a_cache_is_made_once(tmp_path):
    told: list[str] = []
    dataset = read_dataset(small_dataset.make_learn2reg(tmp_path / "data"))
    for _ in range(2):
        Cohort.of(dataset, PREPROCESSING, tmp_path / "cache", lambda stage, fraction: told.append(stage))
    assert told == ["checking Task"] * 5 + ["caching Task"] * 5 + ["checking Task"] * 5
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_is_made_again_when_a_file_or_the_preprocessing_changes(tmp_path):
    first = make(tmp_path)
    write_scan(tmp_path / "data" / image_of(1), seed=77)
    second = Cohort.of(read_dataset(tmp_path / "data"), PREPROCESSING, tmp_path / "cache")
    third = Cohort.of(read_dataset(tmp_path / "data"), Preprocessing(shape=(8, 8, 8)), tmp_path / "cache")
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert not np.array_equal(first.images[0], second.images[0])
    assert np.array_equal(first.images[1], second.images[1])
    assert third.shape == (8, 8, 8)


def test_a_damaged_cache_is_made_again(tmp_path):
    cohort = make(tmp_path)
    expected = np.array(cohort.images)
    file = next((tmp_path / "cache").glob("*/images.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    np.testing.assert_array_equal(make(tmp_path).images, expected)


def test_rows_of_splits_and_pairs(tmp_path):
    cohort = make(tmp_path)
    keys = [case.key for case in cohort.dataset.cases]
    assert [keys[n] for n in cohort.of_split("training")] == ["0001_0000", "0002_0000", "0005_0000"]
    assert [(keys[f], keys[m]) for f, m in cohort.pairs("validation")] == [("0003_0000", "0004_0000")]
    assert len(cohort.pairs("training")) == 3
    images, labels = cohort.load([3, 0])
    np.testing.assert_array_equal(images.numpy(), np.stack([cohort.images[3], cohort.images[0]]).astype(np.float32))
    assert labels.shape == (2, 8, 12, 8)


def test_labels_that_a_cohort_does_not_annotate_are_hidden(tmp_path):
    labels = {"0": "background", "1": "liver", "2": "spleen"}
    write_labels(tmp_path / "data" / "labelsTr" / f"{name_of(1)}.nii.gz")
    manifest = small_dataset.make_learn2reg(tmp_path / "data", labels=labels, annotated_labels=[2])
    write_labels(tmp_path / "data" / "labelsTr" / f"{name_of(2)}.nii.gz", value=2)
    cohort = Cohort.of(read_dataset(manifest), PREPROCESSING, tmp_path / "cache")
    assert (cohort.labels, cohort.annotated) == ((1, 2), (2,))
    assert not cohort.label_maps[0].any()
    assert int((cohort.label_maps[1] == 2).sum()) == 10


def rewrite(tmp_path, **changes):
    path = tmp_path / "data" / "Task_dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return Cohort.of(read_dataset(path), PREPROCESSING, tmp_path / "cache")


def test_an_empty_list_of_scans(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    with pytest.raises(UserError, match="lists no scans for training"):
        rewrite(tmp_path, training=[], registration_val=[], test=[image_of(1)])


def test_a_file_that_does_not_exist(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    (tmp_path / "data" / "labelsTr" / f"{name_of(2)}.nii.gz").unlink()
    with pytest.raises(UserError, match=rf"the label of 0002_0000, .*{name_of(2)}.nii.gz does not exist"):
        rewrite(tmp_path)


def test_a_scan_without_labels(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    (tmp_path / "data" / "labelsTr" / f"{name_of(2)}.nii.gz").unlink()
    cohort = rewrite(tmp_path, training=[{"image": image_of(n)} for n in range(1, 6)])
    assert cohort.of_split("training", labelled=True) == [0, 4]
    with pytest.raises(UserError, match=r"1 scans have no label map \(0002_0000\)"):
        cohort.require_labels()
    cohort.require_labels(["validation"])


def test_a_label_that_the_manifest_does_not_name(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    write_labels(tmp_path / "data" / "labelsTr" / f"{name_of(5)}.nii.gz", value=7)
    with pytest.raises(UserError, match=rf"{name_of(5)}.nii.gz holds the labels 7, but the manifest names 1;"):
        rewrite(tmp_path)
    assert not list((tmp_path / "cache").glob("*")), "nothing of it stays"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {}}, "has label maps but names no labels"),
        ({"labels": {"0": "background", "300": "liver"}}, "whole numbers from 1 to 255, not 300"),
        ({"annotated_labels": [9]}, "annotated_labels holds 9, which labels does not name"),
        ({"annotated_labels": "liver"}, r"must be a list of label values such as \[1, 2\]"),
    ],
)
def test_labels_of_the_manifest_that_make_no_sense(tmp_path, changes, message):
    small_dataset.make_learn2reg(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        rewrite(tmp_path, **changes)


def test_scans_that_differ_in_their_channels(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    data = np.random.default_rng(0).random((*small_dataset.SHAPE, 1, 2)).astype(np.float32)
    nibabel.Nifti1Image(data, small_dataset.AFFINE).to_filename(tmp_path / "data" / image_of(2))
    with pytest.raises(UserError, match="0002_0000 has 2 channels, 0001_0000 1"):
        rewrite(tmp_path)


def test_labels_on_another_grid_than_their_scan(tmp_path):
    small_dataset.make_learn2reg(tmp_path / "data")
    write_labels(tmp_path / "data" / "labelsTr" / f"{name_of(2)}.nii.gz", shape=(8, 9, 8))
    with pytest.raises(UserError, match="label map of 0002_0000 is not on the grid of its scan"):
        rewrite(tmp_path)
