from __future__ import annotations

import numpy as np
import torch

from anamorph.geometry.sampling import identity_positions, sample, sample_torch
from anamorph.transforms.fields import diagonal_gradients, integrate_gradients

SHAPE = (7, 9, 5)


def random_gradients(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (3, *SHAPE)).astype(np.float32)


def test_one_half_is_exactly_the_identity():
    for gradients in (np.full((3, *SHAPE), 0.5, np.float32), torch.full((2, 3, *SHAPE), 0.5)):
        assert not np.asarray(integrate_gradients(gradients)).any()


def test_the_place_is_twice_the_inclusive_sum_less_one():
    gradients = random_gradients()
    places = identity_positions(SHAPE) + integrate_gradients(gradients)
    for axis in range(3):
        line = np.moveaxis(gradients[axis], axis, 0)[:, 2, 3]
        found = np.moveaxis(places[axis], axis, 0)[:, 2, 3]
        np.testing.assert_allclose(found, [2 * line[: n + 1].sum() - 1 for n in range(len(line))], atol=1e-5)


def test_corners_are_the_centres_of_the_first_and_last_voxel():
    gradients = random_gradients()
    disp_vox = integrate_gradients(gradients)
    for axis, size in enumerate(SHAPE):
        normalised = (4 * np.cumsum(gradients[axis], axis) - 2) / (size - 1) - 1
        voxels = (normalised + 1) / 2 * (size - 1)
        np.testing.assert_allclose(voxels - identity_positions(SHAPE)[axis], disp_vox[axis], atol=1e-5)


def test_a_line_of_voxels_keeps_its_order():
    places = identity_positions(SHAPE) + integrate_gradients(random_gradients(1))
    for axis in range(3):
        assert (np.diff(places[axis], axis=axis) > 0).all()


def test_tensors_and_arrays_agree_and_a_batch_is_its_parts():
    gradients = np.stack([random_gradients(n) for n in range(2)])
    arrays = integrate_gradients(gradients)
    np.testing.assert_allclose(integrate_gradients(torch.from_numpy(gradients)).numpy(), arrays, atol=1e-5)
    np.testing.assert_array_equal(arrays[1], integrate_gradients(gradients[1]))


def test_an_untrained_field_reads_noise_without_a_change():
    noise = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    places = identity_positions(SHAPE) + integrate_gradients(np.full((3, *SHAPE), 0.5, np.float32))
    np.testing.assert_array_equal(sample(noise, places), noise)
    read = sample_torch(torch.from_numpy(noise), torch.from_numpy(places))
    assert np.abs(read.numpy() - noise).max() < 1e-5


def test_differentiation_undoes_integration():
    gradients = random_gradients(2)
    np.testing.assert_allclose(diagonal_gradients(integrate_gradients(gradients)), gradients, atol=1e-5)
    tensor = torch.from_numpy(gradients)
    np.testing.assert_allclose(diagonal_gradients(integrate_gradients(tensor)).numpy(), gradients, atol=1e-5)


def test_half_precision_is_summed_in_single():
    gradients = torch.full((3, 300, 1, 1), 0.501, dtype=torch.bfloat16)
    exact = integrate_gradients(gradients.double())
    assert integrate_gradients(gradients).dtype == torch.float32
    torch.testing.assert_close(integrate_gradients(gradients).double(), exact, rtol=1e-4, atol=1e-4)


def test_the_derivative_is_right():
    gradients = torch.rand((1, 3, 3, 4, 2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(integrate_gradients, (gradients,))
