"""Formats without an oracle, damaged files, what readers refuse; ``test_interop_simpleitk.py`` has the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates, zoom
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.transforms import Affine, Composite, Displacement
from anamorph.transforms.files import FORMATS, read_transform, write_transform
from anamorph.transforms.files.itk_field import orthogonal_cover
from geometries import GRIDS, SHEARED, other_grid, points_inside, small_affine, smooth_field, textured_image

GRID = GRIDS["oblique"]
EVEN = Grid((20, 18, 14), GRID.affine)


@pytest.mark.parametrize("kind", ["itk", "itk-h5", "learn2reg", "learn2reg-npz", "niftyreg", "elastix"])
@pytest.mark.parametrize("name", GRIDS)
def test_every_dense_format_is_read_again(tmp_path: Path, kind: str, name: str) -> None:
    grid = GRIDS[name]
    transform = Composite.of(small_affine(grid), smooth_field(grid))
    path = tmp_path / f"t{FORMATS.find(kind).suffixes[0]}"
    write_transform(transform, path, kind, grid)
    again = read_transform(path, grid=grid)
    centres = grid.voxel_to_world(np.argwhere(np.ones(grid.shape))[::17])
    np.testing.assert_allclose(again.map_world(centres), transform.map_world(centres), atol=1e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".npz"])
def test_learn2reg_fields_warp_as_its_evaluator_does(tmp_path: Path, suffix: str) -> None:
    transform = smooth_field(GRID)
    moving = textured_image(GRID)
    write_transform(
        transform, tmp_path / f"disp{suffix}", "learn2reg" if suffix == ".nii.gz" else "learn2reg-npz", GRID
    )
    if suffix == ".nii.gz":
        disp = nibabel.load(tmp_path / "disp.nii.gz").get_fdata()
    else:
        with np.load(tmp_path / "disp.npz") as content:
            (disp,) = content.values()
    assert disp.shape == (*GRID.shape, 3)
    places = np.moveaxis(disp, -1, 0) + np.indices(GRID.shape)
    expected = map_coordinates(moving.data[0], places, order=1, mode="nearest")
    inside = ((places >= 0) & (places <= np.reshape(GRID.shape, (3, 1, 1, 1)) - 1)).all(axis=0)
    ours = transform.warp_image(moving, GRID).data[0]
    np.testing.assert_allclose(ours[inside], expected[inside], atol=0.01)
    assert inside.mean() > 0.5


def test_learn2reg_counts_in_voxels_of_the_moving_image(tmp_path: Path) -> None:
    moving_grid = Grid(GRID.shape, other_grid(GRID).affine)
    transform = smooth_field(GRID)
    write_transform(transform, tmp_path / "d.nii.gz", "learn2reg", GRID, moving_grid)
    disp = nibabel.load(tmp_path / "d.nii.gz").get_fdata()
    place = moving_grid.world_to_voxel(transform.map_world(GRID.voxel_to_world([[3, 4, 5]])))[0]
    np.testing.assert_allclose(disp[3, 4, 5], place - [3, 4, 5], atol=1e-3)
    again = read_transform(tmp_path / "d.nii.gz", grid=GRID, moving_grid=moving_grid)
    points = points_inside(GRID)
    np.testing.assert_allclose(again.map_world(points), transform.map_world(points), atol=1e-3)
    with pytest.raises(UserError, match="images of one shape"):
        write_transform(transform, tmp_path / "d.nii.gz", "learn2reg", GRID, other_grid(GRID))


def test_learn2reg_2020_is_half_size_in_full_voxels(tmp_path: Path) -> None:
    transform = smooth_field(EVEN)
    write_transform(transform, tmp_path / "disp.npz", "learn2reg-2020-npz", EVEN)
    with np.load(tmp_path / "disp.npz") as content:
        field = content["arr_0"]
    assert field.shape == (3, 10, 9, 7)
    assert field.dtype == np.float16
    # First and last samples are first and last voxels; values are not halved.
    np.testing.assert_allclose(field[:, 0, 0, 0], transform.disp_vox[:, 0, 0, 0], atol=2e-3)
    np.testing.assert_allclose(field[:, -1, -1, -1], transform.disp_vox[:, -1, -1, -1], atol=2e-3)
    again = read_transform(tmp_path / "disp.npz", grid=EVEN)
    assert isinstance(again, Displacement)
    evaluator = np.stack([zoom(component.astype(np.float32), 2, order=2) for component in field])
    np.testing.assert_allclose(again.disp_vox, evaluator, atol=1e-5)
    assert np.abs(again.disp_vox - transform.disp_vox).mean() < 0.05
    with pytest.raises(UserError, match="even sizes"):
        write_transform(smooth_field(GRID), tmp_path / "odd.npz", "learn2reg-2020-npz", GRID)


def test_full_resolution_channels_first_npz_is_understood(tmp_path: Path) -> None:
    field = smooth_field(EVEN)
    np.savez(tmp_path / "disp.npz", field.disp_vox)
    np.testing.assert_array_equal(read_transform(tmp_path / "disp.npz", grid=EVEN).disp_vox, field.disp_vox)


def test_nifti_intent_decides_the_frame_of_the_vectors(tmp_path: Path) -> None:
    field = smooth_field(GRID)
    write_transform(field, tmp_path / "lps.nii.gz", "itk", GRID)
    lps = nibabel.load(tmp_path / "lps.nii.gz")
    assert lps.shape == (*GRID.shape, 1, 3)
    assert lps.header["intent_code"] == 1007
    assert lps.get_data_dtype() == np.float32
    ras = nibabel.Nifti1Image(lps.get_fdata().astype(np.float32) * (-1, -1, 1), lps.affine, lps.header)
    ras.header.set_intent(1006)
    ras.to_filename(tmp_path / "ras.nii.gz")
    np.testing.assert_allclose(read_transform(tmp_path / "ras.nii.gz").disp_vox, field.disp_vox, atol=1e-4)
    ras.header.set_intent(0)
    ras.to_filename(tmp_path / "none.nii.gz")
    with pytest.raises(UserError, match="intent code 0"):
        read_transform(tmp_path / "none.nii.gz")


def test_old_spelling_and_single_precision_of_hdf5_are_read(tmp_path: Path) -> None:
    field = smooth_field(GRID)
    write_transform(field, tmp_path / "new.h5", "itk-h5", GRID)
    with h5py.File(tmp_path / "new.h5") as new, h5py.File(tmp_path / "old.h5", "w") as old:
        group = new["TransformGroup/1"]
        old["TransformGroup/0/TransformType"] = np.array(["DisplacementFieldTransform_float_3_3"], "S36")
        old["TransformGroup/0/TranformParameters"] = group["TransformParameters"][()].astype(np.float32)
        old["TransformGroup/0/TranformFixedParameters"] = group["TransformFixedParameters"][()].astype(np.float32)
    again = read_transform(tmp_path / "old.h5")
    assert isinstance(again, Displacement)
    np.testing.assert_allclose(again.disp_vox, field.disp_vox, atol=1e-4)


def test_the_orthogonal_cover_covers() -> None:
    assert orthogonal_cover(GRID) is GRID
    cover = orthogonal_cover(SHEARED)
    assert not cover.is_sheared
    np.testing.assert_allclose(cover.spacing_mm, SHEARED.spacing_mm)
    assert cover.contains(SHEARED.corners_mm(), margin_vox=0.5 + 1e-6).all()
    assert np.prod(cover.shape) < 3 * np.prod(SHEARED.shape)


def test_affine_formats_refuse_what_deforms_and_fold_in_chains(tmp_path: Path) -> None:
    chain = Composite((small_affine(GRID), small_affine(GRID, 9)))
    for name in ("t.tfm", "t.txt", "t.mat"):
        write_transform(chain, tmp_path / name, "itk-tfm", GRID)
        again = read_transform(tmp_path / name)
        assert isinstance(again, Affine)
        np.testing.assert_allclose(
            again.map_world(points_inside(GRID)), chain.map_world(points_inside(GRID)), atol=1e-9
        )
    with pytest.raises(UserError, match="choose itk or itk-h5"):
        write_transform(smooth_field(GRID), tmp_path / "d.tfm", "itk-tfm", GRID)
    assert not (tmp_path / "d.tfm").exists()


def test_bad_transform_files(tmp_path: Path) -> None:
    write_transform(smooth_field(GRID), tmp_path / "whole.h5", "itk-h5", GRID)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:3000])
    write_transform(smooth_field(GRID), tmp_path / "whole.nii.gz", "itk", GRID)
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:3000])
    nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    (tmp_path / "flirt.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "spline.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: BSplineTransform_double_3_3\n"
        "Parameters: 0\nFixedParameters: 0\n"
    )
    (tmp_path / "text.npz").write_text("x")
    np.savez(tmp_path / "other.npz", np.zeros((3, 4, 4, 4)))
    (tmp_path / "warp.xfm").write_text("x")
    expected = {
        "nowhere.h5": "no such file",
        "cut.h5": "cannot be read as a transform",
        "cut.nii.gz": "cannot be read as a transform",
        "scan.nii.gz": "no displacement field",
        "flirt.mat": "give the moving scan too",
        "notes.txt": "no ITK transform",
        "spline.tfm": "BSplineTransform",
        "text.npz": "cannot be read as a transform",
        "other.npz": "not half the size",
        "warp.xfm": r"unknown transform format; known suffixes are \.nii\.gz",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as caught:
            read_transform(tmp_path / name, grid=GRID)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    with pytest.raises(UserError, match="give the fixed image"):
        read_transform(tmp_path / "other.npz")


def test_unknown_kinds_and_wrong_suffixes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of: itk, itk-h5"):
        write_transform(small_affine(GRID), tmp_path / "t.h5", "fsh", GRID)
    with pytest.raises(UserError, match=r"must end in \.h5"):
        write_transform(small_affine(GRID), tmp_path / "t.nii.gz", "itk-h5", GRID)


@pytest.mark.parametrize("in_composite", [False, True])
def test_fields_that_itk_smooths_are_dense_fields(tmp_path: Path, in_composite: bool) -> None:
    field = sitk.DisplacementFieldTransform(
        sitk.Cast(sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 2, (6, 7, 8, 3)), isVector=True),
                  sitk.sitkVectorFloat64)
    )  # fmt: skip
    field.SetSmoothingGaussianOnUpdate()
    oracle = field
    if in_composite:
        oracle = sitk.CompositeTransform([field, sitk.TranslationTransform(3, (1.0, -2.0, 0.5))])
    sitk.WriteTransform(oracle, str(tmp_path / "t.h5"))
    with h5py.File(tmp_path / "t.h5") as file:
        names = [group["TransformType"][0].decode() for group in file["TransformGroup"].values()]
    assert any("GaussianSmoothingOnUpdateDisplacementField" in name for name in names)
    points_lps = np.random.default_rng(1).uniform(1.5, 3.5, (9, 3))
    expected = [oracle.TransformPoint(point) for point in points_lps.tolist()]
    mapped = read_transform(tmp_path / "t.h5").apply_points(points_lps, frame="lps")
    np.testing.assert_allclose(mapped, expected, atol=1e-4)


def test_bspline_smoothing_is_read_and_other_deforming_kinds_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_transform(smooth_field(GRID), path, "itk-h5", GRID)
    inside = points_inside(GRID)
    expected = read_transform(path).map_world(inside)
    for kind in (
        "BSplineSmoothingOnUpdateDisplacementField",
        "TimeVaryingVelocityField",
        "GaussianExponentialDiffeomorphic",
    ):
        with h5py.File(path, "r+") as file:
            file["TransformGroup/1/TransformType"][0] = f"{kind}Transform_double_3_3"
        if kind.startswith("BSpline"):
            np.testing.assert_array_equal(read_transform(path).map_world(inside), expected)
        else:
            with pytest.raises(UserError, match=f"holds a {kind}Transform_double_3_3, which is not supported"):
                read_transform(path)


def test_small_files_of_many_values_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_transform(smooth_field(GRID), path, "itk-h5", GRID)
    with h5py.File(path, "r+") as file:
        group = file["TransformGroup/1"]
        del group["TransformParameters"]
        group.create_dataset("TransformParameters", (2**40,), "f8", chunks=(1000,), compression="gzip")
    with pytest.raises(UserError, match="would unpack to 8796093 MB"):
        read_transform(path)
    (tmp_path / "t.tfm").write_bytes(b"#Insight Transform File V1.0\n" + b"1 " * 9_000_000)
    with pytest.raises(UserError, match="18 MB are no linear transform"):
        read_transform(tmp_path / "t.tfm")


@pytest.mark.parametrize("values", ["nan 0 0 0 1 0 0 0 1 0 0 0", "1 0 0 0 1 0 0 0 0 0 0 0", "1 0 0", "x"])
def test_affines_without_an_inverse_or_numbers_are_refused(tmp_path: Path, values: str) -> None:
    path = tmp_path / "t.tfm"
    path.write_text(f"#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: {values}\n"
                    "FixedParameters: 0 0 0\n")  # fmt: skip
    with pytest.raises(UserError) as caught:
        read_transform(path)
    assert len(str(caught.value).splitlines()) == 1
    path.write_text("#Insight Transform File V1.0\nParameters: 1\n")
    with pytest.raises(UserError, match="belongs to no transform"):
        read_transform(path)


@pytest.mark.parametrize(("kind", "name"), [("itk", "t.nii.gz"), ("itk-h5", "t.h5")])
def test_files_keep_whose_points_they_map(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    transform = smooth_field(GRID)
    write_transform(transform, path, kind, GRID)
    assert read_transform(path).maps is None
    write_transform(transform.between("moving", "fixed"), path, kind, GRID)
    again = read_transform(path)
    assert again.maps == ("moving", "fixed")
    assert "(moving -> fixed, " in repr(again)
    assert "(fixed -> moving, " in repr(again.inverse())
    oracle = sitk.ReadTransform(str(path)) if kind == "itk-h5" else sitk.DisplacementFieldTransform(
        sitk.ReadImage(str(path), sitk.sitkVectorFloat64))  # fmt: skip
    point = points_inside(GRID)[:1]
    mapped = oracle.TransformPoint((point * (-1, -1, 1))[0].tolist())
    np.testing.assert_allclose(again.map_world(point)[0] * (-1, -1, 1), mapped, atol=1e-3)


TOY = """
import json
from pathlib import Path

