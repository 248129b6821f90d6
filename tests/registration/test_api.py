from __future__ import annotations

import hashlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import anamorph
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods import METHODS
from anamorph.registration.plan import make_plan, predicted_peak_bytes
from anamorph.runtime.memory import parse_size
from anamorph.settings import coerce


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


@pytest.fixture
def pair() -> tuple[Image, Image]:
    rng = np.random.default_rng(0)
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])
    moved = affine.copy()
    moved[:3, 3] = [4, -6, 9]
    data = rng.normal(100, 10, (10, 12, 8)).astype(np.float32)
    return Image(data, Grid(data.shape, affine), "a"), Image(data, Grid(data.shape, moved), "b")


def test_every_kind_of_source_gives_the_same_result(pair, tmp_path):
    fixed, moving = pair
    path = tmp_path / "fixed.nii.gz"
    as_nibabel = nibabel.Nifti1Image(fixed.data[0], fixed.grid.affine)
    as_nibabel.to_filename(path)
    as_itk = sitk.ReadImage(str(path))
    point = np.array([[1.0, 2.0, 3.0]])
    hashes = set()
    for source in (fixed, as_nibabel, as_itk, path, str(path)):
        result = anamorph.register(source, moving, method="stub")
        np.testing.assert_allclose(result.fixed_to_moving.apply_points(point), [[5, -4, 12]], atol=1e-5)
        np.testing.assert_allclose(result.moving_to_fixed.apply_points([[5, -4, 12]]), point, atol=1e-5)
        hashes.add(result.provenance["inputs"]["fixed"]["sha256"])
    # SimpleITK keeps spacing and direction apart, so its affine may differ in the last bits.
    assert len(hashes) <= 2


def test_settings_go_before_the_preset_and_into_the_provenance(pair):
    result = anamorph.register(*pair, method="stub", settings={"gain": 0.5}, seed=7)
    assert result.provenance["preset"] == "small-mr"
    assert result.provenance["settings"] == {
        "init": "translation",
        "gain": 0.5,
        "rounds": 5,
        "levels": (4, 2),
        "fail": "",
    }
    assert len(result.trace["aligning"]) == 5
    assert result.provenance["seed"] == 7
    assert result.provenance["device"] == "cpu"
    assert result.provenance["versions"]["numpy"] == np.__version__
    np.testing.assert_allclose(result.fixed_to_moving.apply_points(np.zeros((1, 3))), [[2, -3, 4.5]])
    again = anamorph.register(*pair, method="stub", settings=["gain=0.5", "rounds=3", "levels=8,4,2"])
    assert again.provenance["settings"]["rounds"] == 3
    assert again.provenance["settings"]["levels"] == (8, 4, 2)


def test_input_hash_is_of_values_and_affine(pair):
    fixed, moving = pair
    digest = hashlib.sha256(b"<f4(1, 10, 12, 8)" + fixed.data.tobytes() + fixed.grid.affine.tobytes()).hexdigest()
    result = anamorph.register(fixed, moving, method="stub")
    assert result.provenance["inputs"]["fixed"]["sha256"] == digest
    assert result.provenance["inputs"]["moving"]["sha256"] != digest


def test_preset_the_method_lacks_falls_back():
    data = np.random.default_rng(0).normal(100, 10, (50, 60, 8)).astype(np.float32)
    slices = Image(data, Grid(data.shape, np.diag([2.0, 2.0, 9.0, 1.0])), "thick slices")
    plan = make_plan(slices, slices, method="stub")
    assert (plan.preset, plan.preset_reason) == ("default", "the method has no preset cardiac-mr")


def test_mask_on_another_grid(pair):
    fixed, moving = pair
    weights = np.zeros(moving.grid.shape, np.float32)
    weights[2:] = 1
    mask = Image(weights, moving.grid, "mask")
    with pytest.raises(UserError, match=r"not on the grid of a: it lies up to 11\.5 mm away"):
        anamorph.register(fixed, moving, method="stub", fixed_mask=mask)
    result = anamorph.register(fixed, moving, method="stub", fixed_mask=mask, resample=True)
    assert result.provenance["inputs"]["fixed_mask"]["shape"] == [1, 10, 12, 8]


