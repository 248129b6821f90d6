"""The default method on a phantom whose true deformation is known, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from anamorph.cli.main import app


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    result = CliRunner().invoke(app, ["demo", "--size", "64", "--seed", "3", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert f"report: {out / 'report.html'}" in result.stdout
    return out


def record(demo: Path) -> dict:
    return json.loads((demo / "result.json").read_text())


def test_true_error_is_small(demo: Path):
    errors = record(demo)["true_error_mm"]
    assert errors["before"]["mean"] > 10
    assert errors["after"]["mean"] < 0.35 * errors["before"]["mean"]
    assert errors["after"]["mean"] < errors["after"]["p95"] < errors["after"]["max"]


def test_numbers_of_the_pair(demo: Path):
    metrics = record(demo)["metrics"]
    assert metrics["after"]["mean_tre_mm"] < 0.35 * metrics["before"]["mean_tre_mm"]
    assert metrics["after"]["mean_dice"] > metrics["before"]["mean_dice"] + 0.2
    assert metrics["jacobian"]["folding_percent"] < 0.1
    assert metrics["inverse_consistency_mm"]["mean"] < 0.5
    assert record(demo)["status"] in ("PASS", "WARN")


def test_written_numbers_follow_from_the_written_inputs(demo: Path):
    inputs = demo / "inputs"
    fixed_labels, warped_labels = (
        np.asarray(nibabel.load(path).dataobj)
        for path in (inputs / "fixed_labels.nii.gz", demo / "warped_labels.nii.gz")
    )
    for label, value in record(demo)["metrics"]["after"]["dice"].items():
        ours, theirs = fixed_labels == int(label), warped_labels == int(label)
        assert value == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()), abs=1e-6)


def test_simpleitk_resamples_with_the_field_to_the_warped_scan(demo: Path):
    fixed, moving = (sitk.ReadImage(str(demo / "inputs" / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    field = sitk.ReadImage(str(demo / "fixed_to_moving.nii.gz"), sitk.sitkVectorFloat64)
    theirs = sitk.Resample(moving, fixed, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, -1024.0)
    ours = sitk.ReadImage(str(demo / "warped.nii.gz"))
    difference = np.abs(sitk.GetArrayFromImage(theirs).astype(int) - sitk.GetArrayFromImage(ours))
    # Single precision decides otherwise only on the outer rim of the moving scan.
    assert (difference > 1).mean() < 1e-3


def test_both_directions_undo_each_other_in_simpleitk(demo: Path):
    transforms = [
        sitk.DisplacementFieldTransform(sitk.ReadImage(str(demo / name), sitk.sitkVectorFloat64))
        for name in ("fixed_to_moving.nii.gz", "moving_to_fixed.nii.gz")
    ]
    for point in np.random.default_rng(0).uniform(-60, 60, (20, 3)):
        there = transforms[0].TransformPoint(point)
        np.testing.assert_allclose(transforms[1].TransformPoint(there), point, atol=2)


def test_registering_the_written_inputs_gives_the_same_result(demo: Path, tmp_path: Path):
    arguments = [
        "register",
        demo / "inputs" / "fixed.nii.gz",
        demo / "inputs" / "moving.nii.gz",
        "-o",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(app, [*map(str, arguments), "--quiet"])
    assert result.exit_code == 0, result.output
    again = json.loads((tmp_path / "out" / "result.json").read_text())["provenance"]
    before = record(demo)["provenance"]
    assert again["settings"] == before["settings"]
    assert again["inputs"]["moving"]["sha256"] == before["inputs"]["moving"]["sha256"]
    fields = [nibabel.load(folder / "fixed_to_moving.nii.gz").get_fdata() for folder in (demo, tmp_path / "out")]
    np.testing.assert_allclose(fields[0], fields[1], atol=1e-3)
