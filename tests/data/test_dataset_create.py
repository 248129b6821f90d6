from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anamorph.data import read_dataset
from anamorph.data.check import check_dataset
from anamorph.data.create import Recipe, create_dataset, plan_dataset
from anamorph.data.dataset import split_subjects, thin_pairs
from anamorph.data.scans import find_owners, find_scans
from anamorph.errors import UserError
from anamorph.image.read import read_image
from small_dataset import AFFINE, write_labels, write_points, write_scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten patients, numbered with gaps."""
    for n in range(10):
        write_scan(tmp_path / f"in/images/pt_{3 * n + 1}.nii.gz", n)
        write_labels(tmp_path / f"in/labels/pt_{3 * n + 1}.nii.gz", 1 + n % 2)
    return tmp_path / "in"


@pytest.fixture
def beats(tmp_path: Path) -> Path:
    """Six hearts at two times."""
    for name in "abcdef":
        for time in ("ED", "ES"):
            write_scan(tmp_path / f"beats/images/{name}-1_{time}.nii.gz")
            write_labels(tmp_path / f"beats/labels/{name}-1_{time}.nii.gz")
    return tmp_path / "beats"


def test_a_split_is_the_same_for_the_same_seed_whatever_the_order():
    names = [f"p{n}" for n in range(50)]
    first = split_subjects(names, 0.2, 0.1, seed=3)
    assert first == split_subjects(names[::-1], 0.2, 0.1, seed=3)
    assert first != split_subjects(names, 0.2, 0.1, seed=4)
    assert sorted(first.values()) == ["test"] * 5 + ["training"] * 35 + ["validation"] * 10


def test_a_split_that_could_hold_no_pair_is_refused():
    assert list(split_subjects("abcdef", 0.1, 0, fewest=2).values()).count("validation") == 2
    with pytest.raises(UserError, match="3 patients are too few for 2 in validation and 2 in test"):
        split_subjects("abc", 0.2, 0.2, fewest=2)
    with pytest.raises(UserError, match="makes no pair"):
        split_subjects("abc", 1, 0, fewest=2)
    with pytest.raises(UserError, match=r"2\.5 is neither"):
        split_subjects("abc", 2.5, 0)


def test_thinned_pairs_use_every_subject_alike(folder: Path):
    dataset = plan_dataset(find_scans(folder).scans, Recipe("T", validation=10, test=0, max_pairs=100), folder)
    pairs = dataset.pairs("val")
    assert len(pairs) == 45
    few = thin_pairs(pairs, 20, seed=1)
    assert list(few) == [pair for pair in pairs if pair in few]
    used = [case.subject for pair in few for case in (pair.fixed, pair.moving)]
    assert {used.count(subject) for subject in used} == {4}


def test_a_created_set_is_sound_linked_and_split_by_patient(folder: Path, tmp_path: Path):
    made = create_dataset(find_scans(folder).scans, Recipe("Organs"), tmp_path / "out")
    assert check_dataset(made).problems == ()
    assert {split: len(made.of_split(split)) for split in ("training", "validation", "test")} == {
        "training": 6,
        "validation": 2,
        "test": 2,
    }
    assert [len(made.pairs(split)) for split in ("training", "val", "test")] == [15, 1, 1]
    assert made.labels == {1: "label 1", 2: "label 2"}
    assert made.extra["tensorImageShape"] == {"0": [8, 9, 7]}
    assert made.extra["provided_data"] == {"0": ["image", "label"]}
    assert {case.subject for case in made.cases} == {f"{3 * n + 1:04}" for n in range(10)}
    for case in made.cases:
        source = folder / "images" / f"pt_{int(case.subject)}.nii.gz"
        assert case.image.is_symlink()
        assert case.image.resolve() == source.resolve()
        assert case.image.parent.name == ("imagesTs" if case.split == "test" else "imagesTr")
        assert case.extra["source"] == source.name


def test_copies_do_not_depend_on_the_originals(folder: Path, tmp_path: Path):
    made = create_dataset(find_scans(folder).scans, Recipe("Organs", files="copy"), tmp_path / "out")
    before = read_image(made.cases[0].image).data
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    (folder / "images" / made.cases[0].extra["source"]).unlink()
    np.testing.assert_array_equal(read_image(made.cases[0].image).data, before)


def test_references_leave_the_files_where_they_are(folder: Path):
    made = create_dataset(find_scans(folder).scans, Recipe("Organs", files="reference"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["Organs_dataset.json", "images", "labels"]
    entry = json.loads((folder / "Organs_dataset.json").read_text())["training"][0]
    assert entry["image"].startswith("./images/pt_")
    assert made.cases[0].subject == f"{int(entry['source'].split('_')[1].split('.')[0]):04}"
    assert check_dataset(made).problems == ()
    with pytest.raises(UserError, match="already exists"):
        create_dataset(find_scans(folder).scans, Recipe("Organs", files="reference"), folder)


def test_time_points_are_recognised_paired_and_kept_together(beats: Path, tmp_path: Path):
    found = find_scans(beats)
    assert found.modalities == ("ED", "ES")
    assert "took ED, ES" in found.notes[0]
    made = create_dataset(found.scans, Recipe("Beats", found.modalities, seed=2), tmp_path / "out")
    assert made.pairings == "paired"
    assert [len(made.pairs(split)) for split in ("training", "val", "test")] == [4, 1, 1]
    assert made.modalities == {"0000": "ED", "0001": "ES"}
    splits = {case.subject: {one.split for one in made.cases if one.subject == case.subject} for case in made.cases}
    assert all(len(found) == 1 for found in splits.values())
    (pair,) = made.pairs("test")
    assert (pair.fixed.modality, pair.moving.modality) == ("0000", "0001")
    assert pair.fixed.extra["source"].replace("ED", "ES") == pair.moving.extra["source"]
    assert check_dataset(made).problems == ()


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        ("x_049 x_057", 2),
        ("x-049 x-057", 2),
        ("a_001 a_002 b_001 b_002", 4),
        ("site1_0049 site1_0057", 2),
        ("h_p1 h_p2 g_p1 g_p2", 4),
        ("study_v01 study_v02", 2),
        ("x_anna x_bert", 2),
        ("x_049 x_049_t1 x_057", 2),
        ("x_049_ED x_049_ES x_057_ED x_057_ES", 2),
        ("1_v1 1_v2 2_v1", 2),
        ("p1_visit1_insp p1_visit1_exp p1_visit-2_insp p2_visit1_exp", 2),
        ("B_001_0000 B_001_0001 B_002_0000 B_002_0001", 2),
        ("sub-01_ses-1_T1w sub-01_ses-2_T1w sub-02_ses-1_T1w", 2),
        ("a_foo a_bar b_foo b_bar", 2),
    ],
)
def test_numbers_are_patients_and_only_known_names_are_time_points(names: str, patients: int):
    owners, notes = find_owners(names.split(), None, ())
    assert len({patient for patient, _ in owners.values()}) == patients
    assert len(set(owners.values())) == len(owners), "no patient has two scans of one name"
    told = any(f"{len(owners)} scans of {patients} patients, at most" in note for note in notes)
    assert told == (patients < len(owners))


def test_modalities_may_be_named_in_another_order(beats: Path):
    found = find_scans(beats, modalities=["ES", "ED"])
    dataset = plan_dataset(found.scans, Recipe("Beats", found.modalities), beats)
    assert dataset.pairs("val")[0].fixed.extra["source"].endswith("ES.nii.gz")


def test_an_expression_finds_the_patient(beats: Path):
    assert {scan.subject for scan in find_scans(beats, subject=r"^(\w)-").scans} == set("abcdef")
    assert len({scan.subject for scan in find_scans(beats, subject="(.+)").scans}) == 12
    with pytest.raises(UserError, match="finds no patient in 'a-1_ED'"):
        find_scans(beats, subject="(z)")
    with pytest.raises(UserError, match="no regular expression"):
        find_scans(beats, subject="(")


def test_patterns_tell_scans_from_masks_in_one_folder(tmp_path: Path):
    for subject in ("STS_001", "STS_002"):
        for modality in ("CT", "MR_T1"):
            write_scan(tmp_path / f"{subject}_{modality}_image.nii.gz")
            write_labels(tmp_path / f"{subject}_{modality}_mask.nii.gz")
    with pytest.raises(UserError, match="say which are scans"):
        find_scans(tmp_path)
    patterns = {"image": "*_image.nii.gz", "label": "*_mask.nii.gz"}
    scans = find_scans(tmp_path, patterns, modalities=["CT", "MR_T1"]).scans
    assert {(scan.subject, scan.modality) for scan in scans} == {
        (subject, modality) for subject in ("STS_001", "STS_002") for modality in ("CT", "MR_T1")
    }
    assert all(scan.files["label"].name == scan.name.replace("image", "mask") for scan in scans)


def test_other_formats_are_converted(tmp_path: Path):
    from anamorph.image.write import write_image

    image = read_image(write_scan(tmp_path / "x.nii.gz"))
    for name in ("baseline", "followup"):
        write_image(image, tmp_path / f"in/{name}.mha")
        (tmp_path / f"in/{name}_points.txt").write_text("index\n2\n1 2 3\n4 5 6\n")
    found = find_scans(
        tmp_path / "in",
        {"image": "*.mha", "landmarks": "*_points.txt"},
        modalities=["baseline", "followup"],
    )
    made = create_dataset(found.scans, Recipe("Lung", found.modalities, validation=1, test=0), tmp_path / "out")
    case = made.cases[0]
    assert case.image.name == "Lung_0001_0000.nii.gz"
    np.testing.assert_allclose(nibabel.load(case.image).affine, AFFINE, atol=1e-4)
    np.testing.assert_array_equal(read_image(case.image).data, image.data)
    assert np.loadtxt(case.landmarks, delimiter=",").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert check_dataset(made).errors == ()


def test_named_points_are_brought_into_one_order_and_must_be_the_same(tmp_path: Path):
    for name, header, rows in (
        ("a", "label,i,j,k", ("10,1,1,1", "9,2,2,2")),
        ("b", "label,i,j,k", ("9,3,3,3", "10,4,4,4")),
    ):
        write_scan(tmp_path / f"in/images/{name}.nii.gz")
        write_points(tmp_path / f"in/landmarks/{name}.csv").write_text("\n".join((header, *rows)) + "\n")
    recipe = Recipe("P", validation=2, test=0)
    made = create_dataset(find_scans(tmp_path / "in").scans, recipe, tmp_path / "out")
    tables = [np.loadtxt(case.landmarks, delimiter=",")[:, 0].tolist() for case in made.cases if case.landmarks]
    assert tables == [[2, 1], [3, 4]]
    (tmp_path / "in/landmarks/b.csv").write_text("label,i,j,k\n9,3,3,3\n11,4,4,4\n")
    with pytest.raises(UserError, match=r"landmarks of .* have different names"):
        create_dataset(find_scans(tmp_path / "in").scans, recipe, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_scans_without_labels_are_for_training_where_others_have_some(folder: Path):
    for n in range(6):
        (folder / f"labels/pt_{3 * n + 1}.nii.gz").unlink()
    dataset = plan_dataset(find_scans(folder).scans, Recipe("T", validation=2, test=2), folder)
    assert all(case.label is not None for case in dataset.cases if case.split != "training")
    assert len(dataset.of_split("training")) == 6


def test_what_cannot_be_made_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path):
    scans = find_scans(folder).scans
    (folder / "labels/pt_1.nii.gz").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read"):
        create_dataset(scans, Recipe("T"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    with pytest.raises(UserError, match="does not suit file names"):
        Recipe("a/b")
    with pytest.raises(UserError, match="no patient has two scans"):
        plan_dataset(scans, Recipe("T", pairings="paired"), tmp_path)
    with pytest.raises(UserError, match="'pt_1' has 2 scans"):
        plan_dataset((*scans, scans[0]), Recipe("T"), tmp_path)


def test_only_a_data_set_is_replaced(folder: Path, tmp_path: Path):
    scans = find_scans(folder).scans
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(UserError, match="is not replaced"):
        create_dataset(scans, Recipe("T"), tmp_path / "out", overwrite=True)
    create_dataset(scans, Recipe("T"), tmp_path / "new")
    create_dataset(scans, Recipe("T", seed=1), tmp_path / "new", overwrite=True)
    assert read_dataset(tmp_path / "new").extra["created"]["seed"] == 1


def test_labels_named_unlike_any_scan_are_refused(folder: Path):
    for path in (folder / "labels").iterdir():
        path.rename(path.with_name(f"seg-{path.name}"))
    with pytest.raises(UserError, match=r"none of 10 label files, such as seg-pt_1\.nii\.gz, is named like a scan"):
        find_scans(folder)
    assert "label" in find_scans(folder, {"label": "labels/seg-*.nii.gz"}).scans[0].files


def test_real_scans_become_data_sets(shared_data: Path, tmp_path: Path):
    found = find_scans(shared_data / "hippocampus")
    made = create_dataset(found.scans, Recipe("Hippocampus", labels={1: "anterior", 2: "posterior"}), tmp_path / "h")
    assert [len(made.of_split(split)) for split in ("training", "validation", "test")] == [120, 40, 40]
    assert [len(made.pairs(split)) for split in ("val", "test")] == [100, 100]
    assert check_dataset(made).errors == ()
