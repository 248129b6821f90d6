from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.write import write_image
from anamorph.methods import METHODS
from anamorph.phantom.pair import make_pair
from anamorph.transforms import Affine
from processor_time import processor_seconds

SHAPE = (20, 24, 16)
FIXED_AFFINE = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
SHIFT = np.array([6.0, -8.0, 9.0])  # RAS mm, whole voxels of the moving grid


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The same scan and labels twice, the moving one carried elsewhere by its header."""
    data = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:9, 6:12, 4:9] = 1
    labels[12:15, 14:20, 8:12] = 3
    moved = FIXED_AFFINE.copy()
    moved[:3, 3] += SHIFT
    for name, affine in (("fixed", FIXED_AFFINE), ("moving", moved)):
        nibabel.Nifti1Image(data, affine).to_filename(tmp_path / f"{name}.nii.gz")
        nibabel.Nifti1Image(labels, affine).to_filename(tmp_path / f"{name}_labels.nii.gz")
    (tmp_path / "fixed.csv").write_text("label,x_ras,y_ras,z_ras\na,0,0,0\nb,-10,5,3\n")
    (tmp_path / "moving.csv").write_text("label,x_lps,y_lps,z_lps\nb,4,3,12\na,-6,8,9\n")
    return tmp_path


@pytest.fixture
def registered(files: Path) -> Path:
    run(
        *("register", files / "fixed.nii.gz", files / "moving.nii.gz", "-o", files / "out", "--method", "stub"),
        *("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz"),
        *("--fixed-points", files / "fixed.csv", "--moving-points", files / "moving.csv", "--composite"),
    )
    return files / "out"


def values(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_register_writes_everything_the_issue_lists(registered: Path, files: Path):
    assert {path.name for path in registered.iterdir()} == {
        *("warped.nii.gz", "warped_labels.nii.gz", "fixed_to_moving.nii.gz", "moving_to_fixed.nii.gz"),
        *("fixed_to_moving.h5", "moving_to_fixed.h5", "jacobian.nii.gz", "inverse_consistency_mm.nii.gz"),
        *("fixed_to_moving.tfm", "moving_to_fixed.tfm", "fixed_to_moving.mat", "moving_to_fixed.mat"),
        *("result.json", "report.html"),
    }
    warped = nibabel.load(registered / "warped.nii.gz")
    assert warped.get_data_dtype() == np.int16
    np.testing.assert_allclose(warped.affine, FIXED_AFFINE)
    np.testing.assert_array_equal(values(registered / "warped.nii.gz"), values(files / "fixed.nii.gz"))
    np.testing.assert_array_equal(values(registered / "warped_labels.nii.gz"), values(files / "fixed_labels.nii.gz"))
    np.testing.assert_allclose(values(registered / "jacobian.nii.gz"), 1, atol=1e-5)
    np.testing.assert_allclose(values(registered / "inverse_consistency_mm.nii.gz"), 0, atol=1e-4)


def test_fields_are_itk_displacements_in_lps(registered: Path):
    field = nibabel.load(registered / "fixed_to_moving.nii.gz")
    assert field.header["intent_code"] == 1007
    assert field.shape == (2, 2, 2, 1, 3)  # the corners say all of a map that does not deform
    np.testing.assert_allclose(np.asarray(field.dataobj)[1, 0, 1, 0], SHIFT * [-1, -1, 1], atol=1e-5)
    back = np.asarray(nibabel.load(registered / "moving_to_fixed.nii.gz").dataobj)
    np.testing.assert_allclose(back[1, 0, 1, 0], SHIFT * [1, 1, -1], atol=1e-5)


def test_simpleitk_resamples_to_the_same_scan(registered: Path, files: Path):
    fixed, moving = (sitk.ReadImage(str(files / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    field = sitk.ReadImage(str(registered / "fixed_to_moving.nii.gz"), sitk.sitkVectorFloat64)
    transforms = sitk.DisplacementFieldTransform(field), sitk.ReadTransform(str(registered / "fixed_to_moving.h5"))
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(registered / "warped.nii.gz")))
    for transform in transforms:
        theirs = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
        inner = (slice(1, -1),) * 3
        np.testing.assert_allclose(sitk.GetArrayFromImage(theirs)[inner], ours[inner], atol=1)


def test_result_says_what_was_measured(registered: Path):
    record = json.loads((registered / "result.json").read_text())
    metrics = record["metrics"]
    assert metrics["before"]["mean_tre_mm"] == pytest.approx(np.linalg.norm(SHIFT))
    assert metrics["after"]["mean_tre_mm"] == pytest.approx(0, abs=1e-4)
    assert metrics["before"]["mean_dice"] < 0.5
    assert metrics["after"]["dice"] == {"1": 1.0, "3": 1.0}
    assert metrics["jacobian"]["folding_percent"] == 0
    assert record["status"] == record["verdict"]["status"]
    assert set(record["timings_s"]) >= {"reading", "registration", "evaluation", "writing", "total"}
    assert len(record["provenance"]["inputs"]["fixed"]["sha256"]) == 64
    check = record["direction_check"]
    centre = FIXED_AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + FIXED_AFFINE[:3, 3]
    np.testing.assert_allclose(check["fixed_centre_ras_mm"], centre)
    np.testing.assert_allclose(check["maps_to_moving_ras_mm"], centre + SHIFT)
    np.testing.assert_allclose(check["maps_to_moving_lps_mm"], (centre + SHIFT) * [-1, -1, 1])


def test_labels_on_another_grid_are_resampled_on_request(files: Path):
    coarse = values(files / "moving_labels.nii.gz")[::2, ::2, ::2]
    affine = nibabel.load(files / "moving.nii.gz").affine @ np.diag([2.0, 2, 2, 1])
    nibabel.Nifti1Image(coarse, affine).to_filename(files / "coarse.nii.gz")
    arguments = ["register", files / "fixed.nii.gz", files / "moving.nii.gz", "-o", files / "out", "--method", "stub"]
    run(*arguments, "--moving-labels", files / "coarse.nii.gz", "--resample")
    warped = values(files / "out" / "warped_labels.nii.gz")
    assert warped.shape == SHAPE
    truth = values(files / "fixed_labels.nii.gz")
    assert 2 * ((warped == 3) & (truth == 3)).sum() / ((warped == 3).sum() + (truth == 3).sum()) > 0.6


def pair_command(files: Path, *more: object) -> list[str]:
    words = (
        "register",
        files / "fixed.nii.gz",
        files / "moving.nii.gz",
        "-o",
        files / "out",
        "--method",
        "stub",
        *more,
    )
    return [str(word) for word in words]


def save_with(path: Path, source: Path, qform_shift_mm: float = 0.0, coded: bool = True) -> None:
    """The same scan with a qform that lies elsewhere, or with neither sform nor qform."""
    image = nibabel.load(source)
    elsewhere = image.affine.copy()
    elsewhere[0, 3] += qform_shift_mm
    header = nibabel.Nifti1Image(np.asarray(image.dataobj), None)
    if coded:
        header.set_sform(image.affine, 1)
        header.set_qform(elsewhere, 1)
    else:
        header.set_sform(None, 0)
        header.set_qform(None, 0)
    header.to_filename(path)


def test_without_labels_the_terminal_says_that_accuracy_was_not_measured(files: Path):
    told = run(*pair_command(files))
    assert "PASS: no signs of failure; accuracy not measured (give labels or landmarks of both scans)" in told
    verdict = json.loads((files / "out" / "result.json").read_text())["verdict"]
    assert (verdict["status"], verdict["signs_of_failure"], verdict["accuracy"]["measured"]) == ("PASS", "none", False)
    page = (files / "out" / "report.html").read_text()
    assert "Accuracy</span> <b>not measured (give labels or landmarks of both scans)" in page
    assert "Signs of failure</span> <b>none" in page


def test_with_labels_the_terminal_says_how_accurate_it_is(files: Path):
    labels = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz")
    told = run(*pair_command(files, *labels))
    assert "PASS: no signs of failure; accuracy within limits: mean Dice 1.000 (lowest 1.000, label 1)" in told
    verdict = json.loads((files / "out" / "result.json").read_text())["verdict"]
    assert verdict["accuracy"] | {"summary": ""} == {
        "measured": True,
        "status": "PASS",
        "summary": "",
        "mean_dice": 1.0,
        "mean_hd95_mm": 0.0,
        "mean_asd_mm": 0.0,
        "lowest_dice_label": 1,
        "lowest_dice": 1.0,
    }


def test_labels_that_never_overlap_do_not_pass_and_fail_on_sets_the_exit_code(files: Path):
    wrong = np.zeros(SHAPE, np.uint8)
    wrong[15:19, 0:4, 12:16] = 1
    wrong[0:4, 20:24, 0:4] = 3
    nibabel.Nifti1Image(wrong, nibabel.load(files / "moving.nii.gz").affine).to_filename(files / "wrong.nii.gz")
    labels = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "wrong.nii.gz")
    told = run(*pair_command(files, *labels))
    assert "FAIL: no signs of failure; accuracy poor: mean Dice 0.000 (lowest 0.000, label 1)" in told
    assert "2 of 2 labels end without overlap: labels 1, 3" in told
    for limit in ("warn", "fail"):
        result = CliRunner().invoke(app, pair_command(files, *labels, "--overwrite", "--quiet", "--fail-on", limit))
        assert result.exit_code == 3
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"the verdict is FAIL (--fail-on {limit}): the labels overlap little")
        assert (files / "out" / "report.html").is_file()


@pytest.mark.parametrize(("limit", "code"), [("warn", 3), ("fail", 0)])
def test_fail_on_tells_warn_from_fail(files: Path, limit: str, code: int):
    save_with(files / "odd.nii.gz", files / "moving.nii.gz", qform_shift_mm=7.0)
    words = [str(files / "odd.nii.gz") if "moving.nii.gz" in word else word for word in pair_command(files)]
    assert CliRunner().invoke(app, [*words, "--fail-on", limit]).exit_code == code
    assert json.loads((files / "out" / "result.json").read_text())["status"] == "WARN"


def test_fail_on_is_checked_before_anything_is_read(tmp_path: Path):
    result = CliRunner().invoke(app, ["register", "no", "no", "-o", str(tmp_path / "out"), "--fail-on", "always"])
    assert result.exit_code == 2
    assert "--fail-on takes warn or fail, not 'always'" in result.stderr


def test_what_inspect_says_of_a_header_is_in_the_plan_the_record_the_report_and_on_the_terminal(files: Path):
    for name in ("fixed", "fixed_labels"):
        save_with(files / f"{name}.nii.gz", files / f"{name}.nii.gz", qform_shift_mm=7.0)
    save_with(files / "moving_labels.nii.gz", files / "moving_labels.nii.gz", coded=False)
    labels = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz")
    words = pair_command(files, *labels, "--resample")
    both = (
        "fixed fixed.nii.gz, fixed labels fixed_labels.nii.gz: sform (code 1) and qform (code 1) differ by up to 7.0 mm"
    )
    neither = "moving labels moving_labels.nii.gz: neither sform nor qform is set"
    plan = " ".join(run(*words, "--dry-run").split())
    told = run(*words)
    record = json.loads((files / "out" / "result.json").read_text())
    page = (files / "out" / "report.html").read_text()
    for finding in (both, neither):
        assert finding in plan
        assert f"warning: {finding}" in told
        assert any(warning.startswith(finding) for warning in record["warnings"])
        assert any(reason.startswith(finding) for reason in record["verdict"]["reasons"])
        assert finding in page
    assert record["verdict"]["signs_of_failure"] == "some"


def test_a_note_on_the_input_is_told_and_does_not_warn(files: Path):
    image = nibabel.load(files / "fixed.nii.gz")
    image.header.set_xyzt_units("micron")
    affine = image.affine @ np.diag([1000, 1000, 1000, 1.0])
    affine[:3, 3] = image.affine[:3, 3] * 1000
    scaled = nibabel.Nifti1Image(np.asarray(image.dataobj), affine, image.header)
    scaled.header.set_xyzt_units("micron")
    scaled.to_filename(files / "fixed.nii.gz")
    told = run(*pair_command(files))
    record = json.loads((files / "out" / "result.json").read_text())
    assert "note: fixed fixed.nii.gz: voxel sizes are given in microns" in told
    assert any("voxel sizes are given in microns" in note for note in record["notes"])
    assert (record["status"], record["warnings"]) == ("PASS", [])
    assert "Notes on the input" in (files / "out" / "report.html").read_text()


def test_quiet_prints_nothing(files: Path):
    arguments = ["register", files / "fixed.nii.gz", files / "moving.nii.gz", "-o", files / "out", "--method", "stub"]
    assert run(*arguments, "--quiet") == ""
    told = run(*arguments, "--overwrite")
    assert "method stub, preset small-mr (MR of a small field of view (40 x 48 x 48 mm))" in told
    assert f"report: {files / 'out' / 'report.html'}" in told


def test_dry_run_prints_the_plan_and_writes_nothing(files: Path):
    before = sorted(files.iterdir())
    arguments = ["register", files / "fixed.nii.gz", files / "moving.nii.gz", "-o", files / "out", "--method", "stub"]
    plan = run(*arguments, "--dry-run", "--set", "gain=0.25")
    assert sorted(files.iterdir()) == before
    assert "small-mr" in plan
    assert "0.25" in plan
    assert "about 350 MB at the peak" in plan
    assert "of one core" not in plan  # a method need not foresee its time
    told = run(*arguments[:-1], "convex", "--dry-run")
    assert re.search(r"about 0\.\d s of one core", told)


def test_apply_to_images_labels_and_points_at_once(registered: Path, files: Path):
    field = registered / "fixed_to_moving.nii.gz"
    inputs = files / "moving.nii.gz", files / "moving_labels.nii.gz", files / "fixed.csv"
    told = run("apply", field, "--to", *inputs, "-o", files / "applied")
    np.testing.assert_array_equal(values(files / "applied" / "moving.nii.gz"), values(files / "fixed.nii.gz"))
    labels = files / "applied" / "moving_labels.nii.gz"
    np.testing.assert_array_equal(values(labels), values(files / "fixed_labels.nii.gz"))
    rows = (files / "applied" / "fixed.csv").read_text().splitlines()
    assert rows[0] == "label,x_ras,y_ras,z_ras"
    np.testing.assert_allclose([float(v) for v in rows[1].split(",")[1:]], SHIFT, atol=1e-4)
    assert "the first: RAS (0.00, 0.00, 0.00) -> RAS (6.00, -8.00, 9.00) mm" in told
    assert "moving_labels.nii.gz: labels on" in told


def test_apply_on_another_grid(registered: Path, files: Path):
    small = nibabel.Nifti1Image(values(files / "fixed.nii.gz")[4:14, :20], FIXED_AFFINE @ translation(4))
    small.to_filename(files / "small.nii.gz")
    target = files / "warped.nii.gz"
    field = registered / "fixed_to_moving.nii.gz"
    run("apply", field, "--to", files / "moving.nii.gz", "-o", target, "--like", files / "small.nii.gz")
    np.testing.assert_array_equal(values(target), values(files / "fixed.nii.gz")[4:14, :20])


def translation(i: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = i
    return matrix


def test_convert_to_learn2reg_and_back(registered: Path, files: Path):
    field, npz = registered / "fixed_to_moving.nii.gz", files / "disp.npz"
    run("convert", field, "-o", npz, "--fixed", files / "fixed.nii.gz", "--to", "learn2reg-npz")
    back = files / "back.nii.gz"
    run("convert", npz, "-o", back, "--fixed", files / "fixed.nii.gz")
    assert values(back).shape == (*SHAPE, 1, 3)
    np.testing.assert_allclose(values(back), np.broadcast_to(values(field)[:1, :1, :1], (*SHAPE, 1, 3)), atol=1e-3)


def test_convert_an_affine_needs_no_grid(files: Path):
    shift = sitk.TranslationTransform(3, (4.0, 0.0, -2.0))
    sitk.WriteTransform(shift, str(files / "shift.tfm"))
    run("convert", files / "shift.tfm", "-o", files / "shift.h5")
    mapped = sitk.ReadTransform(str(files / "shift.h5")).TransformPoint((1.0, 2.0, 3.0))
    np.testing.assert_allclose(mapped, (5, 2, 1))


def test_inspect_for_people_and_machines(files: Path):
    paths = [files / f"{name}.nii.gz" for name in ("fixed", "moving", "fixed_labels", "moving_labels")]
    told = run("inspect", *paths)
    assert "20 x 24 x 16, int16" in told
    assert "LPS" in told
    content = json.loads(run("inspect", "--json", *paths))
    assert [one["modality"] for one in content["files"]] == ["mr", "mr", "mask-like", "mask-like"]
    scan, labels, other_labels = content["relations"]
    overlap = np.prod((np.array(SHAPE) * [2, 2, 3] - np.abs(SHIFT)) / (np.array(SHAPE) * [2, 2, 3]))
    assert scan["overlap_percent"] == pytest.approx(100 * overlap, abs=3)
    assert scan["preset"] == "small-mr"
    assert labels["same_grid"] is True
    assert other_labels["header_mismatch_mm"] == pytest.approx(np.linalg.norm(SHIFT), abs=1e-3)
    assert "unless --resample is given" in other_labels["action"]


def test_inspect_shows_the_start_of_two_scans(files: Path):
    paths = [files / f"{name}.nii.gz" for name in ("fixed", "moving", "fixed_labels")]
    scan, labels = json.loads(run("inspect", "--json", *paths))["relations"]
    start = scan["start"]
    assert start["shift_ras_mm"] == pytest.approx(SHIFT, abs=0.3)
    assert start["turn_deg"] == pytest.approx(0, abs=0.3)
    assert start["stretch_percent"] == pytest.approx([100, 100, 100], abs=1)
    assert start["overlap_percent"] == pytest.approx(100, abs=2)
    assert start["seconds"] > 0
    assert "start" not in labels
    told = run("inspect", *paths)
    lines = [line.strip() for line in told.splitlines()]
    assert any(line.startswith("start (--init auto)") and line.endswith(start["steps"][0]) for line in lines)
    assert any(line.startswith("shift") and " right, " in line and " back, " in line for line in lines)
    without = run("inspect", "--no-start", *paths)
    assert "start (--init" not in without
    assert "start" not in json.loads(run("inspect", "--no-start", "--json", *paths))["relations"][0]


def test_inspect_prints_the_map_that_a_header_holds(tmp_path: Path):
    """A phantom and the same voxels under a header that moves, turns and enlarges it about its middle."""
    fixed = make_pair((44, 36, 40), seed=3).fixed
    turn = Rotation.from_rotvec([0, 0, 12], degrees=True).as_matrix()
    truth = Affine.about(1.05 * turn, fixed.grid.centre_mm).matrix.copy()
    truth[:3, 3] += SHIFT
    write_image(fixed, tmp_path / "fixed.nii.gz")
    write_image(Image(fixed.data, Grid(fixed.grid.shape, truth @ fixed.grid.affine)), tmp_path / "moving.nii.gz")
    told = " ".join(run("inspect", tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz").split())
    shift = re.search(r" shift ([\d.]+) mm \(([\d.]+) right, ([\d.]+) back, ([\d.]+) up\) ", told)
    assert shift is not None
    assert [float(one) for one in shift.groups()] == pytest.approx([np.linalg.norm(SHIFT), *np.abs(SHIFT)], abs=0.15)
    turned = re.search(r" turn ([\d.]+) degrees about the feet-head axis ", told)
    assert turned is not None
    assert float(turned[1]) == pytest.approx(12, abs=0.11)
    scale = re.search(
        r" scale ([+\d.]+) (?:% in every direction|to ([+\d.]+) % by direction), ([+\d.]+) % in volume ", told
    )
    assert scale is not None
    assert [abs(float(one) - 5) < 0.2 for one in scale.groups()[:2] if one] in ([True], [True, True])
    assert float(scale[3]) == pytest.approx(100 * (1.05**3 - 1), abs=0.4)
    assert " overlap 100 % of the fixed field of view " in told


def test_inspect_says_why_there_is_no_start(files: Path):
    nibabel.Nifti1Image(values(files / "moving.nii.gz")[..., :1], FIXED_AFFINE).to_filename(files / "slice.nii.gz")
    told = run("inspect", files / "fixed.nii.gz", files / "slice.nii.gz")
    assert "none: fixed.nii.gz and slice.nii.gz: one is a single slice, the other is not" in told


def test_methods_lists_every_setting():
    assert "aligns centres" in run("methods")
    told = run("methods", "stub")
    for name in ("init", "gain", "rounds", "levels", "fail"):
        assert name in told
    assert "one of world|translation" in told
    assert "rounds=5" in told


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from anamorph.cli.main import app\n"
        "heavy = {'torch', 'scipy', 'SimpleITK', 'nibabel', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    start = processor_seconds()
    told = subprocess.run(
        [sys.executable, "-m", "anamorph", "register", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert processor_seconds() - start < 1.5
    assert "--fixed-labels" in told
