"""The ladder of ``lindef``: who is held out, what is measured of whom, and what the table says of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from anamorph.data import read_dataset
from small_dataset import SHAPE, make_learn2reg, name_of, write_labels, write_manifest, write_points, write_scan

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import lindef, lindef_folds


@pytest.fixture
def paired(tmp_path):
    """Seven patients with two scans each, all of them for training."""
    entries = []
    for subject in range(1, 8):
        for modality in (0, 1):
            image = write_scan(tmp_path / f"imagesTr/{name_of(subject, modality)}.nii.gz", subject + modality)
            label = write_labels(tmp_path / f"labelsTr/{image.name}")
            entries.append({"image": f"./imagesTr/{image.name}", "label": f"./labelsTr/{label.name}"})
    content = {
        "name": "Task",
        "pairings": "paired",
        "registration_direction": {"fixed": 0, "moving": 1},
        "modality": {"0": "ED", "1": "ES"},
        "labels": {"1": "ventricle"},
        "tensorImageShape": {"0": list(SHAPE)},
        "training": entries,
    }
    return read_dataset(write_manifest(tmp_path, content))


def test_every_patient_is_held_out_once_and_never_trained_on_meanwhile(paired):
    folds = lindef_folds.cut(paired, 3)
    held = [{case.subject for case in fold.of_split("validation")} for fold in folds]
    assert sorted(len(one) for one in held) == [2, 2, 3]
    assert set.union(*held) == {case.subject for case in paired.cases}
    for fold, own in zip(folds, held, strict=True):
        trained = {case.subject for pair in fold.pairs("training") for case in (pair.fixed, pair.moving)}
        assert trained == {case.subject for case in fold.of_split("training")}
        assert not trained & own
        pairs = lindef.kinds(fold)
        assert len(pairs["of one patient"]) == len(own)
        assert len(pairs["combinations"]) == len(own) ** 2
        assert {pair.fixed.modality for pair in pairs["combinations"]} == {"0000"}
        assert {case.subject for pair in pairs["combinations"] for case in (pair.fixed, pair.moving)} == own


def test_pairs_of_two_patients_are_both_held_out(tmp_path):
    folds = lindef_folds.cut(read_dataset(make_learn2reg(tmp_path, 6)), 3)
    for fold in folds:
        (pair,) = fold.pairs("val")
        assert {pair.fixed.subject, pair.moving.subject} == {case.subject for case in fold.of_split("validation")}


def test_trainings_are_alike_but_for_the_variant_and_the_last_epoch_is_the_model(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(lindef_folds.subprocess, "run", lambda command, check: commands.append(command))
    for variant in ("linear", "deformable"):
        settings = ["spacing_mm=5", *lindef_folds.VARIANTS[variant]]
        lindef_folds.train(tmp_path / "d.json", tmp_path / variant, "small-cardiac", 7, tmp_path / "start", settings)
    one, other = commands
    assert [word for word in other if word not in one] == [str(tmp_path / "deformable"), "affine=false"]
    assert {"all_combinations=true", "validate_every=7", "validate_first=false", "--resume"} <= set(one)
    assert one[one.index("--pretrained") + 1] == str(tmp_path / "start")
    (tmp_path / "linear").mkdir()
    lindef_folds.train(tmp_path / "d.json", tmp_path / "linear", "small-cardiac", 7, tmp_path / "start", ())
    assert "--pretrained" not in commands[-1], "a run that goes on has its weights already"


def test_what_is_measured_is_not_measured_again(paired, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(lindef_folds, "measure", lambda run, pair: asked.append(pair.key) or [50.0] + 5 * [1.0])
    fold, file = lindef_folds.cut(paired, 3)[0], tmp_path / "measured.json"
    lindef_folds.measure_all(fold, "convex", file, 2)
    assert len(asked) == 4
    lindef_folds.measure_all(fold, "convex", file, 4)
    assert len(asked) == 3 + 4
    assert {kind: len(rows) for kind, rows in json.loads(file.read_text()).items()} == {
        "of one patient": 3,
        "combinations": 4,
    }


def test_differences_are_of_the_same_pairs_and_count_patients(tmp_path):
    nothing = 4 * [float("nan")]
    rows = {
        "linear": {"0001_0000<--0001_0001": 60, "0001_0000<--0002_0001": 50, "0002_0000<--0002_0001": 80},
        "deformable": {"0001_0000<--0001_0001": 58, "0001_0000<--0002_0001": 46, "0002_0000<--0002_0001": 79},
        "other": {"0001_0000<--0001_0001": 61},
    }
    (tmp_path / "fold-0").mkdir()
    for name, values in rows.items():
        told = {"of one patient": {key: [value, *nothing, 0.5] for key, value in values.items()}}
        (tmp_path / "fold-0" / f"{name}.json").write_text(json.dumps(told))
    printed = lindef_folds.table(tmp_path).splitlines()
    means, differences = printed[: printed.index("")], printed[printed.index("") + 1 :]
    assert any("| linear | 3 of one patient | 63.33 +- 12.47 |" in line for line in means)
    # Patient 1: -2 and -4, so -3; patient 2: -1. The mean over patients, not over the three pairs.
    assert any("| deformable | of one patient | 1 | -2.00 (-3.00 to -1.00) | -2.00 |" in line for line in differences)
    assert any("| other | of one patient | 1 | +1.00 (+1.00 to +1.00) | +1.00 |" in line for line in differences)
    assert not any("| linear |" in line for line in differences)


def test_a_second_observer_is_off_by_the_deviation_asked_for(tmp_path):
    manifest = make_learn2reg(tmp_path, 4)
    content = json.loads(manifest.read_text())
    for entry in content["training"]:
        entry["landmarks"] = entry["image"].replace("images", "landmarks").replace(".nii.gz", ".csv")
        write_points(tmp_path / entry["landmarks"], 5)
    dataset = read_dataset(write_manifest(tmp_path, content))
    pairs = lindef_folds.cut(dataset, 2)[0].pairs("val")
    first, again = (lindef.measure("observer=2", pairs[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first[4] > max(first[1:4]), "the length is more than any of its parts"
    many = [lindef.set_again(pair, 2.0) for pair in pairs]
    np.testing.assert_allclose(np.array(many), np.array([lindef.set_again(pair, 1.0) for pair in pairs]) * 2)
    assert 0.5 < np.mean([errors[:3].mean() for errors in many]) / (2 * np.sqrt(2 / np.pi)) < 1.5
