"""A lesion that appears stands out of the noise; other brightness, coils and small shifts do not."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph import Affine, Image, UserError, find_change
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
