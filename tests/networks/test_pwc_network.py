"""The network of ``pwc``: the identity at first, any size, both directions, and what its cost volumes see."""

from __future__ import annotations

import pytest
import torch

from anamorph.networks.pwc_network import PwcNetwork, Step, magnified

SHAPE = (19, 33, 21)


def scans(channels: int = 1, batch: int = 1, shape=SHAPE) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand((batch, channels, *shape), generator=generator) for _ in range(2)]


def narrow(bend: float = 0.0, **options) -> PwcNetwork:
    """Untrained; with ``bend``, weights in the last convolutions, so that there is a field to look at."""
    torch.manual_seed(0)
    network = PwcNetwork(**{"mult": 1, "width": 8, "radius": 1} | options)
    if bend:
        for step in network.steps:
            torch.nn.init.normal_(step.last.weight, std=bend)
    return network.eval()


@pytest.mark.parametrize("shape", [SHAPE, (32, 32, 32), (5, 40, 17), (48, 33, 1)])
@pytest.mark.parametrize("finest", [0, 2])
def test_an_untrained_network_is_exactly_the_identity_at_any_size(shape, finest):
    flows = narrow(finest=finest)(*scans(shape=shape))
    assert len(flows) == 2
    for flow in flows:
        assert flow.disp_vox.shape == (1, 3, *shape)
        assert not flow.disp_vox.any()


def test_it_is_small():
    assert sum(parameter.numel() for parameter in PwcNetwork().parameters()) < 400_000


def test_exchanging_the_scans_exchanges_the_directions():
    network = narrow(bend=0.1)
    fixed, moving = scans(batch=2)
    there, back = network(fixed, moving)
    again_back, again_there = network(moving, fixed)
    assert there.disp_vox.abs().max() > 0.05
    assert (there.disp_vox - back.disp_vox).abs().max() > 0.05
    torch.testing.assert_close(there.disp_vox, again_there.disp_vox, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.disp_vox, again_back.disp_vox, rtol=1e-4, atol=1e-4)
    (alone,) = network(fixed, moving, False)
    torch.testing.assert_close(alone.disp_vox, there.disp_vox, rtol=1e-4, atol=1e-4)
    single = network(fixed[1:], moving[1:])[0]
    torch.testing.assert_close(single.disp_vox[0], there.disp_vox[1], rtol=1e-4, atol=1e-4)


def test_coarser_steps_give_smoother_fields_that_the_finer_ones_correct():
    network = narrow(bend=0.1)
    (flow,) = network(*scans(shape=(32, 48, 32)), False, True)
    first, second = flow.coarse_disp_vox
    assert first.shape == flow.disp_vox.shape
    corrected = (flow.disp_vox - second).abs().mean()
    torch.nn.init.zeros_(network.steps[2].last.weight)
    (unchanged,) = network(*scans(shape=(32, 48, 32)), False)
    # Doubling twice is not quite reading once.
    assert (unchanged.disp_vox - second).abs().mean() < 0.1 * corrected
    assert (second - first).abs().mean() > 0.01


@pytest.mark.parametrize("times", [2, 4])
def test_a_magnified_field_says_the_same_of_the_world(times):
    """One that is affine stays so: its coarse voxels are the centres of cells of fine ones."""
    shape = (5, 6, 4)
    matrix = torch.tensor([[0.1, 0.02, 0.0], [0.0, -0.05, 0.03], [0.04, 0.0, 0.2]])
    coarse, fine = (
        torch.stack(torch.meshgrid(*[(torch.arange(n * m) + 0.5) / m for n in shape], indexing="ij"))
        for m in (1, times)
    )
    expected = times * torch.einsum("ab,bijk->aijk", matrix, fine)
    found = magnified(torch.einsum("ab,bijk->aijk", matrix, coarse)[None], times)[0]
    inner = (slice(None), *[slice(times, -times)] * 3)
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-5, atol=1e-5)


def test_the_costs_alone_tell_a_step_of_a_shift():
    """With the identity for convolutions it gives the mean displacement of its costs."""
    torch.manual_seed(0)
    step = Step(16, 2, 3)
    with torch.no_grad():
        step.log_temperature.fill_(-4.0)
        for weight in (parameter for parameter in step.parameters() if parameter.ndim):
            weight.zero_()
        step.correct[0].weight[:, -3:, 0, 0, 0] = torch.eye(3)
        step.correct[0].bias.fill_(10.0)  # above 0 the activations do nothing
        for convolution in (step.correct[2], step.correct[4], step.last):
            convolution.weight[:, :, 1, 1, 1] = torch.eye(3)
        step.last.bias.fill_(-10.0)
    here = torch.randn(1, 16, 10, 9, 11)
    shift = torch.tensor([3.0, 0.0, -1.0])
    there = torch.roll(here, (3, 0, -1), (2, 3, 4))
    given = torch.zeros(1, 3, 10, 9, 11)
    given[:, 0] = 2.0
    found = step(here, there, given)[0, :, 4:-5, 4:-4, 4:-4]
    assert (found - shift[:, None, None, None]).abs().max() < 0.05


def test_gradients_reach_every_weight_and_recomputing_changes_none():
    slopes = []
    for checkpointing in (False, True):
        network = narrow(bend=0.1).train()
        network.checkpointing = checkpointing
        flows = network(*scans())
        sum((flow.disp_vox + 1).square().mean() for flow in flows).backward()
        slopes.append({name: parameter.grad for name, parameter in network.named_parameters()})
    assert not [name for name, slope in slopes[0].items() if "encoder.stages.0" not in name and not slope.any()]
    for name, slope in slopes[0].items():
        torch.testing.assert_close(slope, slopes[1][name], rtol=1e-4, atol=1e-6, msg=name)
