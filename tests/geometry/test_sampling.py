"""The fused kernels against their torch twins, SciPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from anamorph.geometry import sampling
from anamorph.geometry.sampling import (
    distances,
    identity_positions,
    native,
    sample,
    sample_labels,
    sample_labels_torch,
    sample_torch,
)

SHAPES = [(7, 6, 5), (7, 6, 1), (1, 6, 5), (1, 1, 1), (2, 2, 2)]


def positions_for(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Inside, in the half voxel around, far outside, and on whole and half indices."""
    rng = np.random.default_rng(seed)
    size = np.reshape(shape, (3, 1))
    inside = rng.uniform(0, 1, (3, 200)) * (size - 1)
    around = rng.uniform(-0.7, 0.7, (3, 100)) + rng.integers(0, 2, (3, 100)) * (size - 1)
    outside = rng.uniform(-3, 3, (3, 50)) * size
    whole = rng.integers(-2, 9, (3, 50)) / 2
    return np.concatenate([inside, around, outside, whole], axis=1).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("fill", [None, -5.0])
def test_kernels_equal_their_torch_twins(shape: tuple[int, ...], interpolation: str, fill: float | None) -> None:
    volume = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    positions = positions_for(shape)
    fast = sample(volume, positions, interpolation, fill)
    twin = sample_torch(torch.from_numpy(volume), torch.from_numpy(positions), interpolation, fill)
    np.testing.assert_allclose(fast, twin.numpy(), atol=2e-5)
    if fill is not None:
        outside = ((positions < -0.5) | (positions > np.reshape(shape, (3, 1)) - 0.5)).any(axis=0)
        assert 0 < outside.sum() < outside.size
        np.testing.assert_array_equal(fast[0] == fill, outside)


def test_linear_equals_scipy_inside_and_repeats_the_border() -> None:
    volume = np.random.default_rng(1).standard_normal((1, 7, 6, 5)).astype(np.float32)
    positions = positions_for(volume.shape[1:])
    expected = map_coordinates(volume[0], positions, order=1, mode="nearest")
    np.testing.assert_allclose(sample(volume, positions)[0], expected, atol=1e-5)


def test_the_torch_twin_is_differentiable_in_values_and_positions() -> None:
    volume = torch.randn(1, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    positions = (torch.rand(3, 7, dtype=torch.float64) * 2.9 + 0.03).requires_grad_()
    assert torch.autograd.gradcheck(sample_torch, (volume, positions))


def test_positions_keep_their_shape_and_identity_reads_the_volume() -> None:
    volume = np.random.default_rng(1).standard_normal((3, 4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(sample(volume, identity_positions((4, 5, 6))), volume)


@pytest.mark.parametrize("dtype", [">i2", np.uint16, np.float64, np.float16, bool])
def test_any_dtype_layout_and_byte_order(dtype: object) -> None:
    values = np.asfortranarray(np.random.default_rng(1).integers(0, 2, (1, 4, 5, 6)).astype(dtype))
    plain = np.ascontiguousarray(values).astype(np.float32)
    positions = positions_for((4, 5, 6))
    np.testing.assert_allclose(sample(values, positions), sample(plain, positions))
    nearest = sample(values, positions, "nearest")
    assert nearest.dtype == native(values).dtype
    np.testing.assert_array_equal(nearest.astype(np.float32), sample(plain, positions, "nearest"))


def test_distances_are_those_of_each_voxel_from_where_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = identity_positions((4, 3, 10)) + np.random.default_rng(0).random((3, 4, 3, 10), np.float32)
    matrix, axes = np.eye(4) + 0.1 * np.arange(16).reshape(4, 4), np.diag([2.0, 3, 4]) + 0.5
    found, twin = np.empty((2, 4, 3, 10), np.float32)
    distances(positions, matrix, axes, found)
    moved = matrix[:3, :3] @ positions[:, 1, 2, 7] + matrix[:3, 3]
    assert found[1, 2, 7] == pytest.approx(np.linalg.norm(axes @ (moved - [1, 2, 7])), rel=1e-5)
    monkeypatch.setattr(sampling, "kernels", None)
    distances(positions, matrix, axes, twin)
    np.testing.assert_allclose(found, twin, rtol=1e-4)


def test_positions_that_are_not_finite_take_the_fill() -> None:
    volume = np.ones((1, 3, 3, 3), np.float32)
    positions = np.array([[np.nan, np.inf, -np.inf, 1], [1, 1, 1, 1], [1, 1, 1, 1]], np.float32)
    np.testing.assert_array_equal(sample(volume, positions, fill=-2.0)[0], [-2, -2, -2, 1])
    np.testing.assert_array_equal(sample(volume, positions, "nearest", fill=-2.0)[0], [-2, -2, -2, 1])
    np.testing.assert_array_equal(sample_labels(volume[0].astype(np.uint8), positions, fill=9), [9, 9, 9, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_the_argmax_of_interpolated_one_hot_maps(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(2).choice(np.array([0, 3, 7, 200], np.int16), shape)
    positions = positions_for(shape)
    # Ties and near-ties may fall either way by rounding: compare where one label clearly wins.
    one_hot = np.stack([sample((labels == v)[None].astype(np.float32), positions)[0] for v in (0, 3, 7, 200)])
    first, second = np.sort(one_hot, axis=0)[-1], np.sort(one_hot, axis=0)[-2]
    clear = first - second > 1e-4
    assert clear.mean() > 0.7
    fast = sample_labels(labels, positions, fill=-1)
    twin = sample_labels_torch(torch.from_numpy(labels), torch.from_numpy(positions), fill=-1).numpy()
    np.testing.assert_array_equal(fast[clear], twin[clear])
    inside = fast != -1
    np.testing.assert_array_equal(fast[clear & inside], np.array([0, 3, 7, 200])[one_hot.argmax(0)][clear & inside])


def test_equal_shares_go_to_the_lower_label() -> None:
    labels = np.array([7, 3], np.uint8).reshape(2, 1, 1)
    halfway = np.array([[0.5], [0], [0]], np.float32)
    assert sample_labels(labels, halfway)[0] == 3
    assert sample_labels(labels[::-1], halfway)[0] == 3
