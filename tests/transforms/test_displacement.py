from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import advance_affine
from anamorph.image import Image, Labels
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.fields import jacobian_determinant
from geometries import GRIDS, SHEARED, other_grid, smooth_field, textured_image


def shift(grid: Grid, vox: tuple[float, float, float]) -> Displacement:
    return Displacement(np.broadcast_to(np.reshape(vox, (3, 1, 1, 1)), (3, *grid.shape)), grid)


@pytest.mark.parametrize("grid", [*GRIDS.values(), SHEARED])
def test_points_move_by_the_field_in_millimetres(grid: Grid) -> None:
    field = smooth_field(grid)
    site = (4, 7, 3)
    at = grid.voxel_to_world(site)
    expected = at + grid.affine[:3, :3] @ field.disp_vox[(slice(None), *site)]
    np.testing.assert_allclose(field.map_world(at[None])[0], expected, atol=1e-4)
    np.testing.assert_allclose(field.vectors_mm()[(slice(None), *site)], expected - at, atol=1e-4)
    np.testing.assert_allclose(Displacement.from_world(field.vectors_mm(), grid).disp_vox, field.disp_vox, atol=1e-5)


def test_beyond_the_grid_the_border_continues() -> None:
    grid = GRIDS["oblique"]
    field = smooth_field(grid)
    outside = grid.voxel_to_world([[-9.0, 4, 5]])
    moved = grid.world_to_voxel(field.map_world(outside))[0] - [-9, 4, 5]
    np.testing.assert_allclose(moved, field.disp_vox[:, 0, 4, 5], atol=1e-4)


@pytest.mark.parametrize("name", GRIDS)
def test_another_grid_sees_the_same_map(name: str) -> None:
    field, other = smooth_field(GRIDS[name]), other_grid(GRIDS[name])
    seen = field.displacement_on(other)
    centres = other.voxel_to_world(np.argwhere(np.ones(other.shape))[::7])
    np.testing.assert_allclose(seen.map_world(centres), field.map_world(centres), atol=1e-3)
    positions = field.moving_positions(GRIDS[name], other)[:, 3, 4, 5]
    mapped = field.map_world(GRIDS[name].voxel_to_world([[3, 4, 5]]))
    np.testing.assert_allclose(positions, other.world_to_voxel(mapped)[0], atol=1e-3)


def test_warping_by_whole_voxels_copies_them_and_fills_the_rest() -> None:
    grid = GRIDS["flipped"]
    image = textured_image(grid, np.int16)
    out = shift(grid, (2, 0, -1)).warp_image(image, grid)
    assert out.data.dtype == np.int16
    assert out.grid == grid
    np.testing.assert_array_equal(out.data[0, :-2, :, 1:], image.data[0, 2:, :, :-1])
    np.testing.assert_array_equal(out.data[0, -2:], image.data.min())


def test_ct_is_filled_with_air_and_a_given_background_wins() -> None:
    grid = GRIDS["identity"]
    values = np.linspace(-1000, 1500, np.prod(grid.shape)).reshape(grid.shape)
    ct = Image(values.astype(np.int16), grid)
    assert shift(grid, (30, 0, 0)).warp_image(ct, grid).data.max() == -1000
    padded = ct.with_data(np.where(values < -990, -3024, values).astype(np.int16))
    assert set(np.unique(shift(grid, (30, 0, 0)).warp_image(padded, grid).data)) == {-1024}
    assert shift(grid, (30, 0, 0)).warp_image(ct, grid, background=5).data.min() == 5


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, bool])
def test_the_dtype_survives_rounded_and_clipped(dtype: type, interpolation: str) -> None:
    grid = GRIDS["identity"]
    values = textured_image(grid).data
    image = Image((values > 200 if dtype is bool else values).astype(dtype), grid)
    out = shift(grid, (0.5, 0, 0)).warp_image(image, grid, interpolation=interpolation, background=-3)
    assert out.data.dtype == dtype
    middle = image.data[0].astype(float)
    if interpolation == "linear" and dtype is not bool:
        expected = (middle[4, 5, 6] + middle[5, 5, 6]) / 2
        assert abs(out.data[0, 4, 5, 6] - expected) <= (0.5 if np.issubdtype(dtype, np.integer) else 1e-3)
    if np.issubdtype(dtype, np.unsignedinteger):
        assert shift(grid, (40, 0, 0)).warp_image(image, grid, -3, interpolation).data.max() == 0


def test_the_largest_integers_do_not_wrap() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    image = Image(np.full((2, 2, 2), np.iinfo(np.int32).max, np.int32), grid)
    assert shift(grid, (0.5, 0, 0)).warp_image(image, grid).data.min() > 2_147_483_000


