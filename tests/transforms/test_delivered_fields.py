"""The fields of a result lie where they are defined, and ITK maps points by them as we do."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import anamorph
from anamorph.evaluation import RegisteredPair, jacobian_summary
from anamorph.evaluation.metrics.jacobian import non_diffeomorphic_volume_percent
from anamorph.geometry import Grid, slabs
from anamorph.image import Image
from anamorph.methods.refinement import both_directions
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.files import read_transform, write_transform
from anamorph.transforms.files.itk_field import SCAN_GRID, delivered, on_own_grid

RNG = np.random.default_rng(3)
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
FIXED = Grid((31, 26, 22), spacing_mm=(1.0, 1.2, 2.0), origin_mm=(-80, 40, 12), directions=TURN)
MOVING = Grid((24, 28, 33), spacing_mm=1.5, origin_mm=(15, 70, 640), directions=TURN[[1, 2, 0]].T)
CONTROL = FIXED.pooled((4, 4, 2))
LINEAR = np.eye(4)
LINEAR[:3] = [[1.02, 0.1, 0.03, 0], [-0.05, 0.97, 0.02, 0], [0, 0.04, 1.04, 0]]
LINEAR[:3, 3] = MOVING.centre_mm - LINEAR[:3, :3] @ FIXED.centre_mm
START = Affine(LINEAR)


def wavy(grid: Grid, size_vox: float = 0.5) -> Displacement:
    return Displacement(RNG.normal(0, size_vox, (3, *grid.shape)).astype(np.float32), grid)


def points_in(grid: Grid, count: int = 500) -> np.ndarray:
    """Anywhere in the voxels of a scan, their outer corners included."""
    inside = RNG.uniform(-0.5, np.array(grid.shape) - 0.5, (count, 3))
    return np.concatenate([grid.voxel_to_world(inside), grid.centre_mm + 0.9999 * (grid.corners_mm() - grid.centre_mm)])


def farthest_mm(path: Path, transform: Transform, points_mm: np.ndarray) -> float:
    """How far SimpleITK's mapping of points by a file is from that of a transform."""
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    mapped = np.array([theirs.TransformPoint((point * [-1, -1, 1]).tolist()) for point in points_mm]) * [-1, -1, 1]
    return float(np.linalg.norm(mapped - transform.map_world(points_mm), axis=1).max())


def test_simpleitk_maps_points_by_the_delivered_fields_as_we_do(tmp_path: Path) -> None:
    there, back = both_directions(wavy(CONTROL), START, FIXED.pooled((2, 2, 1)), MOVING)
    for name, transform, grid in (("there", there, FIXED), ("back", back, MOVING), ("linear", START, FIXED)):
        field = delivered(transform, grid)
        assert field.grid.shape != grid.shape
        path = tmp_path / f"{name}.nii.gz"
        write_transform(field, path, "itk", field.grid)
        assert farthest_mm(path, transform, points_in(grid)) < 1e-3
        # At the voxels of the scan a dense field says the same.
        dense = on_own_grid(transform, grid, dense=True)
        assert dense.grid == grid
        at_voxels = grid.voxel_to_world(RNG.integers(0, grid.shape, (200, 3)))
        assert np.abs(dense.map_world(at_voxels) - read_transform(path).map_world(at_voxels)).max() < 1e-3


def test_both_directions_undo_each_other() -> None:
    smooth = Displacement(
        np.stack([np.sin(np.indices(CONTROL.shape).sum(axis=0) / 3) * a for a in (0.2, -0.3, 0.2)]), CONTROL
    )
    there, back = both_directions(smooth, START, FIXED.pooled((2, 2, 1)), MOVING)
    points = points_in(FIXED)
    apart = np.linalg.norm(back.map_world(there.map_world(points)) - points, axis=1)
    assert np.median(apart) < 0.05
    # A larger scan on the other side gets points where the leading one reaches alone.
    large = Grid((80, 80, 80), spacing_mm=1.5, origin_mm=MOVING.centre_mm - 60)
    far = both_directions(smooth, START, FIXED.pooled((2, 2, 1)), large)[1]
    assert isinstance(far, Composite)
    assert isinstance(far.parts[0], Displacement)
    assert far.parts[0].grid.longest_mm < 0.6 * large.longest_mm
    apart = np.linalg.norm(far.map_world(there.map_world(points)) - points, axis=1)
    assert np.median(apart) < 0.05


def test_the_inverse_reaches_as_far_as_points_are_moved() -> None:
    across = np.sin(np.indices(CONTROL.shape)[0] / 2)
    moved = Displacement(np.stack([across * 0.3, 4 - across, across * 0.4 - 3]), CONTROL)
    large = Grid((120, 120, 120), spacing_mm=1.0, origin_mm=MOVING.centre_mm - 60)
    there, back = both_directions(moved, START, FIXED.pooled((2, 2, 1)), large)
    points = points_in(FIXED)
    apart_mm = np.linalg.norm(back.map_world(there.map_world(points)) - points, axis=1)
    assert apart_mm.mean() < 0.05
    assert apart_mm.max() < 0.5


def test_an_inverse_has_few_enough_points_to_be_delivered_as_it_is() -> None:
    scan = Grid((80, 72, 76), spacing_mm=2.0)
    start = Affine.translation(np.array([3.0, -2, 1]))
    back = both_directions(wavy(scan.pooled((2, 2, 2)), 0.2), start, scan, scan)[1]
    assert isinstance(back, Composite)
    assert isinstance(back.parts[0], Displacement)
    np.testing.assert_allclose(delivered(back, scan).grid.spacing_mm, back.parts[0].grid.spacing_mm, rtol=1e-6)
    assert back.parts[0].grid.finest_mm < 1.6


