from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.networks.blocks import Convolution, cut, one_hot, pad, warp
from anamorph.networks.supervoxel_network import DeepLab, UNetSlic
from anamorph.networks.symmetric_network import SegmentationNetwork, SymmetricNetwork
from anamorph.networks.widths import padding_to_multiple

SHAPE = (19, 33, 21)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def scans(channels: int = 1, batch: int = 1, shape=SHAPE) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand((batch, channels, *shape), generator=generator) for _ in range(2)]


def bent(network: SymmetricNetwork) -> SymmetricNetwork:
    """With weights in the last convolution, so that there is a field to look at."""
    torch.manual_seed(1)
    torch.nn.init.normal_(network.decoder.last.weight, std=0.1)
    return network.eval()


def narrow(**options) -> SymmetricNetwork:
    torch.manual_seed(0)
    return SymmetricNetwork(mult=1, activation="leaky", **options)


def test_the_published_networks_have_the_published_sizes():
    abdomen = SymmetricNetwork(inputs=3, mult=8)
    assert parameters(abdomen) == 30_825_039
    assert [parameters(part) for part in (abdomen.encoder, abdomen.decoder, abdomen.heads)] == [
        21_885_536,
        8_861_731,
        77_772,
    ]
    assert parameters(SymmetricNetwork(inputs=1, mult=8, activation="leaky", residual=True)) == 30_823_311
    assert parameters(SegmentationNetwork(inputs=1, classes=12, mult=4)) == 7_692_316


@pytest.mark.parametrize("shape", [SHAPE, (32, 32, 32), (5, 40, 17), (48, 33, 1)])
@pytest.mark.parametrize("residual", [False, True])
def test_an_untrained_network_is_exactly_the_identity_at_any_size(shape, residual):
    flows = narrow(residual=residual)(*scans(shape=shape))
    assert len(flows) == 2
    for flow in flows:
        assert flow.disp_vox.shape == (1, 3, *shape)
        assert not flow.disp_vox.any()
        assert (flow.gradients == 0.5).all()


def test_exchanging_the_scans_exchanges_the_directions():
    network = bent(narrow())
    fixed, moving = scans()
    there, back = network(fixed, moving)
    again_back, again_there = network(moving, fixed)
    assert there.disp_vox.abs().max() > 0.05
    assert (there.disp_vox - back.disp_vox).abs().max() > 0.05
    torch.testing.assert_close(there.disp_vox, again_there.disp_vox, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.disp_vox, again_back.disp_vox, rtol=1e-4, atol=1e-4)


def test_one_direction_alone_is_the_same():
    network = bent(narrow())
    (alone,) = network(*scans(), False)
    torch.testing.assert_close(alone.disp_vox, network(*scans())[0].disp_vox, rtol=1e-4, atol=1e-4)


def test_identical_scans_leave_nothing_but_the_biases():
    network = bent(narrow())
    one, _ = scans()
    there, back = network(one, one)
    torch.testing.assert_close(there.disp_vox, back.disp_vox)
    other = network(*[scans()[1]] * 2)[0]
    torch.testing.assert_close(there.disp_vox, other.disp_vox, rtol=1e-4, atol=1e-4)


def test_a_batch_is_its_parts():
    network = bent(narrow(residual=True))
    fixed, moving = scans(batch=2)
    both = network(fixed, moving)
    for n in range(2):
        single = network(fixed[n : n + 1], moving[n : n + 1])
        for one, many in zip(single, both, strict=True):
            torch.testing.assert_close(one.disp_vox[0], many.disp_vox[n], rtol=1e-4, atol=1e-4)


def test_every_coarser_resolution_has_a_head():
    network = narrow()
    assert [head.in_channels for head in network.heads] == [64, 32, 16, 8]
    flow = network(*scans(shape=(32, 48, 32)), False, True)[0]
    assert len(flow.coarse_disp_vox) == 4
    for level, field in enumerate(flow.coarse_disp_vox):
        size = 16 >> level
        slopes = field[0, 0].diff(dim=0, prepend=field.new_zeros(1, 48, 32)).reshape(-1, size, 48, 32)
        assert slopes.std(dim=1).max() < 1e-5, "one derivative per cell of the coarse prediction"
        assert slopes.std() > 1e-3


def test_gradients_reach_every_weight():
    network = narrow()
    flows = network(*scans(), True, True)
    sum(sum(field.square().sum() for field in (f.disp_vox + 1, *f.coarse_disp_vox)) for f in flows).backward()
    untouched = [name for name, parameter in network.decoder.last.named_parameters() if not parameter.grad.any()]
    assert untouched == []
    assert all(head.weight.grad.any() for head in network.heads)
    assert network.encoder.stages[0].first[0].weight.grad.any()


def test_segmentation_keeps_any_size():
    torch.manual_seed(0)
    network = SegmentationNetwork(inputs=2, classes=5, mult=1)
    assert network(scans(channels=2)[0]).shape == (1, 5, *SHAPE)


def test_padding_is_cut_again():
    volume = scans()[0]
    padding = padding_to_multiple(SHAPE, 16)
    padded = pad(volume, padding)
    assert padded.shape[2:] == (32, 48, 32)
    assert float(padded.sum()) == pytest.approx(float(volume.sum()))
    torch.testing.assert_close(cut(padded, padding), volume)
    assert padding_to_multiple((16, 1, 33), 16) == [(8, 8), (7, 8), (7, 8)]


def test_warping_pulls_along_each_axis_by_itself():
    volume = torch.arange(4 * 5 * 6, dtype=torch.float32).reshape(1, 1, 4, 5, 6)
    for axis in range(3):
        disp_vox = torch.zeros(1, 3, 4, 5, 6)
        disp_vox[:, axis] = 1
        expected = np.take(volume[0, 0].numpy(), [*range(1, (4, 5, 6)[axis]), (4, 5, 6)[axis] - 1], axis)
        np.testing.assert_allclose(warp(volume, disp_vox)[0, 0].numpy(), expected, atol=1e-4)


def test_one_hot_has_a_channel_per_value():
    labels = torch.tensor([0, 2, 5, 2]).reshape(1, 1, 4, 1, 1)
    assert one_hot(labels, torch.tensor([2, 5]))[0, :, :, 0, 0].tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]


def test_thin_volumes_have_right_gradients_in_bfloat16():
    torch.manual_seed(0)
    convolution = Convolution(64, 64)
    image = torch.randn(8, 64, 2, 2, 2)
    gradients = []
    for mixed in (False, True):
        torch.full((1 << 20,), 3e38)  # what freed memory may hold
        convolution.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            convolution(image).float().square().sum().backward()
        gradients.append(convolution.weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max() < 0.02 * gradients[0].abs().max()


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 8, 8), (16, 16, 1), (1, 1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_thin_volumes_have_the_gradients_of_float32(shape, stride):
    torch.manual_seed(2)
    convolution = Convolution(64, 64, stride=stride, bias=False)
    volume = torch.randn((2, 64, *shape))
    gradients = []
    for reduced in (False, True):
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            convolution(volume).float().square().sum().backward()
        gradients.append(convolution.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-4)


def test_no_network_has_an_unguarded_convolution():
    unguarded = [
        module
        for network in (UNetSlic(), DeepLab())
        for module in network.modules()
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3)
        if not isinstance(module, Convolution)
    ]
    assert unguarded == []
