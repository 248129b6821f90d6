"""SimpleITK reads our files and must map points and resample images exactly as we do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.convert import to_simpleitk
from anamorph.transforms import Composite, Transform
from anamorph.transforms.files import read_transform, write_transform
from geometries import GRIDS, SHEARED, other_grid, points_inside, small_affine, smooth_field, textured_image


def load_itk(path: Path) -> sitk.Transform:
    if path.name.endswith((".nii.gz", ".nrrd")):
        return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    return sitk.ReadTransform(str(path))


def mapped_by_itk(transform: sitk.Transform, points_ras: np.ndarray) -> np.ndarray:
    return flip_ras_lps(np.array([transform.TransformPoint(p) for p in flip_ras_lps(points_ras).tolist()]))


def resampled_by_itk(transform: sitk.Transform, moving, grid: Grid) -> np.ndarray:
    reference = to_simpleitk(textured_image(grid))
    out = sitk.Resample(to_simpleitk(moving), reference, transform, sitk.sitkLinear, 7.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(out).transpose(2, 1, 0)


def transform_of(kind: str, grid: Grid) -> Transform:
    if kind == "affine":
        return small_affine(grid)
    if kind == "field":
        return smooth_field(grid)
    return Composite.of(small_affine(grid), smooth_field(grid), small_affine(grid, seed=5))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    ("kind", "file_kind", "suffix"),
    [
        ("affine", "itk-tfm", ".tfm"),
        ("affine", "itk-mat", ".mat"),
        ("affine", "itk-h5", ".h5"),
        ("field", "itk", ".nii.gz"),
        ("field", "itk-h5", ".h5"),
        ("composite", "itk-h5", ".h5"),
    ],
)
def test_itk_maps_points_and_images_as_we_do(tmp_path: Path, name: str, kind: str, file_kind: str, suffix: str) -> None:
    grid, moving_grid = GRIDS[name], other_grid(GRIDS[name])
    transform = transform_of(kind, grid)
    path = tmp_path / f"transform{suffix}"
    write_transform(transform, path, file_kind, grid)
    itk = load_itk(path)

    points = points_inside(grid)
    np.testing.assert_allclose(mapped_by_itk(itk, points), transform.apply_points(points), atol=1e-3)

    moving = textured_image(moving_grid)
    ours = transform.warp_image(moving, grid, background=7.0).data[0]
    differing = np.abs(ours - resampled_by_itk(itk, moving, grid)) > 0.05
    # A position on the very edge of the moving image falls in or out by rounding.
    edge = np.abs(transform.moving_positions(grid, moving_grid) + 0.5) % np.reshape(moving_grid.shape, (3, 1, 1, 1))
    assert not (differing & (edge.min(axis=0) > 1e-3)).any()
    assert (ours != 7.0).sum() > 1000

    again = read_transform(path)
    np.testing.assert_allclose(again.apply_points(points), transform.apply_points(points), atol=1e-3)


def test_a_composite_flattens_to_the_same_map_at_voxel_centres(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    transform = transform_of("composite", grid)
    write_transform(transform, tmp_path / "t.nii.gz", "itk", grid)
    centres = grid.voxel_to_world(np.argwhere(np.ones(grid.shape))[::37])
    itk = mapped_by_itk(load_itk(tmp_path / "t.nii.gz"), centres)
    np.testing.assert_allclose(itk, transform.apply_points(centres), atol=1e-3)


def test_the_order_of_a_composite_survives(tmp_path: Path) -> None:
    grid = GRIDS["flipped"]
    transform = Composite.of(small_affine(grid), smooth_field(grid))
    write_transform(transform, tmp_path / "t.h5", "itk-h5", grid)
    again = read_transform(tmp_path / "t.h5")
    assert isinstance(again, Composite)
    assert [type(part).__name__ for part in again.parts] == ["Affine", "Displacement"]
    swapped = Composite.of(*reversed(transform.parts))
    points = points_inside(grid)
    assert np.abs(transform.apply_points(points) - swapped.apply_points(points)).max() > 0.1
    assert sitk.ReadTransform(str(tmp_path / "t.h5")).GetName() == "CompositeTransform"


@pytest.mark.parametrize("suffix", [".nii.gz", ".h5"])
def test_a_sheared_grid_becomes_an_orthogonal_one(tmp_path: Path, suffix: str) -> None:
    transform = smooth_field(SHEARED)
    path = tmp_path / f"t{suffix}"
    write_transform(transform, path, "itk" if suffix == ".nii.gz" else "itk-h5", SHEARED)
    points = points_inside(SHEARED)
    ours, itk = transform.apply_points(points), mapped_by_itk(load_itk(path), points)
    assert np.abs(ours - points).mean() > 0.5
    # Resampled once more: equal up to the curvature of the field within a voxel.
    assert np.abs(ours - itk).mean() < 0.05
    assert np.abs(ours - itk).max() < 0.3


@pytest.mark.parametrize(
    "itk",
    [
        sitk.TranslationTransform(3, (1.0, -2.0, 3.0)),
        sitk.Euler3DTransform((4.0, 5.0, 6.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0)),
        sitk.VersorRigid3DTransform((0.0, 0.6, 0.8), 0.4, (1.0, 2.0, 3.0), (9.0, 8.0, 7.0)),
        sitk.Similarity3DTransform(1.3, (0.0, 1.0, 0.0), 0.2, (3.0, 2.0, 1.0), (5.0, 5.0, 5.0)),
        sitk.AffineTransform((1.1, 0.1, 0, -0.1, 0.9, 0, 0.05, 0, 1), (1.0, 2.0, 3.0), (30.0, -20.0, 10.0)),
    ],
    ids=lambda itk: itk.GetName(),
)
@pytest.mark.parametrize("suffix", [".tfm", ".mat", ".h5"])
def test_we_read_every_linear_itk_transform(tmp_path: Path, itk: sitk.Transform, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    sitk.WriteTransform(itk, str(path))
    points = points_inside(GRIDS["oblique"])
    np.testing.assert_allclose(read_transform(path).apply_points(points), mapped_by_itk(itk, points), atol=1e-6)


@pytest.mark.parametrize("composite", [False, True])
def test_we_read_itk_fields_and_composites(tmp_path: Path, composite: bool) -> None:
    grid = GRIDS["oblique"]
    write_transform(smooth_field(grid), tmp_path / "ours.nii.gz", "itk", grid)
    itk = load_itk(tmp_path / "ours.nii.gz")
    if composite:
        # Added last, applied first.
        itk = sitk.CompositeTransform([itk, sitk.Euler3DTransform((4.0, 5.0, 6.0), 0.02, -0.03, 0.01)])
    sitk.WriteTransform(itk, str(tmp_path / "theirs.h5"))
    points = points_inside(grid)
    ours = read_transform(tmp_path / "theirs.h5").apply_points(points)
    inside = grid.contains(sitk_first(itk, points) if composite else points, margin_vox=0)
    assert inside.sum() > 50
    np.testing.assert_allclose(ours[inside], mapped_by_itk(itk, points)[inside], atol=1e-3)


def sitk_first(itk: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return mapped_by_itk(sitk.CompositeTransform(itk).GetNthTransform(1), points)


def test_we_read_itk_composites_as_text(tmp_path: Path) -> None:
    itk = sitk.CompositeTransform(
        [sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.1, 0.2, 0.3)]
    )
    sitk.WriteTransform(itk, str(tmp_path / "t.tfm"))
    points = points_inside(GRIDS["flipped"])
    ours = read_transform(tmp_path / "t.tfm").apply_points(points)
    np.testing.assert_allclose(ours, mapped_by_itk(itk, points), atol=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_we_read_fields_that_itk_wrote_as_images(tmp_path: Path, suffix: str) -> None:
    grid = GRIDS["oblique"]
    write_transform(smooth_field(grid), tmp_path / "ours.nii.gz", "itk", grid)
    field = sitk.ReadImage(str(tmp_path / "ours.nii.gz"), sitk.sitkVectorFloat32)
    sitk.WriteImage(field, str(tmp_path / f"theirs{suffix}"))
    points = points_inside(grid)
    again = read_transform(tmp_path / f"theirs{suffix}").apply_points(points)
    np.testing.assert_allclose(again, smooth_field(grid).apply_points(points), atol=1e-3)


def test_a_field_of_one_slice_maps_as_in_itk(tmp_path: Path) -> None:
    grid = Grid((21, 18, 1), GRIDS["oblique"].affine)
    transform = smooth_field(grid)
    write_transform(transform, tmp_path / "t.h5", "itk-h5", grid)
    points = points_inside(grid)
    itk = mapped_by_itk(load_itk(tmp_path / "t.h5"), points)
    np.testing.assert_allclose(itk, transform.apply_points(points), atol=1e-3)
    write_transform(transform, tmp_path / "t.nii.gz", "itk", grid)
    again = read_transform(tmp_path / "t.nii.gz").apply_points(points)
    np.testing.assert_allclose(again, transform.apply_points(points), atol=1e-3)
