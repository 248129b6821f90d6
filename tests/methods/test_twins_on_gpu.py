"""Every twin of a kernel on a GPU against the kernel on the CPU: what it computes, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from anamorph.discrete.correlation import correlate, correlate_locally, expected_values
from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.labels import label_uncertainty, label_window, soft_argmin
from anamorph.discrete.mean_field import mean_field
from anamorph.discrete.tree_inference import infer_labels, min_convolve, spanning_tree
from anamorph.features import layer_codes, mind_ssc
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import sampling
from anamorph.geometry.averaging import box_smooth, pool_descriptor, pool_volume
from anamorph.networks.blocks import warp
from anamorph.networks.obelisk import Obelisk
from anamorph.optimise import keypoint_field
from anamorph.optimise.adam import Adam
from anamorph.optimise.velocity import VelocitySettings, add_diffusion, data_term, diffusion_strength, optimise_velocity
from anamorph.testing.conformance import gpu_or_skip
from anamorph.transforms import fields
from arrays import random_descriptor, random_weight, smooth_descriptor, smooth_vectors

pytestmark = pytest.mark.gpu
SHAPE = (20, 17, 23)
CELLS = (10, 9, 12)


def moved(value: Any, device: str) -> Any:
    """An array or tensor as a tensor on the device; anything else as it is."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    return value.to(device) if isinstance(value, torch.Tensor) else value


def values_of(found: Any) -> list[np.ndarray]:
    """Numbers, arrays and tensors as arrays."""
    found = found if isinstance(found, tuple | list) else (found,)
    return [np.asarray(one.detach().cpu() if isinstance(one, torch.Tensor) else one) for one in found]