def test_an_inverse_is_no_coarser_than_the_comparison_however_large_the_voxels() -> None:
    scan, compared = Grid((56, 50, 53), spacing_mm=2.4), Grid((90, 80, 85), spacing_mm=1.5)
    control = compared.pooled((2, 2, 2))
    back = both_directions(wavy(control, 0.1), Affine.translation(np.ones(3)), compared, scan)[1]
    assert isinstance(back, Composite)
    assert isinstance(back.parts[0], Displacement)
    assert back.parts[0].grid.spacing_mm.max() < 1.55


def test_what_has_no_grid_at_right_angles_is_sampled_at_the_voxels() -> None:
    after = Composite.of(START, wavy(MOVING.pooled((3, 3, 3))))
    assert delivered(after, FIXED).grid == FIXED
    twice = Composite.of(wavy(CONTROL), wavy(CONTROL))
    assert delivered(twice, FIXED).grid == FIXED
    sheared = Grid(FIXED.shape, FIXED.affine @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    assert delivered(wavy(CONTROL), sheared).grid == sheared


@pytest.mark.parametrize("size_vox", [0.1, 1.5])
def test_numbers_in_parts_are_those_of_the_dense_field(monkeypatch: pytest.MonkeyPatch, size_vox: float) -> None:
    there, back = both_directions(wavy(CONTROL, size_vox), START, FIXED.pooled((2, 2, 1)), MOVING)
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 5 * FIXED.shape[1] * FIXED.shape[2])
    pair = RegisteredPair(FIXED, MOVING, delivered(there, FIXED), delivered(back, MOVING))
    dense = RegisteredPair(FIXED, MOVING, there.displacement_on(FIXED), back)
    determinants = dense.jacobian
    assert pair.deformation.summary == pytest.approx(jacobian_summary(determinants), rel=1e-3, abs=0.02)
    found = pair.deformation.non_diffeomorphic_percent
    assert found == pytest.approx(non_diffeomorphic_volume_percent(dense.forward.disp_vox), rel=1e-3)
    assert (found > 0) == (size_vox > 1)
    assert pair.map_steps == (1, 1, 1)
    np.testing.assert_allclose(pair.deformation.determinants, determinants, atol=2e-3)
    for key, value in pair.inconsistency.items():
        assert value == pytest.approx(dense.inconsistency[key], rel=1e-3, abs=1e-3)
    assert pair.outside_percent == pytest.approx(dense.outside_percent, abs=0.02)


def test_maps_are_values_of_the_dense_map_at_some_of_its_voxels() -> None:
    fine = Grid((150, 12, 11), spacing_mm=1.0)
    there = Composite.of(wavy(fine.pooled((6, 6, 6)), 0.1), START)
    pair = RegisteredPair(fine, MOVING, delivered(there, fine))
    step = pair.map_steps
    assert step == (2, 2, 2)  # 64 along the longest side
    assert pair.map_grid.shape == pair.deformation.determinants.shape
    every = there.jacobian_determinant(fine)
    np.testing.assert_allclose(pair.deformation.determinants, every[::2, ::2, ::2], atol=1e-3)
    corner = pair.map_grid.voxel_to_world(np.array([3, 1, 2]))
    np.testing.assert_allclose(fine.world_to_voxel(corner), [6, 2, 4])


def test_a_field_knows_the_grid_of_its_scan_and_no_trap(tmp_path: Path) -> None:
    field = delivered(Composite.of(wavy(CONTROL), START), FIXED)
    path = tmp_path / "field.nii.gz"
    write_transform(field, path, "itk", field.grid)
    found = read_transform(path)
    assert isinstance(found, Displacement)
    assert (found.scan_grid, found.grid) == (FIXED, field.grid)
    for text in (b"[]", b'{"%s": {"shape": [90000, 90000, 9]}}' % SCAN_GRID.encode(), b"\xff"):
        image = nibabel.load(path)
        image.header.extensions[0] = nibabel.nifti1.Nifti1Extension("comment", text)
        nibabel.save(image, tmp_path / "other.nii.gz")
        other = read_transform(tmp_path / "other.nii.gz")
        assert isinstance(other, Displacement)
        assert other.scan_grid is None
    huge = delivered(START, Grid((90_000, 90_000, 90), FIXED.affine))
    write_transform(huge, tmp_path / "huge.nii.gz", "itk", huge.grid)
    assert read_transform(tmp_path / "huge.nii.gz").scan_grid is None


def test_dense_fields_on_demand(tmp_path: Path) -> None:
    values = np.cumsum(RNG.normal(0, 1, (14, 13, 12)), axis=0).astype(np.float32)
    scans = [Image(values, Grid((14, 13, 12), spacing_mm=2.0), name) for name in ("a", "b")]
    result = anamorph.register(*scans, method="linear")
    for dense, shape in ((False, (2, 2, 2)), (True, (14, 13, 12))):
        folder = result.save(tmp_path / f"dense {dense}", dense_fields=dense).folder
        for name in ("fixed_to_moving", "moving_to_fixed"):
            assert nibabel.load(folder / f"{name}.nii.gz").shape[:3] == shape
        assert nibabel.load(folder / "jacobian.nii.gz").shape == (14, 13, 12)
        assert nibabel.load(folder / "inverse_consistency_mm.nii.gz").shape == (14, 13, 12)
        found = read_transform(folder / "fixed_to_moving.nii.gz")
        points = points_in(scans[0].grid, 20)[:20]
        np.testing.assert_allclose(found.map_world(points), result.fixed_to_moving.map_world(points), atol=1e-3)
