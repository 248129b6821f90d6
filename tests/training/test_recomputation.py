from __future__ import annotations

import pytest
import torch

from anamorph.networks.lindef_network import LindefNetwork
from anamorph.networks.symmetric_network import SegmentationNetwork, SymmetricNetwork
from anamorph.training.memory_plan import kept_bytes


def registered(network, images):
    return sum(flow.disp_vox.square().mean() for flow in network(*images, coarse=True))


def registered_linearly(network, images):
    return sum(flow.disp_vox.square().mean() for flow in network(*images))


def segmented(network, images):
    return network(images[0]).square().mean()


@pytest.mark.parametrize(
    ("network", "loss"),
    [
        (SymmetricNetwork(mult=1, residual=True), registered),
        (SegmentationNetwork(mult=1), segmented),
        (LindefNetwork(width=2), registered_linearly),
    ],
    ids=["symmetric", "segmentation", "lindef"],
)
def test_recomputed_activations_give_the_same_gradient_for_less_memory(network, loss):
    torch.manual_seed(0)
    for parameter in network.parameters():  # the last convolution starts at zero, through which nothing flows back
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.rand(2, 1, 1, 32, 32, 32)
    gradients, kept = [], []
    for recompute in (False, True):
        network.checkpointing = recompute
        assert network.checkpointing is recompute
        kept.append(kept_bytes(network, lambda: loss(network, images)))
        network.zero_grad()
        loss(network, images).backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert max(float(one.abs().max()) for one in gradients[0]) > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert kept[1] < 0.5 * kept[0], kept
