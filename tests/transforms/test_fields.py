from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.transforms import Displacement
from anamorph.transforms.fields import compose, exponential, inverse_consistent, logarithm, upsample, warp_descriptor
from arrays import SHAPES, inner, random_descriptor, smooth_vectors

SHAPE = (27, 25, 29)


def noise(shape, seed=0, scale=2.0):
    return (scale * np.random.default_rng(seed).standard_normal((3, *shape))).astype(np.float32)


def tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_compose_is_one_map_after_the_other(shape, sign):
    first, second = noise(shape), noise(shape, 1)
    kernel = compose(first, second, sign)
    expected = first + sign * sample(second, identity_positions(shape) + first)
    np.testing.assert_allclose(kernel, expected, atol=1e-4)
    np.testing.assert_allclose(compose(*tensors(first, second), sign), kernel, atol=1e-4)


@pytest.mark.parametrize("cell", [(2, 2, 2), (3, 1, 2)])
def test_upsampled_fields_say_the_same_in_finer_voxels(cell):
    shape = (12, 7, 9)
    coarse = Grid(shape, np.diag([2.0, 1.5, 3.0, 1.0])).pooled(cell)
    field = noise(coarse.shape)
    kernel = upsample(field, cell, shape)
    # The independent way: the transform of the coarse grid, read on the fine grid.
    expected = Displacement(field, coarse).displacement_on(Grid(shape, np.diag([2.0, 1.5, 3.0, 1.0]))).disp_vox
    np.testing.assert_allclose(kernel, expected, atol=2e-4)
    np.testing.assert_allclose(upsample(torch.from_numpy(field), cell, shape), kernel, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_upsampling_reaches_the_last_smaller_cells(shape):
    cell = tuple(min(3, n) for n in shape)
    field = noise(tuple(-(-n // c) for n, c in zip(shape, cell, strict=True)))
    kernel = upsample(field, cell, shape)
    assert kernel.shape == (3, *shape)
    np.testing.assert_allclose(upsample(torch.from_numpy(field), cell, shape), kernel, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_warped_descriptors_are_sampled_ones(shape):
    descriptor, field = random_descriptor(shape, 32), noise(shape)
    kernel = warp_descriptor(descriptor, field)
    planar = np.ascontiguousarray(np.moveaxis(descriptor, -1, 0))
    expected = np.moveaxis(sample(planar, identity_positions(shape) + field), 0, -1)
    np.testing.assert_allclose(kernel, expected, atol=1e-5)
    np.testing.assert_allclose(warp_descriptor(*tensors(descriptor, field)), kernel, atol=1e-4)


@pytest.mark.parametrize("largest", [0.3, 2.0, 5.0])
def test_exponentials_are_each_others_inverse_and_do_not_fold(largest):
    velocity = smooth_vectors(SHAPE, largest)
    forward, backward = exponential(velocity), exponential(-velocity)
    # Near the border the flow leaves the grid.
    error = np.linalg.norm(compose(forward, backward), axis=0)[5:-5, 5:-5, 5:-5]
    assert error.max() < 0.02 * largest
    determinant = Displacement(forward, Grid(SHAPE, np.eye(4))).jacobian_determinant()
    assert determinant.min() > 0.2
    np.testing.assert_allclose(exponential(torch.from_numpy(velocity)), forward, atol=1e-4)


def test_the_exponential_of_a_linear_velocity_is_known():
    grid = np.moveaxis(np.indices((21, 21, 21)) - 10.0, 0, -1)
    generator = np.array([[0.05, 0.1, 0], [-0.1, -0.03, 0.02], [0, 0, 0.04]])
    from scipy.linalg import expm

    velocity = np.moveaxis(grid @ generator.T, -1, 0).astype(np.float32)
    expected = np.moveaxis(grid @ (expm(generator) - np.eye(3)).T, -1, 0)
    np.testing.assert_allclose(exponential(velocity)[inner(4)], expected[inner(4)], atol=0.03)


@pytest.mark.parametrize("velocity", [0.0, 3.0])
def test_constant_velocities_are_shifts(velocity):
    field = np.full((3, 5, 6, 7), velocity, np.float32)
    np.testing.assert_allclose(exponential(field), field, rtol=1e-6)


def test_the_logarithm_undoes_the_exponential():
    velocity = smooth_vectors(SHAPE, 3.0)
    found = logarithm(exponential(velocity))
    assert np.abs(found - velocity)[inner(4)].max() < 0.15
    assert np.abs(exponential(found) - exponential(velocity))[inner(4)].max() < 0.15
    np.testing.assert_allclose(logarithm(torch.from_numpy(velocity)), logarithm(velocity), atol=1e-3)


def test_two_opposite_fields_become_inverse():
    forward = smooth_vectors(SHAPE, 2.5)
    backward = -forward + smooth_vectors(SHAPE, 2.5, seed=5)
    before = np.linalg.norm(compose(forward, backward), axis=0)[3:-3, 3:-3, 3:-3]
    after = np.linalg.norm(compose(*inverse_consistent(forward, backward)), axis=0)[3:-3, 3:-3, 3:-3]
    assert before.max() > 0.5
    assert after.max() < 0.1
    for kernel, twin in zip(
        inverse_consistent(forward, backward), inverse_consistent(*tensors(forward, backward)), strict=True
    ):
        np.testing.assert_allclose(twin, kernel, atol=1e-3)


def test_inverse_consistency_averages_and_knows_no_first_image():
    forward, backward = smooth_vectors(SHAPE, 2.0), smooth_vectors(SHAPE, 2.0, seed=6)
    onward, back = inverse_consistent(forward, backward)
    swapped_back, swapped_onward = inverse_consistent(backward, forward)
    np.testing.assert_array_equal(onward, swapped_onward)
    np.testing.assert_array_equal(back, swapped_back)
    shift = np.full((3, 4, 4, 4), 2, np.float32)
    onward, _ = inverse_consistent(shift, 0 * shift)
    np.testing.assert_allclose(onward, 1, rtol=1e-5)
