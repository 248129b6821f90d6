"""Whole evaluations: every form of a prediction, what is missing or damaged, and the numbers of both kinds."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

import learn2reg_reference as reference
from anamorph.data import Dataset, Pair, read_dataset
from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation, evaluate_dataset
from anamorph.evaluation.predictions import IN_RESULT_FOLDER
from anamorph.image.read import read_grid
from anamorph.registration import folder as outputs
from anamorph.transforms import Displacement, Transform
from anamorph.transforms.files import write_transform
from arrays import smooth_vectors
from small_cohort import SHAPE, SPACING_MM, write_cohort

LABELS = range(1, 4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_cohort(tmp_path_factory.mktemp("cohort")))


def true_shift(pair: Pair) -> Transform:
    """Scan n lies ``6 n`` mm along every axis: the map that brings two scans together."""
    grid = read_grid(pair.fixed.image)
    steps = int(pair.moving.subject) - int(pair.fixed.subject)
    return Displacement(np.stack([np.full(grid.shape, 6 * steps / s, np.float32) for s in SPACING_MM]), grid)


def write_shifts(dataset: Dataset, folder: Path, kind: str = "learn2reg", suffix: str = ".nii.gz", name: str = "long"):
    folder.mkdir(exist_ok=True)
    for pair in dataset.pairs("val"):
        path = folder / f"{pair.disp_names[name]}{suffix}"
        write_transform(true_shift(pair), path, kind, read_grid(pair.fixed.image), read_grid(pair.moving.image))
    return folder


def write_random(dataset: Dataset, folder: Path, pair: Pair, seed: int) -> np.ndarray:
    disp = smooth_vectors(SHAPE, 4, seed=seed)
    folder.mkdir(exist_ok=True)
    grid = read_grid(pair.fixed.image)
    write_transform(Displacement(disp, grid), folder / f"{pair.disp_names['long']}.nii.gz", "learn2reg", grid)
    return disp


def means(evaluation: Evaluation, name: str) -> list[float]:
    return [({**case.compatible, **case.correct})[name]["mean"] for case in evaluation.cases]


FORMS = [
    ("learn2reg", ".nii.gz", "long"),
    ("learn2reg", ".nii.gz", "short"),
    ("learn2reg-npz", ".npz", "short"),
    ("learn2reg-2020-npz", ".npz", "short"),
    ("itk", ".nii.gz", "long"),
    ("itk-h5", ".h5", "long"),
]


@pytest.mark.parametrize(("kind", "suffix", "name"), FORMS)
def test_every_form_of_a_field_gives_the_same_numbers(dataset, tmp_path, kind, suffix, name):
    found = evaluate_dataset(dataset, write_shifts(dataset, tmp_path / "p", kind, suffix, name))
    assert not found.errors
    atol = 2e-3 if "2020" in kind else 1e-4  # float16
    np.testing.assert_allclose(means(found, "TRE_lm"), 0, atol=20 * atol)
    np.testing.assert_allclose(means(found, "tre_mm_landmarks"), 0, atol=20 * atol)
    np.testing.assert_allclose(means(found, "LogJacDetStd"), 0, atol=atol)
    assert min(means(found, "DSC")) > 0.6 > 0.1 > max(c.baseline.compatible["DSC"]["mean"] for c in found.cases)


def test_output_folders_of_register_and_their_reports(dataset, tmp_path):
    assert {outputs.FIXED_TO_MOVING, outputs.FIXED_TO_MOVING_COMPOSITE} == set(IN_RESULT_FOLDER)
    for pair in dataset.pairs("val"):
        folder = tmp_path / pair.disp_names["long"]
        folder.mkdir()
        write_transform(true_shift(pair), folder / outputs.FIXED_TO_MOVING, "itk", read_grid(pair.fixed.image))
        (folder / outputs.REPORT).write_text("report")
    found = evaluate_dataset(dataset, tmp_path)
    np.testing.assert_allclose(means(found, "tre_mm_landmarks"), 0, atol=1e-4)
    assert found.cases[0].report == tmp_path / dataset.pairs("val")[0].disp_names["long"] / outputs.REPORT


def test_an_archive_with_a_folder_per_task(dataset, tmp_path):
    folder = write_shifts(dataset, tmp_path / "p", "learn2reg-2020-npz", ".npz", "short")
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"task_03/{path.name}")
    found = evaluate_dataset(dataset, tmp_path / "sent.zip")
    assert not found.errors
    assert found.method == "sent"


def test_a_damaged_archive(dataset, tmp_path):
    path = tmp_path / "sent.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("disp_0001_0002.npz", np.random.default_rng(0).bytes(20000))
    content = bytearray(path.read_bytes())
    content[1000:1200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged archive"):
        evaluate_dataset(dataset, path)


def test_compatible_numbers_are_those_of_the_evaluator(dataset, tmp_path):
    pairs = dataset.pairs("val")
    fields = [write_random(dataset, tmp_path / "p", pair, seed) for seed, pair in enumerate(pairs)]
    found = evaluate_dataset(dataset, tmp_path / "p")
    for case, pair, disp in zip(found.cases, pairs, fields, strict=True):
        fixed, moving = (nibabel.load(one.label).get_fdata() for one in (pair.fixed, pair.moving))
        points = [np.loadtxt(one.landmarks, delimiter=",") for one in (pair.fixed, pair.moving)]
        spacing = np.array(nibabel.load(pair.moving.image).header.get_zooms()[:3])
        warped = reference.warped(moving, disp)
        expected = {
            "DSC": reference.dice(fixed, moving, warped, LABELS),
            "HD95": reference.hd95(fixed, moving, warped, LABELS),
            "TRE_lm": reference.tre(*points, disp, spacing),
            "LogJacDetStd": reference.sdlogj(disp),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(case.compatible[name]["detailed"], values, rtol=0, atol=1e-6)
            np.testing.assert_allclose(case.compatible[name]["mean"], np.nanmean(values), rtol=0, atol=1e-6)
        before = reference.dice(fixed, moving, moving, LABELS)
        np.testing.assert_allclose(case.baseline.compatible["DSC"]["detailed"], before, rtol=0, atol=1e-12)
    dice = means(found, "DSC")
    assert found.compatible_aggregates()["DSC"] == pytest.approx(
        {"mean": np.mean(dice), "std": np.std(dice), "30": np.quantile(dice, 0.3)}
    )
    assert found.correct_aggregates()["hd95_mm"]["30"] == pytest.approx(np.quantile(means(found, "hd95_mm"), 0.7))


def test_identity_is_the_baseline_and_measures_zero_deformation(dataset, tmp_path):
    found = evaluate_dataset(dataset, write_shifts(dataset, tmp_path / "p"))
    baseline = found.compatible_aggregates(baseline=True)
    assert baseline["LogJacDetStd"]["mean"] == pytest.approx(0, abs=1e-7)
    expected = [6 * np.sqrt(3) * n for n in (1, 2, 1)]
    np.testing.assert_allclose([c.baseline.compatible["TRE_lm"]["mean"] for c in found.cases], expected)
    np.testing.assert_allclose([c.baseline.correct["tre_mm_landmarks"]["mean"] for c in found.cases], expected)


def test_distances_are_in_voxels_and_in_millimetres_under_their_own_names(dataset, tmp_path):
    """A shift of one voxel of 4 mm along k."""
    pair = dataset.pairs("val")[0]
    grid = read_grid(pair.fixed.image)
    truth = true_shift(pair).disp_vox.copy()
    for folder, extra in (("exact", 0.0), ("off", 1.0)):
        (tmp_path / folder).mkdir()
        field = np.round(truth)
        field[2] += extra
        path = tmp_path / folder / f"{pair.disp_names['long']}.nii.gz"
        write_transform(Displacement(field, grid), path, "learn2reg", grid)
    exact, off = (evaluate_dataset(dataset, tmp_path / folder).cases[0] for folder in ("exact", "off"))
    moved = np.array(off.correct["tre_mm_landmarks"]["detailed"]) ** 2
    assert np.sqrt(moved.mean()) > np.sqrt(np.square(exact.correct["tre_mm_landmarks"]["detailed"]).mean())
    assert off.compatible["HD95"]["mean"] < off.correct["hd95_mm"]["mean"]


def test_a_fold_is_counted_by_the_correct_numbers_alone(dataset, tmp_path):
    pair = dataset.pairs("val")[0]
    grid = read_grid(pair.fixed.image)
    field = np.zeros((3, *SHAPE), np.float32)
    field[0, 10:12] = [[[4.0]], [[-4.0]]]
    write_transform(Displacement(field, grid), tmp_path / f"{pair.disp_names['long']}.nii.gz", "learn2reg", grid)
    case = evaluate_dataset(dataset, tmp_path).cases[0]
    determinants = np.linalg.det(np.eye(3) + np.stack(np.gradient(field, axis=(1, 2, 3)), 1).transpose(2, 3, 4, 0, 1))
    folded = 100 * (determinants <= 0).mean()
    assert folded > 1
    assert case.correct["folding_percent"]["mean"] == pytest.approx(folded)
    assert case.correct["non_diffeomorphic_volume_percent"]["mean"] > 1
    assert case.compatible["num_foldings"]["mean"] == 0
    assert case.verdict == "FAIL"
    assert "folds" in case.reasons[0]


def damage(kind: str, path: Path) -> None:
    image = nibabel.load(path)
    values = image.get_fdata(dtype=np.float32)
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "not a number":
        values[3, 4, 5, 1] = np.nan
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    elif kind == "of another shape":
        nibabel.save(nibabel.Nifti1Image(values[1:], image.affine), path)
    elif kind == "no field":
        nibabel.save(nibabel.Nifti1Image(values[..., 0], image.affine), path)
    else:
        path.unlink()
        np.savez(path.with_name(path.name.replace(".nii.gz", ".npz")), a=values, b=values)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no field disp_0001_0000_0003_0000"),
        ("truncated", "is it complete"),
        ("not a number", "not finite"),
        ("of another shape", "does not fit"),
        ("no field", "no displacement field"),
        ("two arrays", "expected one array"),
    ],
)
def test_a_missing_or_damaged_field_is_an_error_of_its_pair(dataset, tmp_path, kind, words):
    folder = write_shifts(dataset, tmp_path / "p")
    damage(kind, folder / "disp_0001_0000_0003_0000.nii.gz")
    found = evaluate_dataset(dataset, folder)
    assert [case.scores is not None for case in found.cases] == [True, False, True]
    assert list(found.errors) == ["0001_0000<--0003_0000"]
    assert words in found.errors["0001_0000<--0003_0000"]
    assert found.cases[1].baseline is not None
    assert found.correct_aggregates()["dice"]["n"] == 2
    both = [found.cases[n].baseline.correct["dice"]["mean"] for n in (0, 2)]
    assert found.correct_aggregates(baseline=True)["dice"]["mean"] == pytest.approx(np.mean(both))


def test_labels_that_are_absent_or_vanish(dataset, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(dataset.root, root)
    path = root / "labelsTr" / "AbdomenCTCT_0002_0000.nii.gz"
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 2] = 0
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)
    changed = read_dataset(root)
    folder = write_shifts(changed, tmp_path / "p")
    grid = read_grid(changed.pairs("val")[0].fixed.image)
    away = Displacement(np.full((3, *SHAPE), 100, np.float32), grid)
    write_transform(away, folder / "disp_0001_0000_0003_0000.nii.gz", "learn2reg", grid)
    found = evaluate_dataset(changed, folder)
    absent, vanished, _ = found.cases
    assert np.isnan(absent.compatible["DSC"]["detailed"]).tolist() == [False, True, False]
    assert set(absent.correct["dice"]["detailed"]) == {1, 3}
    assert vanished.compatible["DSC"]["detailed"] == [0, 0, 0]
    assert vanished.compatible["HD95"]["mean"] == np.inf
    assert vanished.correct["hd95_mm"]["mean"] == pytest.approx(np.linalg.norm(np.multiply(SHAPE, SPACING_MM)))
    assert any("vanish" in reason for reason in vanished.reasons)
    assert vanished.correct["outside_percent"]["mean"] == 100


def test_short_names_that_would_fit_two_pairs_are_not_taken(tmp_path):
    root = write_cohort(tmp_path / "c", count=2).parent
    for folder in ("imagesTr", "labelsTr", "landmarksTr"):
        for path in list((root / folder).iterdir()):
            shutil.copy(path, path.with_name(path.name.replace("_0000.", "_0001.")))
    content = json.loads((root / "AbdomenCTCT_dataset.json").read_text())
    content["registration_val"].append(
        {role: path.replace("_0000.", "_0001.") for role, path in content["registration_val"][0].items()}
    )
    (root / "AbdomenCTCT_dataset.json").write_text(json.dumps(content))
    dataset = read_dataset(root)
    folder = write_shifts(dataset, tmp_path / "p", name="short")
    assert len(evaluate_dataset(dataset, folder).errors) == 2
    write_shifts(dataset, folder, name="long")
    assert not evaluate_dataset(dataset, folder).errors


def test_two_fields_of_one_name(dataset, tmp_path):
    for name in ("a", "b"):
        write_shifts(dataset, tmp_path / name)
    errors = evaluate_dataset(dataset, tmp_path).errors
    assert len(errors) == 3
    assert all("two fields" in reason for reason in errors.values())


def test_scans_of_different_shapes_are_compared_in_the_world(dataset, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(dataset.root, root)
    for folder in ("imagesTr", "labelsTr"):
        path = root / folder / "AbdomenCTCT_0002_0000.nii.gz"
        image = nibabel.load(path)
        nibabel.save(image.slicer[2:, 1:, :-1], path)
    (root / "landmarksTr" / "AbdomenCTCT_0002_0000.csv").write_text(
        "\n".join(
            ",".join(map(str, row))
            for row in np.loadtxt(dataset.root / "landmarksTr" / "AbdomenCTCT_0002_0000.csv", delimiter=",") - [2, 1, 0]
        )
    )
    changed = read_dataset(root)
    found = evaluate_dataset(changed, write_shifts_itk(changed, tmp_path / "p"))
    assert not found.errors
    np.testing.assert_allclose(means(found, "TRE_lm"), 0, atol=1e-3)
    np.testing.assert_allclose(means(found, "tre_mm_landmarks"), 0, atol=1e-3)
    assert found.cases[0].baseline.correct["tre_mm_landmarks"]["mean"] == pytest.approx(6 * np.sqrt(3))


def write_shifts_itk(dataset: Dataset, folder: Path) -> Path:
    return write_shifts(dataset, folder, "itk")


def test_no_predictions_at_all(dataset, tmp_path):
    with pytest.raises(UserError, match="no folder and no"):
        evaluate_dataset(dataset, tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no split"):
        evaluate_dataset(dataset, tmp_path, split="validation")  # type: ignore[arg-type]
