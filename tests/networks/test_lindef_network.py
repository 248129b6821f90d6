"""The network of ``lindef``: its size, the identity, both orders of composition, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from anamorph.networks.blocks import warp
from anamorph.networks.lindef_network import (
    MOMENTS,
    ORDERS,
    UNIT_VOX,
    LindefNetwork,
    linear_after,
    linear_before,
    moments,
)
from anamorph.transforms.fields import diagonal_gradients, integrate_gradients

SHAPE = (19, 24, 15)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def scans(batch: int = 1, shape=SHAPE) -> torch.Tensor:
    return torch.rand((2, batch, 1, *shape), generator=torch.Generator().manual_seed(0))


def bent(network: LindefNetwork) -> LindefNetwork:
    """With weights in both heads, so that there is something to look at."""
    torch.manual_seed(1)
    torch.nn.init.normal_(network.deformation.last.weight, std=0.1)
    if network.linear is not None:
        torch.nn.init.normal_(network.linear.last.weight, std=0.02)
    return network.eval()


def narrow(**options) -> LindefNetwork:
    torch.manual_seed(0)
    return LindefNetwork(width=4, **options)


def test_the_published_network_has_the_published_size():
    network = LindefNetwork()
    assert parameters(network) == 1_767_875
    assert parameters(network.encoder) == 416_736
    assert parameters(network.linear) == 3_492
    assert parameters(network.deformation.excitation) == 10_748
    assert parameters(network.deformation) == 10_748 + 1_336_899
    assert sum(network.deformation.channels) == 290
    assert parameters(LindefNetwork(affine=False)) == 1_767_875 - 3_492


@pytest.mark.parametrize("order", ["linear-first", "deform-first"])
@pytest.mark.parametrize("pooling", ["mean", "moments"])
@pytest.mark.parametrize("affine", [False, True])
def test_an_untrained_network_is_exactly_the_identity(affine, pooling, order):
    fixed, moving = scans(shape=(7, 20, 1))
    for flow, source in zip(
        narrow(affine=affine, pooling=pooling, order=order)(fixed, moving), (moving, fixed), strict=True
    ):
        assert not flow.disp_vox.any()
        assert not flow.offset.any()
        assert (flow.gradients == 0.5).all()
        torch.testing.assert_close(warp(source, flow.disp_vox), source, rtol=0, atol=1e-6)


def test_the_gain_scales_what_goes_into_the_sigmoid():
    with torch.no_grad():
        whole, part = (bent(narrow(gradient_gain=gain))(*scans(), False)[0] for gain in (1.0, 0.1))
    assert whole.gradients.logit().std() > 0.01
    torch.testing.assert_close(part.gradients.logit(), 0.1 * whole.gradients.logit(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(part.offset, whole.offset)


def test_the_second_direction_is_a_pass_with_the_scans_exchanged():
    network = bent(narrow(pooling="moments"))
    fixed, moving = scans()
    there, back = network(fixed, moving)
    (other,) = network(moving, fixed, False)
    assert (there.disp_vox - back.disp_vox).abs().max() > 0.1
    torch.testing.assert_close(back.disp_vox, other.disp_vox)


def test_a_batch_is_its_parts():
    network = bent(narrow(pooling="moments"))
    fixed, moving = scans(batch=2)
    (both,) = network(fixed, moving, False)
    for n in range(2):
        (single,) = network(fixed[n : n + 1], moving[n : n + 1], False)
        torch.testing.assert_close(single.disp_vox[0], both.disp_vox[n], rtol=1e-4, atol=1e-4)


def test_the_first_convolution_is_that_of_the_joined_and_weighted_features():
    network = bent(narrow()).deformation
    features = [torch.rand(2, n, 6, 7, 8) for n in network.channels]
    gates = torch.rand(2, sum(network.channels))
    joined = torch.cat(features, dim=1) * gates[..., None, None, None]
    torch.testing.assert_close(
        network._merge(gates, *features), network.merged(network.merge(joined)), rtol=1e-4, atol=1e-4
    )


def test_the_receptive_field_is_25_voxels():
    encoder = narrow().encoder.eval()
    for stage in encoder.stages:
        stage[1] = torch.nn.Identity()  # a norm sees everything
    image = torch.rand(1, 2, 41, 5, 5, requires_grad=True)
    encoder(image)[-1][0, 0, 20, 2, 2].backward()
    seen = image.grad.abs().sum((0, 1, 3, 4)).nonzero().flatten()
    assert [int(seen[0]), int(seen[-1])] == [20 - 12, 20 + 12]
    assert len(seen) == 25, "no voxel in between is passed over"


def offset_of(matrix: np.ndarray, translation_vox: np.ndarray) -> torch.Tensor:
    found = np.column_stack([matrix - np.eye(3), translation_vox / UNIT_VOX])
    return torch.from_numpy(found)[None].float()


@pytest.mark.parametrize("shape", [SHAPE, (40, 9, 1)])
def test_a_translation_of_whole_voxels_moves_by_them(shape):
    offset = offset_of(np.eye(3), np.array([2.0, -3, 0]))
    zero = torch.zeros(1, 3, *shape)
    for compose in (linear_after, linear_before):
        found = compose(offset, zero)
        for axis, voxels in enumerate((2.0, -3.0, 0.0)):
            torch.testing.assert_close(found[:, axis], torch.full((1, *shape), voxels))


@pytest.mark.parametrize(("compose", "linear_first"), [(linear_after, True), (linear_before, False)])
def test_maps_that_do_not_commute_are_composed_in_the_order_said(compose, linear_first):
    """A rotation with a shear about the middle, and stretches along the axes: G(p) = (1 + s) p from the first voxel."""
    matrix = Rotation.from_euler("xyz", (5, -8, 12), degrees=True).as_matrix() @ np.array(
        [[1.05, 0.1, 0], [0, 0.95, 0], [0, 0, 1]]
    )
    translation = np.array([0.5, -1.0, 0.7])
    stretch = np.array([0.1, -0.15, 0.2])
    gradients = torch.empty(1, 3, *SHAPE)
    for axis in range(3):
        gradients[:, axis] = (1 + stretch[axis]) / 2
    deformation = integrate_gradients(gradients)
    found = compose(offset_of(matrix, translation), deformation)[0].numpy()

    places = np.stack(np.indices(SHAPE).astype(np.float64))
    centre = (np.array(SHAPE)[:, None, None, None] - 1) / 2

    def linear(p):
        return np.einsum("ab,bijk->aijk", matrix, p - centre) + centre + translation[:, None, None, None]

    def deformed(p):
        return p + stretch[:, None, None, None] * (p + 1)  # the inclusive sum begins at the first voxel

    expected = linear(deformed(places)) if linear_first else deformed(linear(places))
    # Beyond the border a field is that of the border, which this one is not.
    inside = np.ones(SHAPE, bool) if linear_first else ((linear(places) >= 0) & (linear(places) <= 2 * centre)).all(0)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found[:, inside], (expected - places)[:, inside], atol=2e-4)
    other = deformed(linear(places)) if linear_first else linear(deformed(places))
    assert np.abs(expected - other)[:, inside].max() > 0.3


def test_the_inclusive_sum_has_no_offset_of_a_voxel():
    identity = torch.full((1, 3, *SHAPE), 0.5)
    assert not integrate_gradients(identity).any()
    field = torch.randn(1, 3, *SHAPE) * 0.1
    torch.testing.assert_close(integrate_gradients(diagonal_gradients(field)), field, rtol=1e-4, atol=1e-5)


def test_gradients_through_the_sums_are_right():
    values = torch.rand(1, 3, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(integrate_gradients, (values,))


def test_sums_are_exact_over_long_axes_whatever_the_precision_of_the_network():
    image = torch.rand(1, 1, 300, 4, 4)
    network = narrow()
    torch.nn.init.constant_(network.deformation.last.bias, 0.05)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (flow,) = network(image, image, False)
    step = 2 * torch.sigmoid(torch.tensor(0.05).bfloat16().float()) - 1
    assert float(flow.disp_vox[0, 0, -1].mean()) == pytest.approx(300 * float(step), rel=1e-4)


def test_both_branches_learn():
    network = bent(narrow())
    (flow,) = network(*scans(), False)
    flow.disp_vox.square().sum().backward()
    untouched = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    # A bias before a norm changes nothing.
    assert all(name.endswith((".0.bias", "merge.bias")) for name in untouched), untouched


def test_moments_tell_where_things_are():
    volume = torch.zeros(1, 2, 21, 11, 5)
    volume[0, 0, 5, 5, 2] = 21 * 11 * 5
    volume[0, 1] = 1
    point, constant = moments(volume)[0]
    assert point.shape == (MOMENTS,)
    assert constant[0] == pytest.approx(1)
    assert point[0] == pytest.approx(1)
    by_order = {order: float(value) for order, value in zip(ORDERS, point, strict=True)}
    assert by_order[1, 0, 0] == pytest.approx(-0.5)
    assert by_order[0, 1, 0] == pytest.approx(0, abs=1e-6)
    assert by_order[2, 0, 0] == pytest.approx((3 * 0.25 - 1) / 2)
    assert by_order[0, 0, 2] == pytest.approx(-0.5)
