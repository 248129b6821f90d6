"""Every mistake of the input gives one line with the remedy, the right exit code, and leaves the disk as it was."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.methods import METHODS
from dicom_files import UID, classic_series

WITH_HELPERS = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -20


def blob(shift: int = 0, shape: tuple[int, int, int] = (24, 20, 18)) -> np.ndarray:
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = sum((a - n / 2 - shift) ** 2 for a, n in zip(axes, shape, strict=True))
    noise = np.random.default_rng(shift).normal(0, 5, shape)
    return (500 * np.exp(-distance / 40) + noise + 100).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return str(path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


@pytest.fixture
def fixed(tmp_path: Path) -> str:
    return save(tmp_path / "fixed.nii.gz", blob())


@pytest.fixture
def moving(tmp_path: Path) -> str:
    return save(tmp_path / "moving.nii.gz", blob(2))


@pytest.fixture
def refused(tmp_path: Path):
    """Run a command that must fail, and see that it says one line and leaves no file behind or changed."""

    def run(*arguments: object, code: int = 2, method: str = "stub", command: str = "register") -> str:
        before = contents(tmp_path)
        extra = ["-o", str(tmp_path / "out"), "--method", method] if command == "register" else []
        result = CliRunner().invoke(app, [command, *map(str, arguments), *extra])
        assert result.exit_code == code, result.output
        assert contents(tmp_path) == before
        lines = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "interrupted"))]
        assert len(lines) == 1
        assert "Traceback" not in result.output
        return lines[0]

    return run


def test_missing_file(refused, moving, tmp_path):
    assert "nowhere.nii.gz: no such file; check the path" in refused(tmp_path / "nowhere.nii.gz", moving)


def test_unreadable_file(refused, moving, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(Path(moving).read_bytes()[:500])
    assert "broken.nii.gz: cannot be read as an image" in refused(broken, moving)


def test_not_an_image(refused, moving, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not an image")
    assert "cannot be read" in refused(text, moving)


def test_four_dimensions(refused, moving, tmp_path):
    film = save(tmp_path / "film.nii.gz", np.stack([blob(), blob(1)], -1))
    assert "4D: 2 volumes; extract one" in refused(film, moving)


def test_colour(refused, moving, tmp_path):
    rgb = np.zeros((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    assert "colour (RGB)" in refused(save(tmp_path / "rgb.nii.gz", rgb), moving)


def test_empty(refused, moving, tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), AFFINE)
    image.header["dim"][1] = 0
    with (tmp_path / "empty.nii").open("wb") as file:
        file.write(image.header.binaryblock + b"\0" * 4)
    assert "empty" in refused(tmp_path / "empty.nii", moving)


def test_constant(refused, moving, tmp_path):
    path = save(tmp_path / "constant.nii.gz", np.full((8, 8, 8), 7, np.int16))
    assert "every voxel has the value 7" in refused(path, moving)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(refused, fixed, tmp_path, value):
    data = blob()
    data[3, 3, 3:5] = value
    assert "2 of 8640 voxels are NaN or infinite" in refused(fixed, save(tmp_path / "nan.nii.gz", data))


def test_no_overlap_without_initialisation(refused, fixed, tmp_path):
    far = AFFINE.copy()
    far[:3, 3] = 900
    moving = save(tmp_path / "far.nii.gz", blob(2), far)
    line = refused(fixed, moving, "--set", "init=world")
    assert "fields of view of fixed.nii.gz and far.nii.gz do not overlap" in line
    assert "drop init=world" in line


def test_no_overlap_after_given_transform(refused, fixed, moving, tmp_path):
    shift = sitk.TranslationTransform(3, (900.0, 0.0, 0.0))
    sitk.WriteTransform(shift, str(tmp_path / "shift.tfm"))
    assert "by the transform of --init" in refused(fixed, moving, "--init", tmp_path / "shift.tfm")


def test_singular_affine(refused, moving, tmp_path):
    flat = nibabel.Nifti1Image(blob(), AFFINE)
    flat.header["srow_z"] = 0
    flat.header["qform_code"] = 0
    nibabel.Nifti1Image(blob(), None, flat.header).to_filename(tmp_path / "flat.nii.gz")
    raw = nibabel.load(tmp_path / "flat.nii.gz")
    assert np.linalg.det(raw.affine) == 0
    assert "affine is singular" in refused(tmp_path / "flat.nii.gz", moving)


def test_channels_differ(refused, fixed, tmp_path):
    two = np.stack([blob(), blob(1)], -1)[:, :, :, None]
    line = refused(fixed, save(tmp_path / "two.nii.gz", two))
    assert "fixed.nii.gz has 1 channels but two.nii.gz has 2" in line


@pytest.mark.parametrize(
    ("option", "kind"),
    [("--fixed-labels", "labels"), ("--moving-labels", "labels"), ("--moving-mask", "mask"), ("--no-partner", "mask")],
)
def test_companion_on_another_grid(refused, fixed, moving, tmp_path, option, kind):
    shifted = AFFINE.copy()
    shifted[0, 3] += 3.5
    other = save(tmp_path / "other.nii.gz", (blob() > 300).astype(np.uint8), shifted)
    good = save(tmp_path / "good.nii.gz", (blob() > 300).astype(np.uint8))
    more = ["--moving-labels", good] if option == "--fixed-labels" else []
    line = refused(fixed, moving, option, other, *more)
    assert f"the {kind} other.nii.gz" in line
    assert "up to 3.5 mm away" in line
    assert "--resample" in line


def test_companion_of_another_shape(refused, fixed, moving, tmp_path):
    mask = save(tmp_path / "mask.nii.gz", np.ones((24, 20, 17), np.uint8))
    assert "has shape 24 x 20 x 17, not 24 x 20 x 18" in refused(fixed, moving, "--fixed-mask", mask)


def test_empty_mask(refused, fixed, moving, tmp_path):
    mask = save(tmp_path / "mask.nii.gz", np.zeros((24, 20, 18), np.uint8))
    assert "the mask is empty" in refused(fixed, moving, "--fixed-mask", mask)


def test_a_mask_of_everything_leaves_nothing_to_compare(refused, fixed, moving, tmp_path):
    mask = save(tmp_path / "mask.nii.gz", np.ones((24, 20, 18), np.uint8))
    assert "mask.nii.gz leaves nothing of" in refused(fixed, moving, "--no-partner", mask)
    assert "mask.nii.gz leaves nothing of" in refused(fixed, moving, "--moving-no-partner", mask)


def test_a_method_without_refinement_does_not_look_for_what_has_no_partner(refused, fixed, moving):
    assert "find_no_partner" in refused(fixed, moving, "--find-no-partner", "--method", "linear")


def test_labels_that_are_an_image(refused, fixed, moving):
    assert "labels must be whole numbers" in refused(fixed, moving, "--moving-labels", moving)


def test_labels_of_one_side(refused, fixed, moving, tmp_path):
    labels = save(tmp_path / "labels.nii.gz", (blob() > 300).astype(np.uint8))
    assert "give --moving-labels too" in refused(fixed, moving, "--fixed-labels", labels)


def write_points(path: Path, rows: list[tuple[float, float, float]]) -> Path:
    path.write_text("x_ras,y_ras,z_ras\n" + "".join(f"{x},{y},{z}\n" for x, y, z in rows))
    return path


def test_points_outside(refused, fixed, moving, tmp_path):
    inside = write_points(tmp_path / "inside.csv", [(0, 0, 0), (5, 5, 5)])
    outside = write_points(tmp_path / "outside.csv", [(0, 0, 0), (0, 0, 300)])
    line = refused(fixed, moving, "--fixed-points", outside, "--moving-points", inside)
    assert "1 of 2 points lie outside fixed.nii.gz (the first at RAS 0.0, 0.0, 300.0 mm)" in line


def test_points_in_the_other_frame(refused, tmp_path):
    affine = AFFINE.copy()
    affine[:2, 3] = 50
    image = save(tmp_path / "image.nii.gz", blob(), affine)
    flipped = write_points(tmp_path / "flipped.csv", [(-60, -70, 0)])
    line = refused(image, image, "--fixed-points", flipped, "--moving-points", flipped)
    assert "with x and y negated all lie inside: LPS taken for RAS, or the reverse" in line


def test_points_of_one_side(refused, fixed, moving, tmp_path):
    points = write_points(tmp_path / "points.csv", [(0, 0, 0)])
    assert "landmarks need both sides" in refused(fixed, moving, "--fixed-points", points)


def test_unknown_setting(refused, fixed, moving):
    line = refused(fixed, moving, "--set", "gian=0.5")
    assert "no setting 'gian' (did you mean 'gain'?); it has: init, gain, rounds, levels, fail" in line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gain=much", "gain must be a number, not 'much'"),
        ("rounds=1.5", "rounds must be a whole number, not '1.5'"),
        ("init=magic", "method 'stub' has no init=magic; choose one of: world, translation"),
        ("levels=4,x", "levels must be a list such as 4,2,1, each a whole number, not '4,x'"),
        ("rounds=", "rounds must be a whole number, not ''"),
        ("gain", "--set wants key=value, not 'gain'"),
        ("gain=1.5", "gain must lie in [0, 1], not 1.5"),
    ],
)
def test_wrong_setting(refused, fixed, moving, given, message):
    assert message in refused(fixed, moving, "--set", given)


def test_unknown_preset_and_method(refused, fixed, moving):
    assert "no preset 'abdomen' (did you mean 'abdomen-ct'?)" in refused(fixed, moving, "--preset", "abdomen")
    assert "there is no method 'syn'" in refused(fixed, moving, method="syn")


def test_device(refused, fixed, moving):
    assert "there is no device 'tpu'" in refused(fixed, moving, "--device", "tpu")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        assert "there is no CUDA GPU" in refused(fixed, moving, "--device", "cuda")


def test_unwritable_out(fixed, moving, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder is needed")
    arguments = ["register", fixed, moving, "--method", "stub", "-o", str(blocked / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: cannot write")
    assert result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, [*arguments[:-1], str(blocked), "--overwrite"])
    assert result.exit_code == 2
    assert "is a file; name a folder for the output" in result.stderr
    assert blocked.read_text() == "a file where a folder is needed"


def test_existing_out(refused, fixed, moving, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("{}")
    assert "already exists; choose another output folder or pass --overwrite" in refused(fixed, moving)
    (out / "result.json").unlink()
    (out / "thesis.tex").write_text("years of work")
    assert "holds files but no result.json" in refused(fixed, moving, "--overwrite")


def test_existing_out_is_refused_before_reading(refused, tmp_path):
    (tmp_path / "out").mkdir()
    assert "already exists" in refused(tmp_path / "nowhere.nii.gz", tmp_path / "nowhere.nii.gz")


def test_overwrite_replaces_the_whole_result(fixed, moving, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("{}")
    (out / "stale.nii.gz").write_bytes(b"old")
    arguments = ["register", fixed, moving, "-o", str(out), "--method", "stub", "--overwrite"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert not (out / "stale.nii.gz").exists()
    assert json.loads((out / "result.json").read_text())["provenance"]["method"] == "stub"


def test_full_disk_is_told_before_the_run(refused, fixed, moving, monkeypatch):
    import shutil

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    line = refused(fixed, moving, code=1)
    assert "the disk is full" in line
    assert "free some space or write elsewhere" in line


def test_disk_that_fills_while_writing(refused, fixed, moving, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nibabel.Nifti1Header, "write_to", full)
    line = refused(fixed, moving, code=1)
    assert line.startswith("error: the disk is full: cannot write")
    assert ".tmp-" not in line


def test_no_memory_is_foreseen(refused, fixed, moving, monkeypatch):
    monkeypatch.setattr("anamorph.runtime.memory.available_bytes", lambda: 100_000_000)
    line = refused(fixed, moving, code=1)
    assert "of memory but 100 MB are free; lower --max-memory" in line


def test_memory_limit(refused, fixed, moving):
    assert "but --max-memory is 100 MB; raise it" in refused(fixed, moving, "--max-memory", "100M")
    assert "wants a size such as 1500M" in refused(fixed, moving, "--max-memory", "much")


def failed_run(fixed: str, moving: str, out: Path, fail: str, *more: str):
    arguments = ["register", fixed, moving, "-o", str(out), "--method", "stub", "--set", f"fail={fail}", *more]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("failure", "error: the scans have nothing in common"),
        ("memory", "error: memory ran out; lower --max-memory"),
        (
            "bug",
            "error: IndexError: list index out of range; this is a fault of anamorph; run again with ANAMORPH_DEBUG",
        ),
    ],
)
def test_failed_run_leaves_only_its_report(fixed, moving, tmp_path, fail, message):
    result = failed_run(fixed, moving, tmp_path / "out", fail)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.endswith(f"report: {tmp_path / 'out' / 'report.html'}\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "result.json"]
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["status"] == "FAILED"
    assert record["verdict"]["reasons"][0] in message + "IndexError: list index out of range" or fail == "memory"
    assert record["verdict"]["reasons"][0] in (tmp_path / "out" / "report.html").read_text()


def test_failed_run_keeps_an_earlier_result(fixed, moving, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("an earlier result")
    result = failed_run(fixed, moving, out, "failure", "--overwrite")
    assert result.exit_code == 1
    assert (out / "result.json").read_text() == "an earlier result"
    assert json.loads((tmp_path / "out-failed" / "result.json").read_text())["status"] == "FAILED"


def test_interrupted(refused, fixed, moving):
    assert refused(fixed, moving, "--set", "fail=interrupt", code=130) == "interrupted; nothing was written"


def test_terminated_process_leaves_nothing(fixed, moving, tmp_path):
    slow = "import time, anamorph.registration.run as p; p.run_plan = lambda *a, **k: time.sleep(60); "
    slow += "from anamorph.methods import METHODS; METHODS.own['stub'] = 'stub_method:Stub'; "
    slow += "from anamorph.cli.main import main; main()"
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "register", fixed, moving, "-o", str(out), "--method", "stub"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": WITH_HELPERS},
    )
    assert process.stderr is not None
    told = ""
    while "registration" not in told and process.poll() is None:
        told += process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=20)[1]
    assert process.returncode == 130, told + rest
    assert "interrupted; nothing was written" in rest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.nii.gz", "moving.nii.gz"]


def test_several_dicom_series(refused, moving, tmp_path):
    folder = tmp_path / "dicom"
    for series in ("1", "2"):
        classic_series(folder, series=series)
    line = refused(folder, moving)
    assert "2 DICOM series" in line
    assert "choose one as" in line
    assert f"{UID}1" in line
    assert f"{UID}2" in line


def test_sheared_affine_works(moving, tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.4
    fixed = save(tmp_path / "sheared.nii.gz", blob(), sheared)
    result = CliRunner().invoke(app, ["register", fixed, moving, "-o", str(tmp_path / "out"), "--method", "stub"])
    assert result.exit_code == 0, result.output
    warped = nibabel.load(tmp_path / "out" / "warped.nii.gz")
    np.testing.assert_allclose(warped.affine, sheared, atol=1e-6)
    # Where the centres are aligned, the blobs coincide up to the shear and their own shift of two voxels.
    assert np.unravel_index(np.argmax(warped.get_fdata()), warped.shape)[1] == pytest.approx(12, abs=1)


def test_apply_and_convert_refuse_an_existing_file(refused, fixed, tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (4.0, 0.0, 0.0)), str(tmp_path / "shift.tfm"))
    target = tmp_path / "target.nii.gz"
    target.write_bytes(b"precious")
    line = refused(tmp_path / "shift.tfm", "--to", fixed, "-o", target, command="apply")
    assert "target.nii.gz already exists" in line
    line = refused(tmp_path / "shift.tfm", "--like", fixed, "-o", target, command="convert")
    assert "already exists" in line


def test_apply_without_a_grid(refused, fixed, tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (4.0, 0.0, 0.0)), str(tmp_path / "shift.tfm"))
    line = refused(tmp_path / "shift.tfm", "--to", fixed, "-o", tmp_path / "target.nii.gz", command="apply")
    assert "no fixed grid of its own; name a scan on that grid with --like" in line
