from __future__ import annotations

import pytest
import torch

from anamorph.errors import UserError
from anamorph.networks.supervoxel_network import CoordinateNetwork, DeepLab, SupervoxelNetwork, UNetSlic, load_published


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(**options) -> SupervoxelNetwork:
    torch.manual_seed(0)
    return SupervoxelNetwork(**{"layers": 4, "classes": 6, **options})


def test_parameter_counts_are_the_published_ones():
    network = SupervoxelNetwork()
    assert [parameters(block) for block in network.features.backbone] == [
        5296, 10160, 16768, 21408, 32608, 32608, 36736, 61184,
    ]  # fmt: skip
    assert parameters(network.features.backbone) == 216_768
    assert parameters(network.features.aspp) == 1_001_216
    assert parameters(network.head) == 589_824
    assert sum(isinstance(m, torch.nn.Conv3d) for m in network.features.backbone.modules()) == 24


def test_the_unet_is_about_as_large():
    assert abs(parameters(UNetSlic()) / parameters(DeepLab()) - 1) < 0.05


@pytest.mark.parametrize("features", ["deeplab", "unet"])
def test_scores_are_at_half_the_resolution(features):
    network = small(features=features).eval()
    assert network(torch.randn(2, 1, 16, 20, 14)).shape == (2, 4, 6, 8, 10, 7)
    assert network(torch.randn(1, 1, 17, 19, 15)).shape == (1, 4, 6, 9, 10, 8)
    coordinates = CoordinateNetwork(features=features).eval()
    assert coordinates(torch.randn(1, 1, 16, 20, 14)).shape == (1, 3, 8, 10, 7)


@pytest.mark.parametrize("layout", ["layers", "published"])
def test_scores_of_single_layers_are_those_of_all(layout):
    network = small(layout=layout).eval()
    image = torch.randn(1, 1, 16, 20, 14)
    with torch.no_grad():
        all_at_once, one_by_one = network(image)[0], torch.stack(list(network.scores_by_layer(image)))
    torch.testing.assert_close(one_by_one, all_at_once)


def test_a_layer_has_a_group_of_the_head_of_its_own():
    network = small().eval()
    image = torch.randn(1, 1, 16, 16, 16)
    before = network(image)
    with torch.no_grad():
        network.head[3].weight[32:64] += 1  # the second group
    changed = [bool((a != b).any()) for a, b in zip(network(image)[0], before[0], strict=True)]
    assert changed == [False, True, False, False]


def test_losses_are_the_cross_entropy_of_every_layer_and_checkpoints_change_nothing():
    network = small()
    network.features.aspp.project[3].p = 0.0
    images, targets = torch.randn(2, 1, 16, 16, 16), torch.randint(0, 6, (2, 4, 8, 8, 8), dtype=torch.uint8)
    gradients = []
    for checkpointing in (False, True):
        network.checkpointing = checkpointing
        network.zero_grad()
        losses = network(images, targets)
        losses.mean().backward()
        gradients.append(network.features.backbone[0].layers[0].weight.grad.clone())
    torch.testing.assert_close(*gradients)
    network.eval()
    with torch.no_grad():
        losses, scores = network(images, targets), network(images)
    expected = -scores.log_softmax(dim=2).gather(2, targets[:, :, None].long()).mean(dim=(2, 3, 4, 5))
    torch.testing.assert_close(losses, expected)


def test_one_scan_at_a_time_can_be_trained():
    network = small()
    network(torch.randn(1, 1, 16, 16, 16), torch.zeros(1, 4, 8, 8, 8, dtype=torch.uint8)).mean().backward()
    assert torch.isfinite(network.features.aspp.views[-1][0][1].weight.grad).all()


def published_file(network: SupervoxelNetwork) -> dict[str, dict[str, torch.Tensor]]:
    parts = {"backbone": network.features.backbone, "aspp": network.features.aspp, "head": network.head}
    return {
        name: {f"other.name.{n}": value + 0.5 for n, value in enumerate(part.state_dict().values())}
        for name, part in parts.items()
    }


def test_published_weights_fit_by_order_and_their_groups_hold_classes_of_all_layers():
    network = SupervoxelNetwork(layout="published")
    given = published_file(network)
    load_published(network, given)
    assert torch.equal(network.head[-1].bias, list(given["head"].values())[-1])
    hidden = torch.randn(1, 512, 1, 1, 1)
    channels = network.head[-1](hidden).flatten()
    network.head = network.head[-1:]
    assert torch.equal(network.scores(hidden)[0, 3, 5].flatten(), channels[5 * 16 + 3][None])


@pytest.mark.parametrize("wrong", [{"layers": 8}, {"classes": 64}, {"features": "unet"}])
def test_weights_of_another_network_are_refused(wrong):
    given = published_file(SupervoxelNetwork())
    with pytest.raises(UserError, match="published DeepLab"):
        load_published(SupervoxelNetwork(**wrong), given)
