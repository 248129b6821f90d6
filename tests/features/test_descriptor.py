from __future__ import annotations

import numpy as np
import pytest

from anamorph.features.intensity import comparable_intensities, intensity_lanes, prepared_channels
from anamorph.features.mind_ssc import ENTRIES, LANES, DescriptorSettings, describe, mind_ssc
from anamorph.geometry.averaging import pool_volume
from anamorph.image import Image
from geometries import GRIDS, textured_image

GRID = GRIDS["identity"]
SETTINGS = DescriptorSettings(radius=1, dilation=2, intensity_weight=4.0)


def ct(seed=0):
    rng = np.random.default_rng(seed)
    return Image(rng.uniform(-1024, 3000, GRID.shape).astype(np.float32), GRID, "ct")


def test_entries_are_mind_and_lanes_are_weighted_intensities():
    channels = prepared_channels(textured_image(GRID))
    described = describe(channels, SETTINGS, "scaled", (2, 2, 3))
    np.testing.assert_array_equal(
        described[..., :ENTRIES], mind_ssc(channels[0], (1, 1, 1), (2, 2, 2), (2, 2, 3))[..., :ENTRIES]
    )
    # The squared difference of a lane is the weight times the squared difference of intensities.
    np.testing.assert_allclose(described[..., ENTRIES], 2 * pool_volume(channels, (2, 2, 3))[0], rtol=1e-5)
    assert not described[..., ENTRIES + 1 :].any()


def test_no_intensities_across_modalities_or_without_weight():
    channels = prepared_channels(textured_image(GRID))
    assert not describe(channels, SETTINGS, "none", (1, 1, 1))[..., ENTRIES:].any()
    assert not describe(channels, DescriptorSettings(1, 2, 0.0), "scaled", (1, 1, 1))[..., ENTRIES:].any()


def test_every_channel_gets_its_own_lanes():
    one = textured_image(GRID, seed=2)
    two = textured_image(GRID, seed=3)
    both = Image(np.concatenate([one.data, two.data]), GRID)
    described = describe(prepared_channels(both), SETTINGS, "scaled", (2, 2, 2))
    assert described.shape[-1] == 2 * LANES
    for n, image in enumerate((one, two)):
        alone = describe(prepared_channels(image), SETTINGS, "scaled", (2, 2, 2))
        np.testing.assert_array_equal(described[..., n * LANES : (n + 1) * LANES], alone)


@pytest.mark.parametrize("shape", [(20, 18, 1), (20, 18, 3), (2, 18, 5)])
def test_thin_axes_are_described(shape):
    channels = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    described = describe(channels, SETTINGS, "scaled", (2, 2, 1))
    assert np.isfinite(described).all()
    assert described[..., :ENTRIES].std(axis=(0, 1, 2)).max() > 0.05


def test_ct_windows_show_soft_tissue_air_and_bone():
    values = np.array([-1024.0, -550, -100, 40, 240, 550, 1500], np.float32).reshape(-1, 1, 1)
    soft, air, bone = (lane.ravel() for lane in intensity_lanes(values, "ct"))
    np.testing.assert_allclose(soft, [0, 0, 0.15, 0.5, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(air, [0, 0.5, 1, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(bone, [0, 0, 0, 0, 0.1125, 0.5, 1], atol=1e-6)


def test_kinds_of_pairs():
    mr = textured_image(GRID)
    assert comparable_intensities(ct(0), ct(1)) == "ct"
    assert comparable_intensities(mr, mr) == "scaled"
    assert comparable_intensities(ct(), mr) == "none"


def test_scaling_is_blind_to_linear_changes_and_metal_is_cut():
    mr = textured_image(GRID)
    np.testing.assert_allclose(prepared_channels(mr), prepared_channels(mr.with_data(mr.data * 7 + 1000)), atol=1e-4)
    assert prepared_channels(ct()).max() == 1500
    assert (prepared_channels(mr.with_data(np.full(GRID.shape, 3.0))) == 0).all()
