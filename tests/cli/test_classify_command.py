"""`anamorph classify` from files to the page: what is read, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.classification import (
    FeatureSettings,
    Plan,
    classify,
    find_fields,
    find_results,
    read_cohort,
    read_label_table,
)
from anamorph.classification.features import Residual, affine_apart, common_grid
from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.read import read_grid
from anamorph.report.classification import render
from anamorph.transforms import Affine, Composite, Displacement
from anamorph.transforms.affine import closest_affine
from anamorph.transforms.files import write_transform
from html_page import Page
from planted_cohort import GRID, SHAPE, smooth_noise, swelling, write_planted
from small_cohort import write_cohort

pytest.importorskip("sklearn")
PATIENTS = 12


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs` and `labels.csv`."""
    root = tmp_path_factory.mktemp("planted")
    write_planted(root, PATIENTS, composite=True)
    return root


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["classify", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def table_in(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def cohort_of(planted: Path, affine: str = "auto"):
    table = read_label_table(planted / "labels.csv")
    return read_cohort(find_results(planted / "runs", table), FeatureSettings(affine, 20))


def test_the_command_finds_the_effect_and_writes_everything(planted, tmp_path):
    out = tmp_path / "out"
    options = ("--folds", 3, "--repeats", 1, "--permutations", 9, "--epochs", 8, "--cells", 20)
    code, printed, news = run(planted / "runs", "--labels", planted / "labels.csv", "-o", out, *options)
    assert code == 0, news
    assert "ill (6) against healthy (6)" in printed
    assert "Few patients: 6 ill and 6 healthy" in news
    assert "fitting summaries, model 1 of 33" in news, "3 folds, once, and of 10 permutations"
    assert "fitting field, model" in news
    assert "fitting cnn, model" in news
    told = json.loads((out / "classification.json").read_text())
    assert told["features"]["affine"] == "apart"
    assert told["features"]["common_grid"]["by_labels"] is True
    assert list(told["models"]) == ["summaries", "field", "cnn"]
    assert told["models"]["field"]["auc"]["value"] > 0.9
    assert told["models"]["field"]["permutation"]["p_value"] == 0.1
    assert told["models"]["cnn"]["permutation"] is None
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert [row["subject"] for row in rows] == [f"P{n:03d}" for n in range(PATIENTS)]
    said = [float(row["probability_ill_field"]) > 0.5 for row in rows]
    right = sum(predicted == (row["label"] == "ill") for predicted, row in zip(said, rows, strict=True))
    assert right / PATIENTS == told["models"]["field"]["accuracy"]["value"]
    numbers = list(csv.DictReader((out / "summaries.csv").open()))
    grown = {
        label: np.mean([float(row["log_jacobian_label_1_mean"]) for row in numbers if row["label"] == label])
        for label in ("ill", "healthy")
    }
    assert grown["ill"] - grown["healthy"] > 0.3
    page = Page((out / "report.html").read_text())
    assert "Does the deformation tell ill from healthy?" in page.text
    assert page.tags.count("path") == 3 * 3  # a curve for each model, the others behind it
    assert f"{told['models']['field']['auc']['value']:.3f}" in page.text


def test_affine_parts_are_taken_away_whether_apart_or_not(planted):
    apart, fitted, kept = (cohort_of(planted, way) for way in ("apart", "fitted", "keep"))
    assert cohort_of(planted).affine == "apart"
    moved = [np.linalg.norm(one.rows.features.fields.mean(axis=(2, 3, 4)), axis=1) for one in (apart, fitted, kept)]
    assert moved[0].max() < 2
    assert moved[1].max() < 2
    np.testing.assert_allclose(moved[2], 1.5 * np.arange(PATIENTS), atol=2)


def test_residual_of_both_orders_of_affine_and_field():
    field = Displacement.from_world(smooth_noise(np.random.default_rng(0)) + swelling(5.0), GRID)
    affine = Affine(np.array([[1.1, 0.1, 0, 5], [-0.1, 0.9, 0, -3], [0, 0, 1.2, 2], [0, 0, 0, 1.0]]))
    points = GRID.voxel_to_world(np.array([[5.0, 6, 4], [10, 10, 5]]))
    last = Composite.of(field, affine)
    np.testing.assert_allclose(
        Residual(last, affine_apart(last)).at(points), field.map_world(points) - points, atol=1e-9
    )
    first = Composite.of(affine, field)
    expected = affine.inverse().map_world(field.map_world(affine.map_world(points))) - points
    np.testing.assert_allclose(Residual(first, affine_apart(first)).at(points), expected, atol=1e-9)
    assert affine_apart(field) is None
    determinant = Residual(last, affine).on(GRID).jacobian_determinant()
    np.testing.assert_allclose(determinant, field.jacobian_determinant(), atol=1e-3)


def test_a_fitted_affine_is_the_affine_there_is():
    affine = Affine(np.array([[1.1, 0.1, 0, 5], [-0.1, 0.9, 0, -3], [0, 0, 1.2, 2], [0, 0, 0, 1.0]]))
    np.testing.assert_allclose(closest_affine(affine.displacement_on(GRID), GRID).matrix, affine.matrix, atol=1e-4)
    flat = Grid((20, 20, 1), GRID.affine)
    across = Affine(np.array([[1.1, 0.1, 0, 5], [-0.1, 0.9, 0, -3], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    np.testing.assert_allclose(closest_affine(across.displacement_on(flat), flat).matrix, across.matrix, atol=1e-4)


def test_the_common_grid_has_the_axes_of_the_world():
    """A scan stored in another order of axes gives the same numbers."""
    vectors = swelling(5.0)
    turned = Grid((SHAPE[2], SHAPE[0], SHAPE[1]), GRID.affine @ np.eye(4)[[1, 2, 0, 3]])
    np.testing.assert_allclose(turned.voxel_to_world([3, 1, 2]), GRID.voxel_to_world([1, 2, 3]))
    common = common_grid([GRID, turned], 20, None, by_labels=False)
    assert common.shape == (20, 20, 20)
    assert common.spacing_mm == 2.0
    same = Displacement.from_world(np.moveaxis(vectors, 3, 1), turned)
    a, b = (
        Residual(one, Affine.identity()).at(common.points_on(one.grid, None))
        for one in (Displacement.from_world(vectors, GRID), same)
    )
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert np.linalg.norm(a, axis=1).max() > 4


def test_several_registrations_of_a_patient_stay_together(planted, tmp_path):
    shutil.copytree(planted / "runs", tmp_path / "runs")
    lines = [f"P{n:03d},{'ill' if n % 2 else 'healthy'},P{n:03d}" for n in range(PATIENTS)]
    for n in range(4):
        shutil.copytree(planted / "runs" / f"P{n:03d}", tmp_path / "runs" / f"again-{n}")
        lines.append(f"P{n:03d},{'ill' if n % 2 else 'healthy'},again-{n}")
    table = read_label_table(table_in(tmp_path, "subject,label,registration", *lines))
    cohort = read_cohort(find_results(tmp_path / "runs", table), FeatureSettings(cells=20))
    outcome = classify(cohort, ("healthy", "ill"), Plan(("summaries",), folds=3, repeats=1, permutations=0))
    assert len(cohort.names) == PATIENTS + 4
    assert len(outcome.patients) == PATIENTS


def test_two_patients_do_not_share_a_registration(planted, tmp_path):
    lines = ("P000,a,P000", "P001,b,./P000")
    with pytest.raises(UserError, match="P000 is listed twice"):
        find_results(planted / "runs", read_label_table(table_in(tmp_path, "subject,label,registration", *lines)))


def test_fields_of_a_data_set_belong_to_the_listed_patient(tmp_path):
    dataset = read_dataset(write_cohort(tmp_path / "data", count=4))
    folder = tmp_path / "fields"
    folder.mkdir()
    for pair in dataset.pairs("val"):
        write_transform(
            Affine.identity(), folder / f"{pair.disp_names['long']}.nii.gz", "learn2reg", read_grid(pair.fixed.image)
        )
    table = read_label_table(table_in(tmp_path, "subject,label", "0002,a", "0003,b"))
    with pytest.raises(UserError, match="is of two patients"):
        find_fields(folder, table, dataset, "val")
    table = read_label_table(table_in(tmp_path, "subject,label", "0002,a", "0009,b"))
    with pytest.raises(UserError, match="no pair of 0009"):
        find_fields(folder, table, dataset, "val")


def test_a_field_of_learn2reg_gives_what_the_transform_gives(tmp_path):
    path = write_cohort(tmp_path / "data", count=3)
    content = json.loads(path.read_text())
    template = content["training"][0]["image"]
    content["registration_val"] = [{"fixed": template, "moving": entry["image"]} for entry in content["training"][1:]]
    path.write_text(json.dumps(content))
    dataset = read_dataset(path)
    table = read_label_table(table_in(tmp_path, "subject,label", "0002,a", "0003,b"))
    cohorts = []
    for kind, suffix in (("learn2reg", ".nii.gz"), ("itk-h5", ".h5")):
        folder = tmp_path / kind
        folder.mkdir()
        for pair in dataset.pairs("val"):
            grid = read_grid(pair.fixed.image)
            vectors = np.stack([np.sin(np.indices(grid.shape)[n] / 4) for n in range(3)]) * 3
            name = folder / f"{pair.disp_names['long']}{suffix}"
            write_transform(Displacement.from_world(vectors, grid), name, kind, grid)
        found = find_fields(folder, table, dataset, "val")
        assert [one.patient for one in found] == ["0002", "0003"]
        cohorts.append(read_cohort(found, FeatureSettings("keep", 20)))
    first, second = (one.rows.features for one in cohorts)
    np.testing.assert_allclose(first.fields, second.fields, atol=1e-3)
    assert cohorts[0].summary_names[-1] == "log_jacobian_label_3_p95"
    assert np.abs(first.fields).max() > 2


def test_the_page_escapes_hostile_names(planted):
    cohort = cohort_of(planted)
    names = np.array([f"<script>alert({n})</script>" for n in range(PATIENTS)])
    rows = type(cohort.rows)(cohort.rows.features, names, cohort.rows.positive)
    hostile = type(cohort)(rows, cohort.names, cohort.summary_names, cohort.grid, cohort.affine, ("<img src=x>",))
    words = ('"><b onmouseover=alert(1)>', "</style><script>")
    text = render(classify(hostile, words, Plan(("summaries",), 3, 1, 0)))
    page = Page(text)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "<script>alert(3)</script>" in page.text
    assert "default-src 'none'" in text
    assert "base-uri 'none'; form-action 'none'" in text


def test_an_absent_effect_is_said_to_be_absent(tmp_path):
    write_planted(tmp_path, PATIENTS, size_mm=0.0)
    outcome = classify(cohort_of(tmp_path), ("healthy", "ill"), Plan(("field",), 3, 1, 0))
    assert any("no effect is shown" in warning for warning in outcome.warnings)
    assert "no effect is shown" in Page(render(outcome)).text


def test_unequal_groups_are_told_of(planted, tmp_path):
    lines = [f"P{n:03d},{'rare' if n in (1, 5) else 'usual'}" for n in range(PATIENTS)]
    table = read_label_table(table_in(tmp_path, "subject,label", *lines))
    cohort = read_cohort(find_results(planted / "runs", table), FeatureSettings(cells=20))
    outcome = classify(cohort, ("usual", "rare"), Plan(("summaries",), 2, 1, 0))
    assert any("always saying the same would be right in 83%" in warning for warning in outcome.warnings)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["subject,label", "P000,a", "P001,b", "Q,a"], (), "no registration of Q;"),
        (["subject,label", "P000,a", "P001,a"], (), "two values, but here are 1 ('a')"),
        (["subject,label", "P000,a", "P001,b", "P002,c"], (), "two values, but here are 3"),
        (["subject,label", "P000,a", "P000,b"], (), "P000 has both labels"),
        (["subject,label", "P000,a", "P000,a", "P001,b"], (), "P000 is listed twice"),
        (["subject,group", "P000,a", "P001,b"], (), "no column label"),
        (["subject,label", "P000,", "P001,b"], (), "line 2: no label"),
        (["subject,label", "P000,a", "P001,b"], ("--positive", "c"), "no label is 'c'"),
        (["subject,label", *(f"P00{n},{'ab'[n % 2]}" for n in range(8))], (), "rarer label has 4"),
        (["subject,label", "P000,a", "P001,b"], ("--model", "forest"), "no model 'forest'"),
        (["subject,label", "P000,a", "P001,b"], ("--cells", 3), "--cells 3"),
        (["subject,label", "P000,a", "P001,b"], ("--affine", "some"), "--affine must be"),
        (["subject,label", "P000,a", "P001,b"], ("--box", -1), "--box -1"),
        (["subject,label", "P000,a", "P001,b"], ("--repeats", 0), "--repeats 0"),
        (["subject,label", "P000,a", "P001,b"], ("--rate", 0), "--rate 0"),
        (["subject,label", "P000,a", "P001,b"], ("--device", "tpu"), "no device 'tpu'"),
    ],
)
def test_bad_input_is_refused_in_one_line(planted, tmp_path, lines, options, message):
    out = tmp_path / "out"
    code, _, news = run(planted / "runs", "--labels", table_in(tmp_path, *lines), "-o", out, *options, "-q")
    assert code == 2
    assert message in news
    assert len(news.strip().splitlines()) == 1
    assert not out.exists()


def test_damaged_registrations_are_named(tmp_path):
    table = write_planted(tmp_path, 10)
    broken = tmp_path / "runs" / "P003" / "fixed_to_moving.nii.gz"
    image = nibabel.load(broken)
    values = np.asarray(image.dataobj).copy()
    values[4, 4, 4] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), broken)
    code, _, news = run(tmp_path / "runs", "--labels", table, "-o", tmp_path / "out", "-q")
    assert code == 2
    assert "P003" in news
    assert "not finite" in news
    with pytest.raises(UserError, match="no affine part of their own"):
        read_cohort(find_results(tmp_path / "runs", read_label_table(table))[:3], FeatureSettings("apart"))


def test_labels_of_another_grid_are_refused(planted, tmp_path):
    table = table_in(
        tmp_path,
        "subject,label,fixed_labels",
        *(f"P{n:03d},{'ab'[n % 2]},{planted}/runs/P000/warped.nii.gz" for n in range(10)),
    )
    code, _, news = run(planted / "runs", "--labels", table, "-o", tmp_path / "out", "-q")
    assert code == 2
    assert "whole numbers" in news
