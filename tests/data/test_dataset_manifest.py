from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from anamorph.data import read_dataset, write_dataset
from anamorph.data.manifest import parse_name
from anamorph.errors import UserError
from small_dataset import image_of, make_learn2reg, name_of, write_manifest, write_points, write_scan


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AbdomenCTCT_0001_0000.nii.gz", ("0001", "0000")),
        ("LungCT_CT_0020_0001.nii.gz", ("0020", "0001")),
        ("0007_0002.csv", ("0007", "0002")),
        ("hippocampus_001.nii.gz", ("hippocampus_001", "0000")),
        ("PANCREAS_0001.nii", ("PANCREAS_0001", "0000")),
    ],
)
def test_names_tell_subject_and_modality(name: str, expected: tuple[str, str]):
    assert parse_name(name) == expected


def test_scans_of_validation_pairs_are_not_trained_on(tmp_path: Path):
    dataset = read_dataset(make_learn2reg(tmp_path))
    assert {case.subject: case.split for case in dataset.cases} == {
        **dict.fromkeys(("0001", "0002", "0005"), "training"),
        **dict.fromkeys(("0003", "0004"), "validation"),
    }
    assert [pair.key for pair in dataset.pairs("training")] == [
        "0001_0000<--0002_0000",
        "0001_0000<--0005_0000",
        "0002_0000<--0005_0000",
    ]
    (pair,) = dataset.pairs()
    assert pair.disp_names == {"long": "disp_0003_0000_0004_0000", "short": "disp_0003_0004"}
    assert pair.fixed.label == tmp_path / f"labelsTr/{name_of(3)}.nii.gz"
    assert dataset.labels == {1: "liver"}
    assert dataset.modalities == {"0000": "CT"}
    with pytest.raises(UserError, match="no pairs under registration_test"):
        dataset.pairs("test")


def test_every_key_survives_a_round_trip(tmp_path: Path):
    make_learn2reg(tmp_path, img_shift={"fixed": "followup"}, registration_direction={"fixed": 0, "moving": 0})
    first = read_dataset(tmp_path)
    write_dataset(first, tmp_path / "again" / "Task_dataset.json")
    shutil.copy(tmp_path / "again" / "Task_dataset.json", tmp_path / "Task_dataset.json")
    second = read_dataset(tmp_path)
    assert sorted(second.cases, key=lambda case: case.key) == list(first.cases)
    assert second.extra == {"release": "1.1", "tensorImageShape": {"0": [8, 9, 7]}, "img_shift": {"fixed": "followup"}}
    assert replace(second, cases=(), remarks=()) == replace(first, cases=(), remarks=())
    content = json.loads((tmp_path / "Task_dataset.json").read_text())
    assert content["numTraining"] == 3
    assert content["numRegistration_val"] == 1
    assert content["labels"] == {"0": "background", "1": "liver"}


def test_paths_below_the_manifest_are_relative_and_others_absolute(tmp_path: Path):
    dataset = read_dataset(make_learn2reg(tmp_path / "data"))
    write_dataset(dataset, tmp_path / "data" / "b.json")
    write_dataset(dataset, tmp_path / "elsewhere" / "c.json")
    below, beside = (json.loads((tmp_path / name).read_text()) for name in ("data/b.json", "elsewhere/c.json"))
    assert below["training"][0]["image"] == image_of(1)
    assert beside["training"][0]["image"] == str(tmp_path / "data" / image_of(1))


