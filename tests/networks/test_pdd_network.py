"""PDD-Net: features, searches, conventions, the loss and the fit to its probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.networks.architecture import build_network
from anamorph.networks.model import load_weights
from anamorph.networks.obelisk import Obelisk, displacements, in_map, points
from anamorph.networks.pdd_network import PddNetwork
from anamorph.networks.pdd_search import Search
from anamorph.networks.published_pdd import TWO_WARPS_ALPHAS, import_published
from anamorph.optimise.probability_fit import fit_to_probabilities, local_means, roughness
from anamorph.training.losses import local_error, nonlocal_error
from published_pdd_oracle import PublishedFeatures, published_field

SHAPE = (30, 26, 34)


def small(**changes) -> PddNetwork:
    torch.manual_seed(0)
    values = {"channels": 4, "control": (5, 4, 6), "width": 5, "reach": 0.4}
    return PddNetwork(**(values | changes)).eval()


@pytest.mark.parametrize(("channels", "count"), [(16, 120_780), (24, 270_772)])
def test_the_features_have_the_published_number_of_parameters(channels, count):
    assert sum(p.numel() for p in Obelisk(channels=channels).parameters()) == count
    assert sum(p.numel() for p in PddNetwork(channels=channels).parameters()) == count + 6


def test_scans_without_contrast_stay():
    found = small()(torch.full((1, 1, *SHAPE), 0.4), torch.full((1, 1, *SHAPE), 0.4))
    inner = found[0].control_disp_vox[..., 1:-1, 1:-1, 1:-1]
    assert found[0].disp_vox.shape == (1, 3, *SHAPE)
    assert inner.abs().max() < 0.3  # the padding of the convolutions is seen near the border


def test_equal_costs_are_equal_probabilities_and_no_displacement():
    features = torch.ones(1, 4, 10, 9, 11)
    found = small().find(features, features, SHAPE)
    torch.testing.assert_close(found.probabilities, torch.full_like(found.probabilities, 5**-3))
    assert found.control_disp_vox.abs().max() < 1e-5


@pytest.mark.parametrize("sampling", ["voxel", "corner"])
def test_a_shift_of_its_own_along_each_axis_is_found(sampling):
    torch.manual_seed(0)
    shape = (36, 36, 36)
    features = torch.nn.functional.avg_pool3d(torch.randn(1, 8, 12, 12, 12), 3, 1, 1)
    true = torch.tensor([6.0, -3.0, 3.0]) * (1 if sampling == "voxel" else 35 / 33)
    # Labels a feature voxel apart.
    reach = 12 / 18 if sampling == "voxel" else 12 / 17.5 * 35 / 33
    network = small(sampling=sampling, control=(6, 6, 6), width=9, reach=reach, mean_field=False)
    with torch.no_grad():
        network.alphas[5] = 300.0
    moved = torch.roll(features, (2, -1, 1), (2, 3, 4))
    found = network.find(features, moved, shape)
    inner = found.control_disp_vox[0, :, 1:-1, 1:-1, 1:-1].flatten(1).median(dim=1).values
    torch.testing.assert_close(inner, true, atol=0.7, rtol=0)
    back = network.find(moved, features, shape).control_disp_vox[0, :, 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(back.flatten(1).median(dim=1).values, -true, atol=0.7, rtol=0)


def test_points_of_the_exact_convention_are_where_their_voxels_are():
    places = points((5, 4, 6), SHAPE, "voxel")
    np.testing.assert_allclose(places.mean(dim=0), (np.array(SHAPE) - 1) / 2, atol=1e-5)
    torch.testing.assert_close(places[0], torch.tensor([2.5, 2.75, 34 / 12 - 0.5]))
    torch.testing.assert_close(
        in_map(torch.tensor([8.0, 0, 4]), SHAPE, (8, 7, 9), "voxel", 4), torch.tensor([2.0, 0, 1])
    )
    labels = displacements(5, 0.4, SHAPE, "voxel").reshape(5, 5, 5, 3)
    torch.testing.assert_close(labels[4, 2, 0], torch.tensor([6.0, 0.0, -6.8]))
    half = displacements(5, 0.4, SHAPE, "half-pixel").reshape(5, 5, 5, 3)
    torch.testing.assert_close(half[4, 2, 0], torch.tensor([6.0, 0.0, -6.8]) * 4 / 5)


@pytest.mark.parametrize(
    ("sampling", "places", "read", "labels"),
    [("corner", True, True, True), ("half-pixel", False, False, False), ("two-warps", False, True, True)],
)
def test_published_weights_give_what_the_published_program_gives(tmp_path, sampling, places, read, labels):
    torch.manual_seed(1)
    theirs = PublishedFeatures(6, places, read).eval()
    for norm in (theirs.batch0, theirs.batch1, theirs.batch2):
        torch.nn.init.uniform_(norm.running_var, 0.2, 0.8)
        torch.nn.init.normal_(norm.running_mean, std=0.1)
    torch.save(theirs.state_dict(), tmp_path / "feat.pth")
    alphas = torch.tensor([60.0, 0.1, 1.05, 0.7, 0.1, 40.0])
    import_published(
        tmp_path / "feat.pth",
        tmp_path / "model",
        alphas=alphas.tolist(),
        sampling=sampling,
        control=5,
        width=5,
        reach=0.3,
    )
    network = build_network(*load_weights(tmp_path / "model"))
    scans = 500 * torch.nn.functional.avg_pool3d(torch.randn(2, 1, *SHAPE), 3, 1, 1)
    with torch.no_grad():
        here, there = (theirs(one[None] / 500) for one in scans)
        expected = published_field(here, there, alphas, 5, 5, 0.3, labels, read)
        torch.testing.assert_close(network.describe(scans[:1]), here, rtol=1e-3, atol=1e-4)
        found = network(scans[:1], scans[1:])[0]
    size = torch.tensor([float(n) for n in SHAPE])
    unit = (size - 1) / 2 if labels else size / 2
    ours = found.control_disp_vox[0].flatten(1).T / unit
    assert expected.abs().max() > 0.02
    torch.testing.assert_close(ours, expected.flip(-1), rtol=1e-3, atol=1e-4)


def test_what_holds_no_published_weights_is_refused(tmp_path):
    torch.save({"alpha": torch.zeros(4)}, tmp_path / "deeds.pth")
    with pytest.raises(UserError, match="no features"):
        import_published(tmp_path / "deeds.pth", tmp_path / "model")
    with pytest.raises(UserError, match="6 alphas"):
        import_published(tmp_path / "deeds.pth", tmp_path / "model", alphas=TWO_WARPS_ALPHAS[:4])


@pytest.mark.parametrize(
    ("sampling", "pooled"), [("voxel", True), ("voxel", False), ("corner", True), ("two-warps", True)]
)
def test_kernel_and_twin_of_the_features_agree_inside_and_outside(sampling, pooled):
    torch.manual_seed(0)
    features = Obelisk(channels=4, spacing=2, pooled=pooled, sampling=sampling).eval()
    with torch.no_grad():
        features.offsets *= 8  # up to half a scan, so that many places lie outside
        kernel = features(image := torch.rand(2, 1, 17, 20, 23))
    torch.testing.assert_close(features(image).detach(), kernel, rtol=1e-4, atol=1e-5)  # with gradients: the twin
    assert kernel.std() > 1e-2


def test_all_but_the_offsets_of_the_costs_are_learned():
    network = small().train()
    scans = torch.rand(2, 1, *SHAPE)
    found = network(scans[:1], scans[1:])
    sum(one.control_disp_vox.square().sum() for one in found).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert (network.alphas.grad != 0).tolist() == [True, False, True, True, False, True]


def test_the_nonlocal_loss_prefers_two_good_displacements_to_the_bad_one_between():
    found = small(control=(2, 2, 2), width=3).find(torch.rand(1, 4, 10, 8, 11), torch.rand(1, 4, 10, 8, 11), SHAPE)
    fixed = torch.ones(1, 1, *SHAPE)
    moving = torch.ones(1, 1, *SHAPE)
    moving[0, 0, :, :, 5:12], moving[0, 0, :, :, 22:29] = 0, 0  # around the control points
    ends, middle = torch.zeros(2, 8, 27)
    ends[:, [12, 14]] = 0.5
    middle[:, 13] = 1
    for share, error in ((ends, 0.0), (middle, 1.0)):
        guess = found._replace(probabilities=share[None], control_disp_vox=torch.zeros(1, 3, 2, 2, 2))
        assert float(local_error(guess, fixed, moving)) == pytest.approx(1, abs=1e-6)  # the mean of both is the middle
        assert float(nonlocal_error(guess, fixed, moving)) == pytest.approx(error, abs=1e-6)
        assert float(nonlocal_error(guess, fixed, moving, torch.tensor([0.25]))) == pytest.approx(
            0.25 * error, abs=1e-6
        )


def test_a_fit_finds_the_probable_displacements_up_to_the_border():
    width, reach = 7, torch.tensor([0.3, 0.4, 0.5])
    target = torch.tensor([0.1, -0.4 / 3, 0.5 / 3])
    axes = [torch.linspace(-r, r, width) - t for r, t in zip(reach.tolist(), target.tolist(), strict=True)]
    apart = sum(a.square() for a in torch.meshgrid(*axes, indexing="ij"))
    volume = (-apart / 0.05).flatten().softmax(0).reshape(1, 1, 1, width, width, width).expand(4, 5, 4, -1, -1, -1)
    field, trace = fit_to_probabilities(volume, torch.zeros(3, 4, 5, 4), reach, 60, 1.5)
    torch.testing.assert_close(field, target[:, None, None, None].expand(3, 4, 5, 4), atol=0.02, rtol=0)
    assert trace[-1] < trace[0]


def test_roughness_is_that_of_the_slope_however_many_points_show_it():
    fields = []
    for count in (8, 32):
        ramp = torch.linspace(0, 1, count)[:, None, None].expand(count, count, count)
        fields.append(torch.stack([ramp, torch.zeros_like(ramp), ramp.transpose(0, 1)]))
    assert float(roughness(fields[0])) == pytest.approx(float(roughness(fields[1])), rel=1e-4)
    assert float(roughness(fields[1])) == pytest.approx(2 / 3 / 31**2, rel=1e-4)


def test_a_stiffer_fit_is_smoother():
    torch.manual_seed(0)
    volume = (3 * torch.randn(4, 4, 4, 125)).softmax(-1).reshape(4, 4, 4, 5, 5, 5)
    start = 0.2 * torch.randn(3, 4, 4, 4)
    rough = [
        float(fit_to_probabilities(volume, start, torch.full((3,), 0.4), 50, weight)[0].diff(dim=1).square().mean())
        for weight in (0.0, 2000.0)
    ]
    assert rough[1] < 0.5 * rough[0]


def test_the_local_mean_is_that_of_the_maximum_that_a_field_points_to():
    width, reach = 9, torch.tensor([0.4, 0.4, 0.8])
    axes = torch.meshgrid(*[torch.linspace(-r, r, width) for r in reach.tolist()], indexing="ij")
    peaks = [torch.tensor([0.23, 0.04, 0.31]), torch.tensor([-0.27, 0.04, -0.31])]
    unit = reach / reach[0]
    bumps = [torch.exp(-sum(((a - t) / u) ** 2 for a, t, u in zip(axes, p, unit, strict=True)) / 0.01) for p in peaks]
    volume = (bumps[0] + 0.8 * bumps[1])[None, None, None].expand(2, 1, 1, -1, -1, -1)
    volume = volume / volume.sum(dim=(3, 4, 5), keepdim=True)
    # The first point is near one of them, the second near the other; the mean of all lies between.
    start = torch.stack([peaks[0] + 0.03, peaks[1] - 0.03], dim=1)[..., None, None]
    found = local_means(volume, start, reach)
    torch.testing.assert_close(found[:, :, 0, 0], torch.stack(peaks, dim=1), atol=0.03, rtol=0)
    wide = local_means(volume, start, reach, width=100.0)
    everywhere = (peaks[0] + 0.8 * peaks[1]) / 1.8
    torch.testing.assert_close(wide[:, 0, 0, 0], everywhere, atol=0.01, rtol=0)


@pytest.mark.parametrize("wrong", [{"control": (1, 4, 4)}, {"width": 4}, {"reach": 0.0}])
def test_searches_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="a search needs"):
        Search(**wrong)


def test_in_half_precision_places_stay_where_they_are():
    torch.manual_seed(0)
    features, image = Obelisk(channels=8, spacing=2, pooled=False).eval(), torch.rand(1, 1, 64, 60, 56)
    smooth = torch.nn.functional.avg_pool3d(image, 3, 1, 1)
    with torch.no_grad():
        single = features(smooth)
        with torch.autocast("cpu", torch.bfloat16):
            half = features(smooth).float()
    assert (half - single).norm() < 0.02 * single.norm()  # 0.046 with places in bfloat16
