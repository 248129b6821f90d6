from __future__ import annotations

import numpy as np

from anamorph.transforms import Affine, Composite, Displacement
from geometries import GRIDS, other_grid, points_inside, small_affine, smooth_field, textured_image

GRID = GRIDS["oblique"]


def chain() -> Composite:
    return Composite.of(
        small_affine(GRID), smooth_field(GRID), smooth_field(other_grid(GRID), seed=4), small_affine(GRID, 5)
    )


def test_parts_apply_in_the_order_given() -> None:
    composite, points = chain(), points_inside(GRID)
    expected = points
    for part in composite.parts:
        expected = part.map_world(expected)
    np.testing.assert_allclose(composite.map_world(points), expected)
    a, b = small_affine(GRID), smooth_field(GRID)
    np.testing.assert_allclose((b @ a).map_world(points), b.map_world(a.map_world(points)))


def test_dense_form_agrees_at_voxel_centres() -> None:
    composite = chain()
    centres = GRID.voxel_to_world(np.argwhere(np.ones(GRID.shape))[::11])
    dense = composite.displacement_on(GRID)
    assert isinstance(dense, Displacement)
    np.testing.assert_allclose(dense.map_world(centres), composite.map_world(centres), atol=1e-3)


def test_chains_flatten_and_neighbouring_affines_merge() -> None:
    nested = Composite.of(chain(), Composite.of(small_affine(GRID), smooth_field(GRID)))
    assert [type(part) for part in nested.parts] == [Affine, Displacement, Displacement, Affine, Displacement]
    assert "then" in repr(nested)


def test_the_inverse_undoes_the_chain() -> None:
    composite = Composite.of(small_affine(GRID), smooth_field(GRID, 0.8))
    points = GRID.voxel_to_world(np.random.default_rng(0).uniform(6, 9, (50, 3)))
    back = composite.inverse().map_world(composite.map_world(points))
    assert np.linalg.norm(back - points, axis=1).max() < 0.1


def test_images_are_interpolated_once() -> None:
    half = Affine.translation(GRID.affine[:3, :3] @ [0.5, 0, 0])
    image = textured_image(GRID)
    once = Composite.of(half, smooth_field(GRID, 1e-9), half).warp_image(image, GRID)
    np.testing.assert_allclose(once.data[0, 2:-2], image.data[0, 3:-1], atol=0.05)