def check(function: Callable[..., Any], *arguments: Any, share: float = 1e-3) -> None:
    """See that a function of arrays finds the same with tensors on the GPU, up to a share of the largest value."""
    device = gpu_or_skip()
    expected = values_of(function(*arguments))
    found = values_of(function(*(moved(value, device) for value in arguments)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.astype(float), other.astype(float), atol=share * max(abs(other).max(), 1e-6))


def check_slopes(function: Callable[..., torch.Tensor], *arguments: torch.Tensor, share: float = 2e-3) -> None:
    """The same for a function of tensors, and for its gradients with respect to those that want one."""

    def both(*given: torch.Tensor) -> list[torch.Tensor]:
        leaves = [one.detach().requires_grad_(old.requires_grad) for one, old in zip(given, arguments, strict=True)]
        found = function(*leaves)
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(found.shape, generator=generator).to(found)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        return [found, *torch.autograd.grad((found * weights).sum(), wanted)]

    check(both, *arguments, share=share)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def field(largest: float = 2.0, shape: tuple[int, int, int] = SHAPE, seed: int = 2) -> np.ndarray:
    return smooth_vectors(shape, largest, seed=seed)


@pytest.mark.parametrize("radius", [(1, 2, 1), (2, 2, 0)])
@pytest.mark.parametrize("max_bytes", [2**30, 1], ids=["whole", "chunks"])
def test_costs_and_search(radius, max_bytes):
    def costs(fixed, weight, moving):
        return CostVolume(fixed, weight, moving, (2, 2, 2), (1, 1, 1), radius, max_bytes)

    arrays = random_descriptor(SHAPE, 32), random_weight(SHAPE), random_descriptor(SHAPE, 32, 3)
    check(lambda *given: [chunk for _, chunk in costs(*given).chunks()], *arrays)
    check(lambda *given: coupled_convex(costs(*given)), *arrays)


def test_min_convolution_and_tree():
    rng = np.random.default_rng(0)
    costs = rng.random((int(np.prod(CELLS)), 5, 3, 4), np.float32)
    offset = rng.normal(size=(len(costs), 3)).astype(np.float32)
    check(lambda c, o: min_convolve(c, (0.8, 1.7, 0.3), o), costs, offset)
    tree = spanning_tree(smooth_descriptor(SHAPE)[None, ..., 0], (2, 2, 2), CELLS)
    start = rng.normal(size=(3, len(costs))).astype(np.float32)
    odd = rng.random((len(costs), 3 * 5 * 3), np.float32)
    check(lambda c, s: infer_labels(c + 0, tree, (3, 5, 3), (1.0, 0.7, 1.0), s), odd, start)


def test_quantised_descriptor_and_its_costs():
    images = [smooth_descriptor(SHAPE, seed=seed)[..., 0] + 0.05 * random_weight(SHAPE) for seed in (0, 1)]
    codes = [quantised_mind_ssc(image, (1, 2, 1)) for image in images]
    device = gpu_or_skip()
    for image, code in zip(images, codes, strict=True):
        twin = quantised_mind_ssc(torch.from_numpy(image).to(device), (1, 2, 1)).cpu().numpy()
        differing = np.bitwise_count(twin.view(np.uint64) ^ code)
        assert differing.mean() < 0.01  # a value on a threshold may fall to either side
    window = CELLS, (2, 2, 2), (2, 1, 2), (1, 1, 2), (1, 1, 1)

    def costs(fixed, weight, moving):
        return hamming_costs(fixed, weight, moving, *window)

    kernel = costs(codes[0][None], random_weight(SHAPE), codes[1][None])
    given = (codes[0][None].view(np.int64), random_weight(SHAPE), codes[1][None].view(np.int64))
    twin = costs(*(moved(one, device) for one in given)).cpu().numpy()
    np.testing.assert_allclose(twin, kernel, atol=1e-4 * kernel.max())


@pytest.mark.parametrize("cell", [(1, 1, 1), (2, 3, 2), (8, 32, 4)])
def test_pooling_and_smoothing(cell):
    check(lambda volume: pool_volume(volume, cell), field())
    check(lambda descriptor: pool_descriptor(descriptor, cell), random_descriptor(SHAPE))
    check(lambda volume: box_smooth(volume, (1, 2, 0), 2), field())


@pytest.mark.parametrize("fill", [None, -3.0])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_sampling(interpolation, fill):
    places = (np.stack(np.indices(SHAPE)) * 1.2 - 2 + field(3.0)).astype(np.float32)
    check(lambda volume, where: sampling.sample(volume, where, interpolation, fill), random_weight(SHAPE)[None], places)


def test_sampling_of_labels():
    labels = (smooth_descriptor(SHAPE)[..., 0] > 0).astype(np.uint8) + (smooth_descriptor(SHAPE)[..., 1] > 0.5)
    places = (np.stack(np.indices(SHAPE)) + field(3.0)).astype(np.float32)
    expected = sampling.sample_labels(labels, places)
    device = gpu_or_skip()
    found = sampling.sample_labels_torch(moved(labels, device), moved(places, device)).cpu().numpy()
    assert (found != expected).mean() < 1e-3  # ties


def test_fields():
    one, other = field(), field(seed=5)
    check(fields.compose, one, other)
    check(lambda u: fields.upsample(u, (2, 2, 2), SHAPE), field(shape=CELLS))
    check(fields.warp_descriptor, random_descriptor(SHAPE), one)
    check(fields.exponential, one)
    check(fields.logarithm, one)
    check(fields.inverse_consistent, one, -one)


def test_data_term_and_its_gradient():
    check(data_term, random_descriptor(SHAPE, 32), random_weight(SHAPE), random_descriptor(SHAPE, 32, 3), field())


def test_diffusion_and_its_gradient():
    strength = diffusion_strength(0.3, np.array([1.0, 2.0, 0.7]))

    def both(u, gradient):
        gradient = gradient + 0
        return add_diffusion(u, strength, gradient), gradient

    check(both, field(), field(seed=5))


def test_adam():
    def after_steps(start, gradient):
        adam = Adam(start + 0)
        for n in range(4):
            adam.step(gradient * (n + 1), 0.1)
        return adam.parameters

    check(after_steps, field(), field(seed=5))


def test_refinement():
    settings = VelocitySettings(6, 0.5, 0.2, 1)

    def refined(fixed, weight, moving, start):
        control, spacing = (2, 2, 2), np.full(3, 2.0)
        arguments = fixed, weight, moving, weight, [start], control, spacing, (1, 1, 1), settings
        (velocity,), trace = optimise_velocity(*arguments, lambda fraction: None)
        return velocity, trace

    start = field(0.5, CELLS)
    check(refined, smooth_descriptor(SHAPE), random_weight(SHAPE), smooth_descriptor(SHAPE, seed=1), start, share=0.02)


@pytest.mark.parametrize("kind", ["ssd", "sad", "ncc", "dot"])
def test_correlation_and_its_gradients(kind):
    fixed, moving = (uniform(6, *SHAPE, seed=seed).requires_grad_() for seed in (0, 1))
    centres, labels = uniform(50, 3) * 15, label_window((3, 5, 3), (2, 3, 1))
    check_slopes(lambda *given: correlate(*given, kind), fixed, moving, centres, labels)


def test_expected_values_and_their_gradient():
    labels = label_window((3, 5, 3), (2, 3, 1))
    probabilities = uniform(50, len(labels)).requires_grad_()
    check_slopes(expected_values, uniform(5, *SHAPE), probabilities, uniform(50, 3) * 15, labels)


def test_what_has_no_kernel_is_the_same_too():
    fixed, moving = (uniform(2, 6, 8, 9, 7, seed=seed).requires_grad_() for seed in (0, 1))
    check_slopes(lambda *given: correlate_locally(*given, 2), fixed, moving)
    costs, labels = uniform(4, 5, 6, 45).requires_grad_(), label_window((3, 5, 3), (2, 3, 1))
    check_slopes(lambda c: mean_field(c, (0.8, 0.6), (3, 5, 3)), costs)
    check_slopes(lambda c, d: soft_argmin(c, d, 0.1), costs, labels)
    check(lambda c, d: [*label_uncertainty(c, d, 0.1)], costs.detach(), labels)
    disp = (2 * uniform(2, 3, 8, 9, 7)).requires_grad_()
    check_slopes(warp, fixed, disp)


def test_offsets_of_obelisk_and_their_gradient():
    torch.manual_seed(0)
    network = Obelisk(1, 4, 2, pooled=False)
    first, image = uniform(2, 4, 10, 9, 12).requires_grad_(), torch.empty(2, 1, *SHAPE)
    places = (uniform(60, 3) * 15).requires_grad_(False)
    with torch.no_grad():
        kernel = network._differences(first, places, image.shape[2:])
    twin = network.to(gpu_or_skip()).differences_torch(
        *(one.detach().to(network.offsets.device) for one in (first, places)), image.shape[2:]
    )
    np.testing.assert_allclose(twin.detach().cpu(), kernel, atol=1e-4)


def test_codes_of_layers():
    rng = np.random.default_rng(0)
    codes = layer_codes.draw_codes(3, 20, rng)
    labels = rng.integers(0, 20, (3, *SHAPE)).astype(np.uint8)
    device = gpu_or_skip()
    kernel = layer_codes._shares(torch.from_numpy(labels), codes)
    twin = layer_codes.shares_torch(moved(labels, device), codes)
    torch.testing.assert_close(twin.cpu(), kernel)
    torch.testing.assert_close(layer_codes._blurred(twin).cpu(), layer_codes._blurred(kernel))


def test_keypoints_and_their_gradient():
    volume, wanted, places = uniform(*SHAPE, 16), uniform(40, 16, seed=1), uniform(40, 3, seed=2) * 15
    check(keypoint_field.data_term, wanted, volume, places)


@pytest.mark.parametrize("pool", [(1, 1, 1), (2, 2, 2)])
def test_descriptor(pool):
    image = smooth_descriptor(SHAPE)[..., 0]
    steps = (1, 1, 1), (2, 2, 2), pool
    kernel = mind_ssc.mind_ssc(image, *steps)
    twin = mind_ssc.mind_ssc_torch(moved(image, gpu_or_skip()), *steps)
    np.testing.assert_allclose(twin.cpu(), kernel, atol=1e-3)