def test_paired_sets_follow_their_direction_and_points_their_pair(tmp_path: Path):
    """As ThoraxCBCT: three time points, points per pair, and JSON paths that end in .nii.gz where tables are."""
    entries = []
    for subject in (1, 2):
        for modality in (0, 1, 2):
            write_scan(tmp_path / image_of(subject, modality))
            entry = {"image": image_of(subject, modality)}
            for other in {0: (1, 2), 1: (1,), 2: (2,)}[modality]:
                write_points(tmp_path / f"keypoints0{other}Tr" / f"{name_of(subject, modality)}.csv")
                entry[f"keypoints0{other}"] = f"./keypoints0{other}Tr/{name_of(subject, modality)}.nii.gz"
            entries.append(entry)
    pairs = [{"fixed": image_of(2, n), "moving": image_of(2, 0)} for n in (1, 2)]
    content = {"training": entries, "pairings": "paired", "registration_direction": {"fixed": 1, "moving": 0}}
    dataset = read_dataset(write_manifest(tmp_path, content | {"registration_val": pairs}))
    assert not dataset.missing
    assert [pair.key for pair in dataset.pairs("training")] == ["0001_0001<--0001_0000"]
    fixed, moving = dataset.pairs("val")[1].points("keypoints")
    assert fixed == tmp_path / "keypoints02Tr/Task_0002_0002.csv"
    assert moving == tmp_path / "keypoints02Tr/Task_0002_0000.csv"
    assert dataset.pairs("val")[1].points("landmarks") == (None, None)


def test_a_training_list_may_repeat_validation_pairs(tmp_path: Path):
    pairs = [{"fixed": image_of(n), "moving": image_of(n + 1)} for n in (1, 3)]
    dataset = read_dataset(make_learn2reg(tmp_path, training_paired_images=pairs))
    assert [pair.key for pair in dataset.pairs("training")] == ["0001_0000<--0002_0000"]


def test_files_not_named_are_found_beside_and_named_ones_are_missed(tmp_path: Path):
    path = make_learn2reg(
        tmp_path, training=[{"image": image_of(1)}, {"image": image_of(2), "label": "./labelsTr/x.nii.gz"}]
    )
    write_points(tmp_path / f"landmarksTr/{name_of(1)}.csv")
    (tmp_path / image_of(2)).unlink()
    dataset = read_dataset(path)
    first, second = dataset.cases[:2]
    assert first.label == tmp_path / f"labelsTr/{name_of(1)}.nii.gz"
    assert first.landmarks == tmp_path / f"landmarksTr/{name_of(1)}.csv"
    assert second.label is None
    assert [(key, kind) for key, kind, _ in dataset.missing] == [("0002_0000", "image"), ("0002_0000", "label")]


def test_scans_may_be_listed_per_modality_and_as_paths(tmp_path: Path):
    for modality in (0, 1):
        write_scan(tmp_path / image_of(1, modality))
    content = {"training": {"0": [image_of(1, 0)], "1": [image_of(1, 1)]}, "test": [image_of(9, 0, "Ts")]}
    dataset = read_dataset(write_manifest(tmp_path, content))
    assert [(case.key, case.split) for case in dataset.cases] == [
        ("0001_0000", "training"),
        ("0001_0001", "training"),
        ("0009_0000", "test"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x"}, "lists no scans"),
        ({"training": "imagesTr"}, "training is str"),
        ({"training": [{"label": "a"}]}, "has no image"),
        ({"training": [image_of(1), image_of(1)]}, "listed twice"),
        ({"training": [{"image": 3}]}, "in place of a path"),
        ({"training": [], "registration_val": [{"fixed": "a"}]}, "lacks fixed and moving"),
        ({"training": [], "pairings": "both"}, "pairings is 'both'"),
        ({"training": [], "labels": {"liver": "1"}}, "labels must be like"),
        ({"training": [], "registration_direction": {"fixed": "CT", "moving": 0}}, "no number below 10000"),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(tmp_path: Path, content: dict, message: str):
    with pytest.raises(UserError, match=message):
        read_dataset(write_manifest(tmp_path, content))


def test_a_folder_needs_exactly_one_manifest(tmp_path: Path):
    with pytest.raises(UserError, match="0 files"):
        read_dataset(tmp_path)
    make_learn2reg(tmp_path)
    shutil.copy(tmp_path / "Task_dataset.json", tmp_path / "Other_dataset.json")
    with pytest.raises(UserError, match="2 files"):
        read_dataset(tmp_path)
    (tmp_path / "Other_dataset.json").write_text('{"training": [')
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_dataset(tmp_path / "Other_dataset.json")
    with pytest.raises(UserError, match="no such file"):
        read_dataset(tmp_path / "absent")
