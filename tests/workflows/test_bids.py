"""A made data set of BIDS registered by the command, and looked at by the validator of BIDS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

from anamorph.cli.main import app
from anamorph.data.bids import find_scans, session_pairs
from anamorph.errors import UserError
from anamorph.image.bids_names import BidsName, space_labels
from anamorph.image.read import read_image
from anamorph.transforms.files import read_transform

SIZE, SPACING_MM = 24, 6.0
SHIFT_MM = np.array([6.0, -4.0, 3.0])


def scan(shift_mm: np.ndarray) -> nibabel.Nifti1Image:
    """A head of blobs, moved."""
    axes = np.meshgrid(*[np.arange(SIZE) * SPACING_MM] * 3, indexing="ij")
    places = np.stack(axes, -1) - shift_mm - SIZE * SPACING_MM / 2
    image = 100.0 * (1e-9 + (places / (55, 62, 50)) ** 2).sum(-1) ** -2
    image = np.minimum(image, 300)
    for centre, height in (((-20, 10, 5), 200), ((15, -20, 10), -150), ((5, 25, -15), 250)):
        image += height * np.exp(-((places - centre) ** 2).sum(-1) / 300)
    image += np.random.default_rng(0).normal(0, 1, image.shape)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1])
    return nibabel.Nifti1Image(image.astype(np.float32), affine)


def data_set(
    folder: Path, participants: tuple[str, ...] = ("01", "02"), sessions: tuple[str, ...] = ("1", "2")
) -> Path:
    root = folder / "raw"
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "made", "BIDSVersion": "1.10.0"}))
    (root / "README").write_text("Made by a test.\n")
    for participant in participants:
        for number, session in enumerate(sessions):
            place = root / f"sub-{participant}" / f"ses-{session}" / "anat"
            place.mkdir(parents=True)
            stem = f"sub-{participant}_ses-{session}_T1w"
            nibabel.save(scan(number * SHIFT_MM), place / f"{stem}.nii.gz")
            (place / f"{stem}.json").write_text(json.dumps({"MagneticFieldStrength": 3}))
    return root


def bids(*arguments: str | Path) -> Result:
    words = ["bids", *map(str, arguments), "--method", "linear", "--workers", "1"]
    return CliRunner().invoke(app, words)


def validated(folder: Path) -> None:
    """See that the validator of BIDS finds no error."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("bids-validator-deno", path=beside)
    if program is None:
        pytest.skip("needs bids-validator-deno")
    run = subprocess.run([program, folder, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [one for one in issues if one["severity"] == "error"] == []


def test_sessions_are_brought_to_the_first_one_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    raw, out = data_set(tmp_path), tmp_path / "out"
    run = bids(raw, out, "participant", "--participant-label", "01")
    assert run.exit_code == 0, run.output
    folder, stem = out / "sub-01/ses-2/anat", "sub-01_ses-2"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{stem}_from-ses1_to-ses2_mode-image_xfm.h5",
        f"{stem}_from-ses1_to-ses2_mode-image_xfm.json",
        f"{stem}_from-ses2_to-ses1_mode-image_xfm.h5",
        f"{stem}_from-ses2_to-ses1_mode-image_xfm.json",
        f"{stem}_space-ses1_desc-registered_T1w.json",
        f"{stem}_space-ses1_desc-registered_T1w.nii.gz",
    ]
    there = folder / f"{stem}_from-ses2_to-ses1_mode-image_xfm.h5"
    centre = np.full((1, 3), SIZE * SPACING_MM / 2)
    moved = read_transform(there).map_world(centre) - centre  # points of session 1 to session 2
    np.testing.assert_allclose(moved[0], SHIFT_MM, atol=1.5)
    lps = centre[0] * (-1, -1, 1)
    np.testing.assert_allclose(
        (np.array(sitk.ReadTransform(str(there)).TransformPoint(lps.tolist())) - lps) * (-1, -1, 1), moved[0], atol=0.01
    )
    warped = read_image(folder / f"{stem}_space-ses1_desc-registered_T1w.nii.gz")
    fixed = read_image(raw / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    inner = (0, slice(5, -5), slice(5, -5), slice(5, -5))
    assert np.corrcoef(warped.data[inner].ravel(), fixed.data[inner].ravel())[0, 1] > 0.98
    told = json.loads((folder / f"{stem}_space-ses1_desc-registered_T1w.json").read_text())
    assert told["Sources"][0] == "bids:raw:sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"
    assert told["SpatialReference"] == "bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    assert json.loads((out / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "anamorph"

    before = there.stat().st_mtime_ns
    run = bids(raw, out, "participant")
    assert run.exit_code == 0, run.output
    assert "1 scans were finished by an earlier run" in run.output
    assert there.stat().st_mtime_ns == before
    there.write_bytes(b"damaged")
    assert "1 scans were finished" in bids(raw, out, "participant").output
    np.testing.assert_allclose(read_transform(there).map_world(centre) - centre, moved, atol=1e-6)

    run = bids(raw, out, "group")
    assert run.exit_code == 0, run.output
    lines = [line.split("\t") for line in (out / "group_registrations.tsv").read_text().splitlines()]
    assert [line[1] for line in lines] == ["scan", "sub-01_ses-2_T1w.nii.gz", "sub-02_ses-2_T1w.nii.gz"]
    validated(raw)
    validated(out)


def test_a_template_and_a_scan_that_fails_is_one_line(tmp_path: Path) -> None:
    raw, out = data_set(tmp_path, sessions=("1",)), tmp_path / "out"
    (raw / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").write_bytes(b"damaged")
    nibabel.save(scan(np.zeros(3)), tmp_path / "my_brain.nii.gz")
    options = "--template", tmp_path / "my_brain.nii.gz", "--template-name", "MyBrain"
    run = bids(raw, out, "participant", "--participant_label", "01", "02", *options)
    assert run.exit_code == 1
    failed = [line for line in run.output.splitlines() if line.startswith("failed:")]
    assert len(failed) == 1
    assert "sub-01_ses-1_from-T1w_to-MyBrain_T1w" in failed[0]
    assert "1 of 2 scans failed" in run.output
    assert not (out / "sub-01").exists()
    assert (out / "sub-02/ses-1/anat/sub-02_ses-1_from-T1w_to-MyBrain_mode-image_xfm.h5").is_file()
    validated(out)


def test_register_writes_derivatives_too(tmp_path: Path) -> None:
    raw, out = data_set(tmp_path, participants=("01",)), tmp_path / "out"
    scans = [raw / f"sub-01/ses-{n}/anat/sub-01_ses-{n}_T1w.nii.gz" for n in (1, 2)]
    values = (nibabel.load(scans[1]).get_fdata() > 150).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values * 7, nibabel.load(scans[1]).affine), tmp_path / "organs.nii.gz")
    words = ["register", *map(str, scans), "-o", str(out), "--bids", "--method", "linear"]
    words += ["--moving-labels", str(tmp_path / "organs.nii.gz")]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    warped = nibabel.load(out / "sub-01/ses-2/anat/sub-01_ses-2_space-ses1_dseg.nii.gz").get_fdata()
    assert set(np.unique(warped)) == {0, 7}
    assert "report: " in run.output
    assert (out / "sub-01_ses-2_from-ses2_to-ses1_T1w.html").is_file()
    told = json.loads((out / "sub-01/ses-2/anat/sub-01_ses-2_from-ses2_to-ses1_mode-image_xfm.json").read_text())
    assert told["Sources"][1].startswith("bids:raw:sub-01/ses-2/")
    validated(out)
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 2
    assert "already exists" in run.output
    plain = tmp_path / "scan.nii.gz"
    shutil.copy(scans[1], plain)
    run = CliRunner().invoke(app, ["register", str(scans[0]), str(plain), "-o", str(tmp_path / "other"), "--bids"])
    assert run.exit_code == 2
    assert "sub-01_T1w.nii.gz" in run.output
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("participant", "--participant-label", "09"), "no participant '09'"),
        (("participant", "--session-label", "9"), "no session '9'"),
        (("participant", "--suffix", "T2w"), "no scan is named sub-*_T2w"),
        (("participant", "--session-label", "1"), "no participant has two sessions"),
        (("participant", "--reference-session", "7"), "no session '7'"),
        (("participant", "01"), "belongs to no option"),
        (("participant", "--entity", "run"), "wants KEY=VALUE"),
        (("session",), "participant or group"),
        (("group",), "holds no registrations"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    raw = data_set(tmp_path)
    run = bids(raw, tmp_path / "out", *options)
    assert run.exit_code == 2
    assert message in " ".join(run.output.split())
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_data_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_scans(tmp_path / "none", "T1w")
    with pytest.raises(UserError, match="no BIDS data set"):
        find_scans(tmp_path, "T1w")
    (tmp_path / "dataset_description.json").write_text("{}")
    with pytest.raises(UserError, match="without Name"):
        find_scans(tmp_path, "T1w")


def test_two_scans_of_a_session_must_be_chosen_from(tmp_path: Path) -> None:
    raw = data_set(tmp_path, participants=("01",))
    place = raw / "sub-01/ses-2/anat"
    shutil.copy(place / "sub-01_ses-2_T1w.nii.gz", place / "sub-01_ses-2_run-2_T1w.nii.gz")
    with pytest.raises(UserError, match="of one session"):
        session_pairs(find_scans(raw, "T1w"), None)


@pytest.mark.parametrize(
    ("fixed", "moving", "labels"),
    [
        ("tpl-MNI_res-1_T1w.nii.gz", "sub-1_T1w.nii.gz", ("T1w", "MNI")),
        ("sub-1_ses-a_T1w.nii.gz", "sub-1_ses-b_T1w.nii.gz", ("sesb", "sesa")),
        ("sub-1_T1w.nii.gz", "sub-1_T2w.nii.gz", ("T2w", "T1w")),
        ("sub-2_T1w.nii.gz", "sub-1_T1w.nii.gz", ("T1w", "sub2")),
        ("sub-1_run-1_T1w.nii.gz", "sub-1_run-2_T1w.nii.gz", ("run2", "run1")),
        ("sub-1_acq-x_T1w.nii.gz", "sub-1_T1w.nii.gz", ("acqnone", "acqx")),
        ("my atlas.nii", "sub-1_T1w.nii.gz", ("T1w", "myatlas")),
    ],
)
def test_spaces_are_called_by_what_names_differ_in(fixed: str, moving: str, labels: tuple[str, str]) -> None:
    name = BidsName.of(Path(moving))
    assert name is not None
    assert space_labels(Path(fixed), name) == labels


def test_names_keep_the_order_of_bids() -> None:
    name = BidsName.of(Path("sub-1_run-2_acq-x_space-T1w_desc-brain_bold.nii.gz"))
    assert name is not None
    assert name.changed("xfm", ".h5", mode="image", to="MNI", **{"from": "bold"}).text == (
        "sub-1_acq-x_run-2_from-bold_to-MNI_mode-image_xfm.h5"
    )
    assert BidsName.of(Path("brain.nii.gz")) is None
