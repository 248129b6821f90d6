"""The folder of DICOM objects beside a result: it says what the result says, and refers to the scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.image.read import read_image, read_labels
from anamorph.registration.request import Request
from anamorph.registration.tissue import with_weight
from anamorph.transforms.files import read_transform
from dicom_files import UID
from radiotherapy_files import contradictions, ct_series, faults, outlines, sphere, structure_set

pytest.importorskip("highdicom")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CTs of a phantom whose organ has moved by 6 mm, with contours, registered by the command."""
    folder = tmp_path_factory.mktemp("pair")
    rough = np.random.default_rng(5).normal(0, 20, (16, 32, 32)).round()
    for name, shift, series, frame in (("fixed", 0.0, "7", UID + "55"), ("moving", 6.0, "8", UID + "66")):
        ct_series(folder / name, rough, series=series, frame=frame, spacing_mm=(4.0, 4.0, 4.0))
        grid = read_image(folder / name).grid
        middle = grid.centre_mm + np.array([shift, 0, 0])
        body, organ = sphere(grid, grid.centre_mm, 54.0), sphere(grid, middle, 22.0)
        values = np.where(organ > 0, 120, np.where(body > 0, 0, -1000)).transpose(2, 1, 0) + rough
        ct_series(folder / name, values, series=series, frame=frame, spacing_mm=(4.0, 4.0, 4.0))
        structure_set(folder / name / "rs.dcm", {"Organ": outlines(grid, organ)}, series=UID + series, frame=frame)
    line = ["register", "fixed", "moving", "--fixed-labels", "fixed", "--moving-labels", "moving", "--dicom", "-q",
            "--preset", "default", "-o", "out"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = CliRunner().invoke(app, line, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return folder


def test_every_object_is_there_sound_and_of_the_right_patient(registered: Path) -> None:
    folder = registered / "out" / "dicom"
    written = sorted(folder.rglob("*.dcm"))
    assert len(written) == 16 + 4
    instances = [dcmread(path) for path in written]
    assert len({one.SOPInstanceUID for one in instances}) == len(instances)
    assert len({one.SeriesInstanceUID for one in instances}) == 5
    for path, one in zip(written, instances, strict=True):
        assert one.StudyInstanceUID == UID + "1"
        own = UID + ("66" if path.name == "moving_to_fixed.dcm" else "55")
        assert one.FrameOfReferenceUID == own
    for path in [*folder.glob("*.dcm"), written[-1]]:
        assert faults(path) == []
    scans = [path for name in ("fixed", "moving") for path in (registered / name).glob("?_*.dcm")]
    assert contradictions([*written, *scans]) == []


def test_objects_say_what_the_other_files_say(registered: Path) -> None:
    out = registered / "out"
    warped, series = read_image(out / "warped.nii.gz"), read_image(out / "dicom" / "warped")
    assert series.grid.matches(warped.grid, 0.01)
    np.testing.assert_array_equal(series.data, warped.data)
    scan = read_image(registered / "fixed")
    labels = read_labels(out / "warped_labels.nii.gz").data[0]
    for name in ("structures.dcm", "segmentation.dcm"):
        read = read_labels(out / "dicom" / name, scan=scan)
        assert [one.name for one in read.structures] == ["Organ"]
        assert np.count_nonzero((read.data[0] != 0) != (labels != 0)) <= 0.01 * np.count_nonzero(labels)
    places = scan.grid.voxel_to_world(np.random.default_rng(0).uniform(2, 13, (300, 3)))
    for name in ("fixed_to_moving", "moving_to_fixed"):
        ours, theirs = (read_transform(path) for path in (out / f"{name}.nii.gz", out / "dicom" / f"{name}.dcm"))
        assert np.abs(ours.map_world(places) - theirs.map_world(places)).max() < 0.01


def test_apply_takes_a_registration_of_dicom_and_contours(registered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(registered)
    line = [
        "apply",
        "out/dicom/fixed_to_moving.dcm",
        "--to",
        "moving/rs.dcm",
        "--like",
        "fixed",
        "-o",
        "applied.nii.gz",
    ]
    ran = CliRunner().invoke(app, line, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    applied, expected = (read_labels(path).data for path in ("applied.nii.gz", "out/warped_labels.nii.gz"))
    assert np.count_nonzero(applied != expected) <= 3
    line = ["convert", "out/fixed_to_moving.nii.gz", "-o", "again.dcm", "--fixed", "fixed", "--moving", "moving"]
    ran = CliRunner().invoke(app, line, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert faults(Path("again.dcm")) == []


def test_a_series_of_a_folder_is_chosen_on_the_command_line(registered: Path, tmp_path: Path) -> None:
    for name in ("fixed", "moving"):
        for path in (registered / name).glob("?_*.dcm"):
            shutil.copy(path, tmp_path / path.name)
    ran = CliRunner().invoke(app, ["inspect", str(tmp_path), "--no-start"])
    assert ran.exit_code != 0
    for words in ("8", "series 8"):
        ran = CliRunner().invoke(app, ["inspect", str(tmp_path), "--series", words, "--no-start"])
        assert ran.exit_code == 0, ran.output
        assert "32 x 32 x 16, int16" in ran.output


def test_contours_are_masks_too(registered: Path) -> None:
    drawn = f"{registered / 'fixed' / 'rs.dcm'}::roi=organ"
    assert with_weight(drawn) == (drawn, None)
    assert with_weight(f"{drawn}=3") == (drawn, 3.0)
    fixed, moving = str(registered / "fixed"), str(registered / "moving")
    pair = Request(fixed, moving, fixed_mask=drawn, keep_rigid=drawn, no_partner=None).read().pair
    inside = read_labels(drawn).data[0] != 0
    assert np.abs((pair.fixed_mask.data[0] > 0.5) != inside).sum() <= 0.05 * inside.sum()
    assert sum(len(piece.voxels) for kept in pair.fixed_tissue.rigid for piece in kept.pieces) == inside.sum()


def test_inspect_names_the_structures(registered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(registered)
    ran = CliRunner().invoke(app, ["inspect", "fixed", "fixed/rs.dcm", "--no-start"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert "its labels are 1 Organ" in ran.output
    assert "the same; register takes them as they are" in ran.output


def test_scans_without_dicom_are_refused_before_anything_is_done(
    registered: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(registered)
    line = ["register", "out/warped.nii.gz", "moving", "--dicom", "-o", "none"]
    ran = CliRunner().invoke(app, line)
    assert ran.exit_code != 0
    assert not Path("none").exists()