def test_labels_by_linear_one_hot_keep_a_smooth_outline() -> None:
    grid = Grid((24, 24, 24), np.eye(4))
    ball = (np.linalg.norm(np.indices(grid.shape) - 11.5, axis=0) < 6).astype(np.uint8) * 5
    labels = Labels(ball, grid)
    out = shift(grid, (0.4, 0.3, 0)).warp_labels(labels, grid)
    assert out.data.dtype == np.uint8
    assert out.present() == [5]
    assert abs(int((out.data > 0).sum()) - int((ball > 0).sum())) < 0.03 * (ball > 0).sum()
    nearest = shift(grid, (0.4, 0.3, 0)).warp_labels(labels, grid, "nearest")
    np.testing.assert_array_equal(nearest.data[0], ball)


def test_jacobian_of_known_maps() -> None:
    grid = Grid((9, 8, 7), np.diag([2.0, 1, 3, 1]))
    axes = np.indices(grid.shape).astype(np.float32)
    np.testing.assert_allclose(Displacement(axes * 0.2, grid).jacobian_determinant(), 1.728, rtol=1e-5)
    shear = np.zeros_like(axes)
    shear[0] = 0.7 * axes[1]
    np.testing.assert_allclose(Displacement(shear, grid).jacobian_determinant(), 1, rtol=1e-5)
    folded = np.zeros_like(axes)
    folded[0] = -1.5 * np.clip(axes[0] - 4, 0, None)
    jacobian = Displacement(folded, grid).jacobian_determinant()
    np.testing.assert_allclose(jacobian[:4], 1, rtol=1e-6)
    np.testing.assert_allclose(jacobian[5:], -0.5, rtol=1e-5)
    np.testing.assert_allclose(jacobian[4], 0.25, rtol=1e-5)


def test_the_jacobian_is_the_volume_change_of_the_mapped_cell() -> None:
    grid = GRIDS["oblique"]
    field = smooth_field(grid)
    centre = np.array([10, 9, 7])
    step = np.eye(3)
    ends = field.map_world(grid.voxel_to_world(np.concatenate([centre + step, centre - step])))
    volume = np.linalg.det((ends[:3] - ends[3:]).T / 2) / np.linalg.det(grid.affine[:3, :3])
    assert field.jacobian_determinant()[tuple(centre)] == pytest.approx(volume, rel=1e-4)
    assert field.jacobian_determinant().min() > 0


def test_a_plane_image_warps_within_its_plane() -> None:
    grid = Grid((20, 16, 1), np.diag([1.0, 1, 5, 1]))
    image = textured_image(grid, np.uint8)
    field = shift(grid, (3, -2, 0))
    out = field.warp_image(image, grid)
    np.testing.assert_array_equal(out.data[0, :-3, 2:], image.data[0, 3:, :-2])
    np.testing.assert_array_equal(field.jacobian_determinant(), 1)


def test_fields_that_do_not_fit_are_refused() -> None:
    grid = GRIDS["identity"]
    with pytest.raises(UserError, match="does not fit"):
        Displacement(np.zeros((3, 4, 4, 4)), grid)
    bad = np.zeros((3, *grid.shape))
    bad[0, 1, 1, 1] = np.nan
    with pytest.raises(UserError, match="not finite"):
        Displacement(bad, grid)


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 2, 1)])
def test_the_change_of_volume_is_the_one_of_the_readable_twin(shape: tuple[int, int, int]) -> None:
    disp_vox = np.random.default_rng(0).normal(scale=0.3, size=(3, *shape)).astype(np.float32)
    twin = jacobian_determinant(torch.from_numpy(disp_vox))
    np.testing.assert_allclose(jacobian_determinant(disp_vox), twin, atol=1e-5)


@pytest.mark.parametrize("flip", [1, -1])
def test_places_on_a_grid_with_the_same_axes_are_those_of_places_anywhere(flip: int) -> None:
    own = GRIDS["oblique"]
    field = smooth_field(own)
    affine = own.affine.copy()
    affine[:3, :3] *= [0.4 * flip, 0.7, 1.3]
    affine[:3, 3] += own.affine[:3, :3] @ [own.shape[0] * 0.8 if flip < 0 else -1.5, 0.3, -2.0]
    fine, moving = Grid((21, 17, 9), affine), other_grid(own)
    for found, expected in (
        (field.positions_on(fine), Transform.positions_on(field, fine)),
        (Composite.of(field, field).positions_on(fine), Transform.positions_on(Composite.of(field, field), fine)),
    ):
        assert abs(expected - Affine.identity().positions_on(fine)).max() > 0.5
        np.testing.assert_allclose(found, expected, atol=2e-4)
    expected = Transform.positions_on(field, fine)
    advance_affine(expected.reshape(3, -1), fine.voxel_to_voxel(moving))
    np.testing.assert_allclose(field.moving_positions(fine, moving), expected, atol=2e-4)
