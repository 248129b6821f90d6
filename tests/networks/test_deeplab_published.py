"""The published network of SLIC-Reg written down plainly, tensor by tensor, and what the published program sets.

Nothing of the package is in the transcription: it reads the weights in the order of the published file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, batch_norm, conv3d, interpolate

from anamorph.features.layer_codes import BLUR, CODES
from anamorph.methods.slicreg import PUBLISHED, SlicregConfig
from anamorph.networks.supervoxel_network import SupervoxelNetwork
from anamorph.supervoxels.layers import COMPACTNESS, HU_UNIT, ITERATIONS, JITTER, SEGMENTS_PER_SUPERVOXEL
from anamorph.supervoxels.mask import ORGAN_REACH_MM
from anamorph.training.settings import make_settings
from anamorph.training.tasks.slicreg import SlicregTask
from anamorph.workflows.supervoxels.layers import LayerSettings

BLOCKS = (  # channels before, within and after, stride of the depthwise convolution
    (1, 64, 24, 1),
    (24, 128, 24, 1),
    (24, 192, 32, 1),
    (32, 192, 48, 2),
    (48, 256, 48, 1),
    (48, 256, 48, 1),
    (48, 256, 64, 1),
    (64, 384, 64, 1),
)
ATROUS = (2, 4, 8, 16)


def norm(x: Tensor, weights: Iterator[Tensor], training: bool) -> Tensor:
    weight, bias, mean, var = (next(weights) for _ in range(4))
    next(weights)  # the number of batches
    return batch_norm(x, mean.clone(), var.clone(), weight, bias, training, 0.0, 1e-5)


def transcribed(parts: dict[str, Iterable[Tensor]], image: Tensor, training: bool) -> Tensor:
    """The 2048 channels that the published program gives, without dropout."""
    weights = iter(parts["backbone"])
    x = image
    for number, (before, within, after, stride) in enumerate(BLOCKS):
        own = x
        first = next(weights)
        x = conv3d(x, first, stride=2, padding=1) if number == 0 else conv3d(x, first)
        x = norm(x, weights, training).clamp(0, 6)
        x = conv3d(x, next(weights), stride=stride, padding=1, groups=within)
        x = norm(x, weights, training).clamp(0, 6)
        x = norm(conv3d(x, next(weights)), weights, training)
        if before == after and stride == 1:
            x = x + own
        if number == 1:
            skip = x
    assert next(weights, None) is None
    weights = iter(parts["aspp"])
    views = [norm(conv3d(x, next(weights)), weights, training).relu()]
    for rate in ATROUS:
        views.append(norm(conv3d(x, next(weights), padding=rate, dilation=rate), weights, training).relu())
    mean = avg_pool3d(x, x.shape[2:])
    views.append(norm(conv3d(mean, next(weights)), weights, training).relu().expand(-1, -1, *x.shape[2:]))
    x = norm(conv3d(torch.cat(views, 1), next(weights)), weights, training).relu()
    assert next(weights, None) is None
    weights = iter(parts["head"])
    x = torch.cat([skip, interpolate(x, scale_factor=2, mode="nearest")], 1)
    x = norm(conv3d(x, next(weights)), weights, training).relu()
    x = norm(conv3d(x, next(weights), padding=1, groups=16), weights, training).relu()
    x = conv3d(x, next(weights), next(weights), groups=16)
    assert next(weights, None) is None
    return x


def published_shapes() -> dict[str, list[tuple[int, ...]]]:
    """Of all weights of the published file, without the counters of batches."""

    def normed(*shape: int) -> list[tuple[int, ...]]:
        return [shape, *[(shape[0],)] * 4]

    shapes: dict[str, list[tuple[int, ...]]] = {"backbone": [], "aspp": [], "head": []}
    for number, (before, within, after, _) in enumerate(BLOCKS):
        edge = 3 if number == 0 else 1
        shapes["backbone"] += normed(within, before, edge, edge, edge)
        shapes["backbone"] += normed(within, 1, 3, 3, 3) + normed(after, within, 1, 1, 1)
    for edge in (1, 3, 3, 3, 3, 1):
        shapes["aspp"] += normed(128, 64, edge, edge, edge)
    shapes["aspp"] += normed(128, 768, 1, 1, 1)
    shapes["head"] = normed(512, 152, 1, 1, 1) + normed(512, 32, 3, 3, 3) + [(2048, 32, 1, 1, 1), (2048,)]
    return shapes


@pytest.fixture(scope="module")
def network() -> SupervoxelNetwork:
    """With statistics and affine parameters of the norms that differ from those of the start."""
    torch.manual_seed(3)
    made = SupervoxelNetwork()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    made.features.aspp.project[-1].p = 0.0
    return made


def parts_of(network: SupervoxelNetwork) -> dict[str, list[Tensor]]:
    modules = {"backbone": network.features.backbone, "aspp": network.features.aspp, "head": network.head}
    return {name: [*module.state_dict().values()] for name, module in modules.items()}


@pytest.mark.parametrize("training", [False, True], ids=["running statistics", "statistics of the batch"])
def test_the_network_gives_what_the_published_one_gives(network, training):
    image = torch.randn(2, 1, 48, 40, 56, generator=torch.Generator().manual_seed(5))
    network.train(training)
    with torch.no_grad():
        expected = transcribed(parts_of(network), image, training).unflatten(1, (16, 128))
        found = network(image)
    assert expected.shape == (2, 16, 128, 24, 20, 28)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_every_atrous_rate_reaches_as_far_as_published(network):
    """Weights of one view alone: a single bright voxel shows 2, 4, 8 and 16 voxels away."""
    x = torch.zeros(1, 64, 1, 1, 40)
    x[..., 20] = 1
    for rate, view in zip(ATROUS, [*network.features.aspp.views][1:5], strict=True):
        with torch.no_grad():
            seen = view[0](x).abs().sum(1).flatten().nonzero().flatten() - 20
        assert seen.tolist() == [-rate, 0, rate]


def test_weights_have_the_published_shapes_in_the_published_order(network):
    for name, shapes in published_shapes().items():
        own = [tuple(value.shape) for value in parts_of(network)[name] if value.ndim]
        assert own == shapes
    trained = {name: sum(math.prod(s) for s in shapes) for name, shapes in published_shapes().items()}
    running = {"backbone": 2 * sum(2 * w + a for _, w, a, _ in BLOCKS), "aspp": 2 * 7 * 128, "head": 2 * 2 * 512}
    counts = {name: trained[name] - running[name] for name in trained}
    assert counts == {"backbone": 216_768, "aspp": 1_001_216, "head": 589_824}
    assert sum(p.numel() for p in network.parameters()) == sum(counts.values()) == 1_807_808


def test_weights_begin_as_in_the_published_program():
    """Backbone: normal, variance 2 over outputs times voxels of the kernel; the rest as torch does it, uniform."""
    torch.manual_seed(1)
    network = SupervoxelNetwork()
    backbone = [m for m in network.features.backbone.modules() if isinstance(m, torch.nn.Conv3d)]
    assert len(backbone) == 24
    scaled = []
    for convolution in backbone:
        weight = convolution.weight.detach()
        expected = math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))
        assert weight.std() == pytest.approx(expected, rel=0.1)
        assert weight.abs().max() > 2.5 * expected  # a uniform one of this deviation ends at 1.73
        scaled.append((weight / expected).flatten())
    everything = torch.cat(scaled)
    assert everything.std() == pytest.approx(1, abs=0.01)
    assert everything.mean() == pytest.approx(0, abs=0.01)
    assert (everything.abs() < 1).float().mean() == pytest.approx(0.683, abs=0.005)
    for part in (network.features.aspp, network.head):
        for convolution in (m for m in part.modules() if isinstance(m, torch.nn.Conv3d)):
            weight = convolution.weight.detach()
            bound = 1 / math.sqrt(weight[0].numel())
            assert 0.99 * bound < weight.abs().max() <= bound
            assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    for norm_ in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm3d)):
        assert (norm_.weight == 1).all()
        assert (norm_.bias == 0).all()


def test_half_of_the_projected_features_are_dropped_in_training():
    torch.manual_seed(2)
    pooling = SupervoxelNetwork().features.aspp
    pooling.project[-2] = torch.nn.Softplus()  # nothing is 0 but what is dropped
    seen = torch.randn(1, 64, 8, 8, 8)
    assert (pooling.train()(seen) == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    assert (pooling.eval()(seen) != 0).all()


def test_the_preset_trains_as_published():
    config, loop = make_settings(SlicregTask, "abdomen-ct")
    assert (config.network, config.normalise, config.divisor) == ("deeplab", "none", 500)
    assert (config.spacing_mm, config.shape, config.centre) == (4, (96, 80, 128), "body")
    assert (config.rate, config.jitter) == (0.004, 0.07)
    assert (loop.batch_size, loop.schedule, loop.gradient_clip, loop.warmup_steps) == (4, "constant", 0, 0)
    assert loop.epochs * (20 // loop.batch_size) == 5000
    assert loop.checkpointing
    adam = SlicregTask.optimiser(SimpleNamespace(config=config), torch.nn.Linear(1, 1))
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["lr"] == 0.004
    assert (adam.defaults["betas"], adam.defaults["weight_decay"]) == ((0.9, 0.999), 0)


def test_the_preset_registers_as_published():
    config = SlicregConfig(**PUBLISHED)
    assert (config.match, config.features, config.points, config.point_count) == ("template", "one-hot", "random", 2048)
    assert (config.neighbours, config.alpha) == (8, 0.015)
    assert dataclasses.astuple(config.fit()) == (0.015, 0.05, 100)
    assert (config.kernel, config.smoothing, config.refine) == ("r2logr", 0.001, False)


def test_layers_are_cut_as_published():
    settings = LayerSettings()
    assert (settings.layers, settings.supervoxels, settings.spacing_mm) == (16, 127, None)
    assert (COMPACTNESS, JITTER, ITERATIONS, HU_UNIT, ORGAN_REACH_MM) == (1.5, 0.05, 5, 500, 60)
    assert round(settings.supervoxels * SEGMENTS_PER_SUPERVOXEL) == 208
    assert (settings.compactness, CODES, BLUR) == (1.5, 16, 5)