import numpy as np

from anamorph.transforms import Affine
from anamorph.transforms.files import OtherFormat, TransformFormat


def write(transform, path, fixed_grid, moving_grid):
    Path(path).write_text(json.dumps(transform.matrix.tolist()))


def read(path, grid, moving_grid):
    text = Path(path).read_text()
    if not text.startswith("["):
        raise OtherFormat("no toy")
    return Affine(np.array(json.loads(text)))


TOY = TransformFormat("a matrix as JSON: toys", (".toy", ".txt"), write=write, read=read, dense=False)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that adds a format."""
    site = tmp_path / "site"
    (site / "toys-1.0.dist-info").mkdir(parents=True)
    (site / "toys.py").write_text(TOY)
    (site / "toys-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (site / "toys-1.0.dist-info" / "entry_points.txt").write_text("[anamorph.transform_formats]\ntoy = toys:TOY\n")
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("toys", None)


def test_a_format_of_another_package_is_written_read_and_listed(toy: None, tmp_path: Path) -> None:
    affine = small_affine(GRID)
    write_transform(affine, tmp_path / "t.toy", "toy", GRID)
    again = read_transform(tmp_path / "t.toy")
    assert isinstance(again, Affine)
    np.testing.assert_array_equal(again.matrix, affine.matrix)
    assert [*FORMATS][-1] == "toy"
    with pytest.raises(UserError, match=r"no transform format 'toi' \(did you mean 'toy'\?\); choose one of: itk"):
        write_transform(affine, tmp_path / "t.toy", "toi", GRID)
    with pytest.raises(UserError, match=r"must end in \.toy or \.txt"):
        write_transform(affine, tmp_path / "t.json", "toy", GRID)


def test_convert_takes_a_format_of_another_package_by_the_suffix(toy: None, tmp_path: Path) -> None:
    write_transform(small_affine(GRID), tmp_path / "t.tfm", "itk-tfm", GRID)
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "t.tfm"), "-o", str(tmp_path / "t.toy")])
    assert done.exit_code == 0
    assert "toy, a matrix as JSON: toys" in done.output
    np.testing.assert_allclose(read_transform(tmp_path / "t.toy").matrix, small_affine(GRID).matrix, atol=1e-12)


def test_a_shared_suffix_is_told_apart_by_what_readers_decline(toy: None, tmp_path: Path) -> None:
    (tmp_path / "t_matrix.txt").write_text("#Insight Transform File V1.0\n")
    with pytest.raises(UserError, match="separate transforms"):  # an affine of ITK, though deeds reads this suffix
        read_transform(tmp_path / "t_matrix.txt", grid=GRID)
    nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.eye(4)).to_filename(tmp_path / "scan.nii")
    with pytest.raises(UserError, match=r"scan\.nii: holds an array of shape \(3, 4, 5\), no displacement field"):
        read_transform(tmp_path / "scan.nii")


def test_a_package_that_cannot_be_imported_spoils_no_format_of_this_one(toy: None, tmp_path: Path) -> None:
    (tmp_path / "site" / "toys.py").write_text("raise ImportError('no toys today')")
    write_transform(small_affine(GRID), tmp_path / "t.tfm", "itk-tfm", GRID)
    assert isinstance(read_transform(tmp_path / "t.tfm"), Affine)
    with pytest.raises(UserError, match=r"'toy' of the package toys cannot be loaded: no toys today"):
        write_transform(small_affine(GRID), tmp_path / "t.toy", "toy", GRID)
