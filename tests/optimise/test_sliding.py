"""Two velocity fields that slide along a surface, and the one map that they are joined to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.optimise.sliding import Surface, join
from anamorph.optimise.velocity import VelocitySettings, optimise_velocity
from anamorph.transforms.fields import exponential, jacobian_determinant, upsample, warp_descriptor
from anamorph.transforms.folding import folded_cells
from arrays import smooth_descriptor, smooth_vectors

CELLS, CONTROL, SHAPE = (14, 12, 12), (2, 2, 2), (28, 24, 24)
SETTINGS = VelocitySettings(iterations=40, rate=0.5, diffusion=0.05, smoothing=1)
JUMP_VOX = 3.0


def tilted(shape: tuple[int, int, int], angle: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Depth below a plane that leans against the axes, and a direction along the plane."""
    i, j, _ = np.indices(shape, np.float32)
    c, s = np.cos(angle), np.sin(angle)
    depth = c * (i - shape[0] / 2) + s * (j - shape[1] / 2)
    return depth.astype(np.float32), np.array([-s, c, 0], np.float32)


def a_sliding_pair() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors, the half of the moving one moved along k, the jump, and the depth of the control cells."""
    moving = smooth_descriptor(SHAPE)
    inside = np.arange(SHAPE[0]) >= SHAPE[0] // 2
    truth = np.zeros((3, *SHAPE), np.float32)
    truth[2, inside] = JUMP_VOX
    depth = np.broadcast_to(np.arange(CELLS[0], dtype=np.float32).reshape(-1, 1, 1) - CELLS[0] / 2 + 0.5, CELLS).copy()
    return warp_descriptor(moving, truth), moving, truth, depth


def refined(fixed, moving, starts, surface, as_torch=False):
    ones = np.ones(SHAPE, np.float32)
    arrays = [fixed, ones, moving, ones]
    if as_torch:
        arrays, starts = [torch.from_numpy(a.copy()) for a in arrays], [torch.from_numpy(a.copy()) for a in starts]
    velocities, trace = optimise_velocity(
        *arrays, starts, CONTROL, np.full(3, 4.0), (1, 1, 1), SETTINGS, lambda fraction: None, surface=surface
    )
    return [np.asarray(velocity) for velocity in velocities], trace


@pytest.mark.parametrize("known", [(True, False), (False, True), (True, True)])
def test_each_side_finds_its_own_motion(known):
    fixed, moving, truth, depth = a_sliding_pair()
    start = np.zeros((3, *CELLS), np.float32)
    (smooth,), _ = refined(fixed, moving, [start], None)
    surface = Surface(depth if known[0] else None, depth if known[1] else None, CONTROL, SHAPE)
    sides, _ = refined(fixed, moving, [start, start], surface)
    inside, outside = (upsample(exponential(side), CONTROL, SHAPE) for side in sides)
    found = join(
        inside,
        outside,
        2 * (np.arange(SHAPE[0], dtype=np.float32).reshape(-1, 1, 1) - 13.5) + np.zeros(SHAPE, np.float32),
    )
    middle = (slice(None), slice(8, 20), slice(4, -4), slice(6, -6))
    apart = [
        np.linalg.norm(field - truth, axis=0)[middle[1:]].mean()
        for field in (upsample(exponential(smooth), CONTROL, SHAPE), found)
    ]
    assert apart[1] < 0.4 * apart[0]
    # What is across the surface does not jump.
    assert abs((inside - outside)[0, 12:16, 4:-4, 6:-6]).mean() < 0.15


def test_tensors_take_the_same_way():
    fixed, moving, _, depth = a_sliding_pair()
    starts = [np.zeros((3, *CELLS), np.float32)] * 2
    surface = Surface(depth, None, CONTROL, SHAPE)
    (here, _), (there, _) = (
        refined(fixed, moving, starts, surface)[0],
        refined(fixed, moving, starts, surface, True)[0],
    )
    assert abs(there - here).mean() < 0.02


def test_the_gradient_brings_the_surface_of_both_to_one_place():
    depth, _ = tilted(CELLS)
    surface = Surface(depth, depth, CONTROL, SHAPE)
    velocity = smooth_vectors(CELLS, 0.5)

    def added(field):
        forward, backward = [exponential(field)], [exponential(-field)]
        gradient = np.zeros_like(field)
        return surface.add(surface.depths(forward, backward), forward, backward, [gradient], 1.0), gradient

    energy, gradient = added(velocity)
    less, _ = added(velocity - np.float32(0.01 / abs(gradient).max()) * gradient)
    assert 0 < less < energy
    along = np.ones((3, *CELLS), np.float32) * tilted(CELLS)[1].reshape(3, 1, 1, 1)
    assert added(along)[0] < 0.02 * added(np.ones((3, *CELLS), np.float32))[0]


@pytest.mark.parametrize("jump_vox", [1.0, 4.0, 8.0])
def test_a_join_does_not_fold_and_is_steep(jump_vox):
    shape = (30, 28, 6)
    depth, along = tilted(shape)
    inside = np.ones((3, *shape), np.float32) * (jump_vox * along).reshape(3, 1, 1, 1)
    outside = np.zeros_like(inside)
    joined = join(inside, outside, depth)
    assert folded_cells(joined) == 0
    assert jacobian_determinant(joined).min() > 0
    far = abs(depth) > 3
    np.testing.assert_array_equal(joined[:, far], np.where(depth > 0, inside, outside)[:, far])
    # As it is without a ramp, it folds.
    assert jump_vox < 2 or folded_cells(np.where(depth > 0, inside, outside)) > 1


def test_a_slice_is_joined():
    depth, along = tilted((30, 28, 1))
    inside = np.ones((3, 30, 28, 1), np.float32) * (3 * along).reshape(3, 1, 1, 1)
    joined = join(inside, 0 * inside, depth)
    assert joined.shape == inside.shape
    assert jacobian_determinant(joined).min() > 0
