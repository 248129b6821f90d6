from __future__ import annotations

import numpy as np
import pytest

from anamorph.features.intensity import (
    LOCAL_NOISE,
    comparable_intensities,
    intensity_lanes,
    local_intensities,
    prepared_channels,
)
from anamorph.features.mind_ssc import ENTRIES, LANES, DescriptorSettings, describe, lanes_used, mind_ssc
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


def test_local_intensities_are_the_last_lane_and_go_with_the_others():
    channels = prepared_channels(textured_image(GRID))
    settings = DescriptorSettings(1, 2, 4.0, local_weight=9.0)
    described = describe(channels, settings, "scaled", (2, 2, 3))
    np.testing.assert_array_equal(
        described[..., : ENTRIES + 1], describe(channels, SETTINGS, "scaled", (2, 2, 3))[..., : ENTRIES + 1]
    )
    local = local_intensities(channels[0], "scaled")
    np.testing.assert_allclose(described[..., ENTRIES + 1], 3 * pool_volume(local[None], (2, 2, 3))[0], rtol=1e-5)
    assert not described[..., ENTRIES + 2 :].any()
    hounsfield = describe(prepared_channels(ct()), settings, "ct", (1, 1, 1))
    assert lanes_used(1, settings, "ct") == LANES
    assert hounsfield[..., LANES - 1].std() > 1
    structure_alone = DescriptorSettings(1, 2, 0.0, local_weight=9.0)
    assert lanes_used(1, structure_alone, "scaled") == lanes_used(1, settings, "none") == ENTRIES
    assert not describe(channels, structure_alone, "scaled", (1, 1, 1))[..., ENTRIES:].any()


def test_local_intensities_follow_the_local_correlation_whatever_the_brightness():
    rng = np.random.default_rng(1)
    values = rng.random((9, 8, 7)).astype(np.float32)
    local = local_intensities(values, "scaled")
    box = values[2:7, 1:6, 0:5]
    assert local[4, 3, 2] == pytest.approx((values[4, 3, 2] - box.mean()) / np.hypot(box.std(), LOCAL_NOISE), abs=1e-4)
    ramp = np.linspace(0.5, 1.0, 9, dtype=np.float32)[:, None, None]
    changed = local_intensities((values * ramp + 0.2).astype(np.float32), "scaled")
    assert np.abs(changed - local).mean() < 0.1 * local.std()
    assert np.abs(local_intensities(np.full((9, 8, 7), 0.3, np.float32), "scaled")).max() < 1e-3


def test_local_intensities_of_thin_scans_are_taken_plane_by_plane():
    values = np.random.default_rng(2).random((8, 8, 3)).astype(np.float32)
    planes = np.concatenate([local_intensities(values[..., k : k + 1], "scaled") for k in range(3)], axis=2)
    np.testing.assert_allclose(local_intensities(values, "scaled"), planes, atol=1e-5)


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
