"""A lesion that appears stands out of the noise; other brightness, coils and small shifts do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, t

from anamorph import Affine, Grid, Image, UserError, find_change
from anamorph.evaluation.change import Change
from anamorph.phantom.ventricle import make_beat

SCANS = make_beat(frames=2, squeeze=0, shortening=0, noise=15.0).series.frames
GRID = SCANS[0].grid
AT = GRID.voxel_to_world(np.moveaxis(np.indices(GRID.shape), 0, -1))
LESION = np.linalg.norm(AT - (45, 10, 5), axis=-1) < 5


def later(lesion: float = 0.0) -> Image:
    """The second scan with another scale, a coil field along x, and a lesion that is brighter."""
    values = (SCANS[1].data[0] + lesion * LESION) * (1 + AT[..., 0] / 1000) * 1.7
    return Image(values.astype(np.float32), GRID, "later")


def test_noise_is_of_unit_size_whatever_the_scale():
    change = find_change(SCANS[0], later(), Affine.identity())
    values = change.map.data[0][change.inside]
    assert 0.8 < values.std() < 1.4
    assert (np.abs(values) > 5).mean() < 1e-3


def test_a_new_lesion_stands_out():
    change = find_change(SCANS[0], later(250.0), Affine.identity())
    values = change.map.data[0]
    assert np.median(values[LESION]) > 6
    brighter, darker = change.volume_ml(6)
    assert 0.7 < brighter / (LESION.sum() * 0.008) < 2.5  # with the halo of the smoothing
    assert darker < 0.1 * brighter
    gone = find_change(later(250.0), SCANS[0], Affine.identity()).map.data[0]
    assert np.median(gone[LESION]) < -6


def test_half_a_voxel_off_is_no_change():
    shifted = Affine.translation([0.6, 0, 0])
    change = find_change(SCANS[0], later(250.0), shifted)
    outside = change.inside & ~(np.linalg.norm(AT - (45, 10, 5), axis=-1) < 10)
    assert (np.abs(change.map.data[0][outside]) > 6).mean() < 5e-3
    assert np.median(change.map.data[0][LESION]) > 3


def test_what_is_not_in_view_has_no_change():
    with pytest.raises(UserError, match="shows nothing of the body"):
        find_change(SCANS[0], later(), Affine.translation([500, 0, 0]))


def test_a_lesion_is_a_region_that_chance_does_not_explain():
    change = find_change(SCANS[0], later(250.0), Affine.identity())
    first = change.sure[0]
    assert first.chance < 1e-6
    assert first.mean_sd > 5
    np.testing.assert_allclose(first.middle_ras_mm, (45, 10, 5), atol=1.5)
    assert change.line.startswith(f"change: {len(change.sure)} region")
    assert "brighter" in change.line
    gone = find_change(later(250.0), SCANS[0], Affine.identity()).sure[0]
    assert gone.mean_sd < -5
    np.testing.assert_allclose(gone.middle_ras_mm, (45, 10, 5), atol=1.5)
    assert change.as_dict()["regions"][0]["middle_ras_mm"] == [round(value, 2) for value in first.middle_ras_mm]


def test_without_a_lesion_nothing_is_sure():
    change = find_change(SCANS[0], later(), Affine.identity())
    assert change.sure == []
    assert "no region" in change.line


@pytest.mark.parametrize("degrees", [4.0, 1000.0])
def test_chance_is_not_underrated(degrees):
    """Of maps of smooth noise, heavy tails or not, no more than the share that chance says has a region."""
    rng = np.random.default_rng(0)
    grid = Grid((40, 40, 40), np.eye(4))
    inside, seen, small = np.ones(grid.shape, bool), 0, []
    for _ in range(40):
        field = gaussian_filter(rng.standard_normal(grid.shape), 1.5, mode="wrap")
        values = t.ppf(norm.cdf(field / field.std()), degrees).astype(np.float32)
        change = Change(Image(values, grid), inside)
        regions = change.regions(3.5, most_chance=1.0)
        seen += any(region.chance <= 0.05 for region in regions)
        small.append(min((region.chance for region in regions), default=1.0))
    assert seen <= 5
    assert np.median(small) < 0.99  # and it is no number that nothing can reach
