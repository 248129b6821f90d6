"""The files of deeds against the published reader, written down here index by index from its description."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.files import read_transform, write_transform
from geometries import GRIDS, affine_of, points_inside, rotation, small_affine, smooth_field
from published_deeds_files import TABLE, published_nearest, published_places, save

SIZE = (30, 26, 22)
FIXED = Grid(SIZE, GRIDS["oblique"].affine)
MOVING = Grid(SIZE, affine_of(rotation((5, 70, -12)), (1.4, 1.1, 2.0), (10, -20, 300)))


def read_table(path: Path) -> np.ndarray:
    return np.array([[float(word) for word in line.split()] for line in path.read_text().splitlines()])


@pytest.mark.parametrize("spacing", [1, 2, 4])
@pytest.mark.parametrize("table", [TABLE, None], ids=["matrix", "no matrix"])
def test_images_and_labels_are_warped_as_by_the_published_tool(tmp_path: Path, spacing: int, table) -> None:
    path = save(tmp_path / "pair", SIZE, spacing, table)
    expected = published_places(path, np.eye(4) if table is None else table, SIZE)
    ours = read_transform(path, grid=FIXED, moving_grid=MOVING).moving_positions(FIXED, MOVING)
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    rng = np.random.default_rng(0)
    labels, image = rng.integers(0, 9, (1, *SIZE)).astype(np.int16), rng.normal(0, 100, (1, *SIZE)).astype(np.float32)
    tie = (np.abs(expected % 1 - 0.5) < 1e-3).any(axis=0)
    assert tie.mean() < 0.02
    nearest = sample(labels, ours, "nearest")[0]
    np.testing.assert_array_equal(nearest[~tie], published_nearest(labels[0], expected)[~tie])
    trilinear = map_coordinates(image[0], expected, order=1, mode="nearest")
    np.testing.assert_allclose(sample(image, ours)[0], trilinear, atol=0.15)


@pytest.mark.parametrize(("size", "spacing"), [((22, 19, 17), 3), ((23, 18, 14), 4), ((13, 9, 1), 1)])
def test_sizes_that_are_no_multiple_of_the_spacing(tmp_path: Path, size: tuple[int, int, int], spacing: int) -> None:
    path = save(tmp_path / "pair", size, spacing)
    grid = Grid(size, FIXED.affine)
    transform = read_transform(path, grid=grid)
    expected = published_places(path, TABLE, size, spacing)
    np.testing.assert_allclose(transform.moving_positions(grid, grid), expected, atol=2e-4)


def test_the_matrix_alone_is_the_linear_map_in_voxels(tmp_path: Path) -> None:
    save(tmp_path / "lin", SIZE, 4)
    affine = read_transform(tmp_path / "lin_matrix.txt", grid=FIXED, moving_grid=MOVING)
    assert isinstance(affine, Affine)
    start, reached = np.array([3.0, 4.0, 5.0]), np.array([3.0, 4.0, 5.0, 1.0]) @ TABLE
    mapped = affine.map_world(FIXED.voxel_to_world(start)[None])
    np.testing.assert_allclose(MOVING.world_to_voxel(mapped)[0], reached[:3], atol=1e-9)


@pytest.mark.parametrize("spacing", [1, 2, 4])
@pytest.mark.parametrize("moving", [FIXED, MOVING], ids=["one grid", "two grids"])
def test_import_and_export_give_the_same_files(tmp_path: Path, spacing: int, moving: Grid) -> None:
    path = save(tmp_path / "theirs", SIZE, spacing)
    transform = read_transform(path, grid=FIXED, moving_grid=moving)
    write_transform(transform, tmp_path / "ours_displacements.dat", "deeds", FIXED, moving)
    theirs, ours = (np.fromfile(tmp_path / f"{stem}_displacements.dat", "<f4") for stem in ("theirs", "ours"))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    np.testing.assert_allclose(read_table(tmp_path / "ours_matrix.txt"), TABLE, atol=1e-8)


def test_blocks_are_axis_1_axis_0_axis_2_and_axis_0_runs_fastest(tmp_path: Path) -> None:
    grid = GRIDS["identity"]
    field = np.indices(grid.shape) * np.reshape([1.0, 0.1, 0.01], (3, 1, 1, 1))
    write_transform(Displacement(field, grid), tmp_path / "a_displacements.dat", "deeds", grid)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a_displacements.dat", "a_matrix.txt"]
    raw = np.frombuffer((tmp_path / "a_displacements.dat").read_bytes(), "<f4").reshape(3, -1)
    m, n, _ = grid.shape
    np.testing.assert_allclose(raw[1, :4], [0, 1, 2, 3])
    np.testing.assert_allclose(raw[0, [1, m, 2 * m]], [0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(raw[2, [m, m * n, 2 * m * n]], [0, 0.01, 0.02], atol=1e-6)
    np.testing.assert_array_equal(read_table(tmp_path / "a_matrix.txt"), np.eye(4))


SHIFT = Affine.translation([4.0, -3.0, 2.0])


@pytest.mark.parametrize(
    ("transform", "linear"),
    [
        (smooth_field(FIXED), np.eye(4)),
        (Composite.of(small_affine(FIXED), smooth_field(FIXED)), small_affine(FIXED).matrix),
        (Composite.of(smooth_field(FIXED), small_affine(FIXED)), small_affine(FIXED).matrix),
        (Composite.of(SHIFT, smooth_field(FIXED), small_affine(FIXED)), small_affine(FIXED).matrix @ SHIFT.matrix),
        (smooth_field(Grid((17, 14, 12), MOVING.affine)), np.eye(4)),
    ],
    ids=["field", "affine first", "affine last", "around", "field elsewhere"],
)
def test_what_is_written_is_exact_at_every_voxel(tmp_path: Path, transform: Transform, linear: np.ndarray) -> None:
    path = tmp_path / "a_displacements.dat"
    write_transform(transform, path, "deeds", FIXED, MOVING)
    table = read_table(tmp_path / "a_matrix.txt")
    np.testing.assert_allclose(table.T, np.linalg.inv(MOVING.affine) @ linear @ FIXED.affine, rtol=1e-6, atol=1e-6)
    places = published_places(path, table, SIZE)
    np.testing.assert_allclose(places, transform.moving_positions(FIXED, MOVING), atol=5e-4)
    again = read_transform(path, grid=FIXED, moving_grid=MOVING)
    centres = FIXED.voxel_to_world(np.argwhere(np.ones(SIZE))[::17])
    np.testing.assert_allclose(again.map_world(centres), transform.map_world(centres), atol=1e-3)


def test_an_affine_is_a_matrix_and_zeros_on_the_coarse_grid_of_the_tool(tmp_path: Path) -> None:
    affine = small_affine(FIXED)
    path = tmp_path / "a_displacements.dat"
    write_transform(affine, path, "deeds", FIXED, MOVING)
    assert path.stat().st_size == 12 * 7 * 6 * 5
    np.testing.assert_allclose(
        published_places(path, read_table(tmp_path / "a_matrix.txt"), SIZE),
        affine.moving_positions(FIXED, MOVING),
        atol=5e-4,
    )
    again = read_transform(path, grid=FIXED, moving_grid=MOVING)
    assert isinstance(again, Affine)
    np.testing.assert_allclose(again.matrix, affine.matrix, atol=1e-5)
    # From 5 x 4 x 3 samples on these sizes the published reader would guess a spacing of 5.
    small = Grid((23, 18, 14), FIXED.affine)
    write_transform(affine, path, "deeds", small)
    assert path.stat().st_size == 12 * 7 * 6 * 4
    assert round((23 * 18 * 14 / (7 * 6 * 4)) ** (1 / 3)) == 3


def test_simpleitk_resamples_a_converted_file_as_the_published_tool_does(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(0, 100, SIZE).astype(np.float32)
    for name, grid in (("fixed", FIXED), ("moving", MOVING)):
        nibabel.Nifti1Image(image, grid.affine).to_filename(tmp_path / f"{name}.nii.gz")
    path = save(tmp_path / "pair", SIZE, 4)
    scans = ("--fixed", tmp_path / "fixed.nii.gz", "--moving", tmp_path / "moving.nii.gz")
    for suffix in (".nii.gz", ".h5"):
        run("convert", path, "-o", tmp_path / f"itk{suffix}", *scans)
        if suffix == ".h5":
            itk = sitk.ReadTransform(str(tmp_path / "itk.h5"))
        else:
            itk = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "itk.nii.gz"), sitk.sitkVectorFloat64))
        fixed, moving = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
        warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, itk, sitk.sitkLinear)).transpose(2, 1, 0)
        places = published_places(path, TABLE, SIZE)
        inside = ((places > 0) & (places < np.reshape(SIZE, (3, 1, 1, 1)) - 1)).all(axis=0)
        assert inside.mean() > 0.5
        expected = map_coordinates(image, places, order=1)
        np.testing.assert_allclose(warped[inside], expected[inside], atol=0.3)
    run("convert", tmp_path / "itk.nii.gz", "-o", tmp_path / "back_displacements.dat", *scans)
    again = published_places(tmp_path / "back_displacements.dat", read_table(tmp_path / "back_matrix.txt"), SIZE)
    np.testing.assert_allclose(again, places, atol=1e-3)
    message = run("convert", path, "-o", tmp_path / "back_displacements.dat", *scans, code=2)
    assert "back_displacements.dat already exists" in message
    (tmp_path / "back_displacements.dat").unlink()
    assert "back_matrix.txt already exists" in run(
        "convert", path, "-o", tmp_path / "back_displacements.dat", *scans, code=2
    )


def test_apply_takes_the_files_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (6, 6, 6)), np.ones((5, 5, 4)))[: SIZE[0], : SIZE[1], : SIZE[2]]
    image = rng.normal(0, 100, SIZE).astype(np.float32)
    nibabel.Nifti1Image(image, FIXED.affine).to_filename(tmp_path / "fixed.nii.gz")
    nibabel.Nifti1Image(image, MOVING.affine).to_filename(tmp_path / "moving.nii.gz")
    nibabel.Nifti1Image(labels.astype(np.uint8), MOVING.affine).to_filename(tmp_path / "labels.nii.gz")
    path = save(tmp_path / "pair", SIZE, 4)
    fixed, out = tmp_path / "fixed.nii.gz", tmp_path / "out"
    told = run(
        "apply", path, "--to", tmp_path / "moving.nii.gz", tmp_path / "labels.nii.gz", "--like", fixed, "-o", out
    )
    assert "taken to" not in told
    places = published_places(path, TABLE, SIZE)
    inside = ((places > 0) & (places < np.reshape(SIZE, (3, 1, 1, 1)) - 1)).all(axis=0)
    warped = nibabel.load(out / "moving.nii.gz")
    np.testing.assert_allclose(warped.affine, FIXED.affine, atol=1e-5)
    np.testing.assert_allclose(
        warped.get_fdata()[inside], map_coordinates(image, places, order=1)[inside], atol=0.15, rtol=0
    )
    ours, theirs = nibabel.load(out / "labels.nii.gz").get_fdata(), published_nearest(labels, places)
    assert (ours == theirs)[inside].mean() > 0.9  # ours are interpolated one-hot maps
    point = FIXED.voxel_to_world(np.array([12.0, 10.0, 9.0]))
    (tmp_path / "points.csv").write_text("x_ras,y_ras,z_ras\n" + ",".join(map(str, point)) + "\n")
    moving = ("--moving", tmp_path / "moving.nii.gz")
    run("apply", path, "--to", tmp_path / "points.csv", "--like", fixed, *moving, "-o", tmp_path / "mapped.csv")
    mapped = np.array((tmp_path / "mapped.csv").read_text().splitlines()[1].split(",")[-3:], float)
    np.testing.assert_allclose(MOVING.world_to_voxel(mapped), places[:, 12, 10, 9], atol=2e-3)


def test_what_has_to_be_assumed_is_said(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.random.default_rng(0).random(SIZE), FIXED.affine).to_filename(tmp_path / "fixed.nii.gz")
    path = save(tmp_path / "pair", SIZE, 4, table=None)
    told = run("convert", path, "-o", tmp_path / "t.h5", "--fixed", tmp_path / "fixed.nii.gz")
    assert "no pair_matrix.txt beside it, so taken to have no linear part" in told
    assert "name it with --moving" in told


def test_both_files_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "a_matrix.txt").mkdir()
    with pytest.raises(UserError, match=r"a_matrix\.txt is a folder"):
        write_transform(smooth_field(FIXED), tmp_path / "a_displacements.dat", "deeds", FIXED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a_matrix.txt"]


def test_an_itk_affine_may_be_called_matrix(tmp_path: Path) -> None:
    write_transform(SHIFT, tmp_path / "itk_matrix.txt", "itk-tfm", FIXED)
    points = points_inside(FIXED)
    again = read_transform(tmp_path / "itk_matrix.txt")
    np.testing.assert_allclose(again.map_world(points), SHIFT.map_world(points), atol=1e-9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", "4 lines of 4 numbers"),
        ("hello\n", "4 lines of 4 numbers"),
        ("nan nan nan 0\n" * 3 + "nan nan nan 1\n", "the linear stage of deeds failed"),
        ("1 0 0 5\n0 1 0 6\n0 0 1 7\n0 0 0 1\n", "the translation in the last row"),
        ("1 0 0 0\n1 0 0 0\n0 0 1 0\n0 0 0 1\n", "invertible"),
    ],
)
def test_bad_matrices(tmp_path: Path, content: str, message: str) -> None:
    path = save(tmp_path / "pair", SIZE, 4)
    (tmp_path / "pair_matrix.txt").write_text(content)
    for name in (path, tmp_path / "pair_matrix.txt"):
        with pytest.raises(UserError, match=message):
            read_transform(name, grid=FIXED)


def test_bad_fields_and_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "pair", SIZE, 4)
    other = Grid((31, 26, 22), FIXED.affine)
    with pytest.raises(UserError, match="give the fixed scan"):
        read_transform(path)
    with pytest.raises(UserError, match="of one size, not"):
        read_transform(path, grid=FIXED, moving_grid=other)
    with pytest.raises(UserError, match="of one size, not"):
        write_transform(smooth_field(FIXED), tmp_path / "b_displacements.dat", "deeds", FIXED, other)
    with pytest.raises(UserError, match=r"must end in _displacements\.dat"):
        write_transform(smooth_field(FIXED), tmp_path / "b.dat", "deeds", FIXED)
    with pytest.raises(UserError, match="holds 2520 bytes, which is no control grid of a fixed scan of"):
        read_transform(path, grid=Grid((40, 40, 40), FIXED.affine))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="is the file complete"):
        read_transform(path, grid=FIXED)
    np.full(3 * 7 * 6 * 5, np.nan, "<f4").tofile(path)
    with pytest.raises(UserError, match="not finite"):
        read_transform(path, grid=FIXED)
    assert not (tmp_path / "b_displacements.dat").exists()


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output