def test_fields_of_view_apart_are_a_warning_when_the_method_finds_its_start(pair):
    fixed, moving = pair
    far = moving.grid.affine.copy()
    far[2, 3] = 1000
    distant = Image(moving.data, Grid(moving.grid.shape, far), "far")
    result = anamorph.register(fixed, distant, method="stub")
    assert result.warnings[0].startswith("0 % of the fixed field of view lies inside the moving one")
    with pytest.raises(UserError, match="do not overlap"):
        anamorph.register(fixed, distant, method="stub", settings={"init": "world"})


def test_headers_of_files_are_looked_at_and_equal_findings_are_told_once(pair, tmp_path):
    fixed, moving = pair
    elsewhere = fixed.grid.affine.copy()
    elsewhere[1, 3] += 9
    image = nibabel.Nifti1Image(fixed.data[0], None)
    image.set_sform(fixed.grid.affine, 1)
    image.set_qform(elsewhere, 1)
    for name in ("fixed.nii.gz", "mask.nii.gz"):
        image.to_filename(tmp_path / name)
    result = anamorph.register(tmp_path / "fixed.nii.gz", moving, method="stub")
    (warning,) = result.warnings
    assert warning.startswith("fixed fixed.nii.gz: sform (code 1) and qform (code 1) differ by up to 9.0 mm")
    assert anamorph.register(fixed, moving, method="stub").warnings == []
    assert make_plan(fixed, moving, method="stub", sources={"fixed": tmp_path / "gone.nii.gz"}).warnings == ()
    sources = {"fixed": tmp_path / "fixed.nii.gz", "moving": moving, "fixed mask": str(tmp_path / "mask.nii.gz")}
    (warning,) = make_plan(fixed, moving, method="stub", sources=sources).warnings
    assert warning.startswith("fixed fixed.nii.gz, fixed mask mask.nii.gz: sform")


def test_a_sheared_scan_warns_and_an_identity_is_a_note(pair):
    fixed, moving = pair
    sheared = fixed.grid.affine.copy()
    sheared[0, 1] = 0.5
    assert any(
        "axes are sheared" in text
        for text in make_plan(Image(fixed.data, Grid(fixed.grid.shape, sheared), "odd"), moving, method="stub").warnings
    )
    plain = Image(fixed.data, Grid(fixed.grid.shape, np.eye(4)), "plain")
    plan = make_plan(plain, plain, method="stub")
    assert plan.warnings == ()
    assert any(note.startswith("plain: the affine is the identity") for note in plan.notes)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", int, 3),
        ("1e3", int, 1000),
        ("no", bool, False),
        ("0.5", float | None, 0.5),
        ("none", float | None, None),
        ("1,2,3", tuple[float, float, float], (1.0, 2.0, 3.0)),
        ((4, 2), tuple[int, ...], (4, 2)),
    ],
)
def test_coerce(value, kind, expected):
    assert coerce(value, kind) == expected


@pytest.mark.parametrize(("value", "kind"), [("maybe", bool), (True, int), ("1,2", tuple[int, int, int]), ("x", float)])
def test_coerce_refuses(value, kind):
    with pytest.raises(ValueError, match=r".*"):
        coerce(value, kind)


def test_predicted_memory_follows_the_size(pair):
    fixed, moving = pair
    plan = make_plan(fixed, moving, method="stub")
    small = predicted_peak_bytes(plan.method, fixed, moving)
    voxels = 192 * 160 * 256
    large = Image(np.zeros((192, 160, 256), np.int16), Grid((192, 160, 256), np.diag([2.0, 2, 2, 1])))
    # Two float32 fields and a copy of each are the least that is held while they are written.
    assert predicted_peak_bytes(plan.method, large, large) - small > 2 * 2 * 12 * voxels
    assert predicted_peak_bytes(plan.method, large, large) < 2_000_000_000


def test_sizes():
    assert parse_size("1500M") == 1_500_000_000
    assert parse_size("2.5 GB") == 2_500_000_000
