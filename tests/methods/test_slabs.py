"""Scans of a few slices: nothing moves through them without evidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.start.rotations import VOXELS
from anamorph.methods.start.search import _volume_sizes
from anamorph.methods.start.volumes import ScanPair
from anamorph.methods.working_frame import Scan
from anamorph.registration.run import register

PLANE = (48, 44)
THICK = (1.5, 1.5, 5.0)


def slab(slices: int, noise: float, seed: int, moved=(0.0, 0.0, 0.0), through: float = 0.0) -> Image:
    """One structure in all slices, with noise of its own; ``through`` adds some that changes from slice to slice."""
    rng = np.random.default_rng(5)
    plane = gaussian_filter(rng.standard_normal(PLANE), 3)
    volume = np.repeat((plane / plane.std())[..., None], slices + 8, 2)
    changing = gaussian_filter(rng.standard_normal(volume.shape), (3, 3, 1))
    volume += through * changing / changing.std()
    volume = shift(volume, moved, order=1, mode="nearest")[..., 4 : 4 + slices]
    volume = volume + noise * np.random.default_rng(100 + seed).standard_normal(volume.shape)
    return Image((100 * (volume - volume.min())).astype(np.float32), Grid(volume.shape, np.diag([*THICK, 1.0])))


@pytest.mark.parametrize("slices", [3, 5])
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_the_start_does_not_move_through_a_slab(slices, noise):
    fixed = slab(slices, noise, 0)
    for moving in (fixed, slab(slices, noise, 1), slab(slices, noise, 2, moved=(3, -2, 0))):
        found = linear_start(Scan.prepare(fixed, None), Scan.prepare(moving, None), "affine")
        assert np.abs(found.transform.displacement_on(fixed.grid).disp_vox[2]).mean() < 0.25


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_a_registration_does_not_move_through_a_slab(method):
    fixed, moving = slab(4, 0.5, 0), slab(4, 0.5, 2, moved=(3, -2, 0))
    found = register(fixed, moving, method=method).fixed_to_moving.displacement_on(fixed.grid).disp_vox
    assert np.abs(found[2]).mean() < 0.25
    np.testing.assert_allclose(found[:2].mean(axis=(1, 2, 3)), (3, -2), atol=0.4)


def test_a_shift_by_a_slice_is_found_where_slices_differ():
    fixed, moving = slab(5, 0.1, 0, through=1.0), slab(5, 0.1, 1, moved=(0, 0, 1), through=1.0)
    found = register(fixed, moving).fixed_to_moving.displacement_on(fixed.grid).disp_vox
    assert found[2].mean() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("slices", "kind", "sizes"), [(2, "scaled", VOXELS), (12, "scaled", VOXELS[:1]), (12, "ct", VOXELS)]
)
def test_thin_scans_are_turned_on_finer_volumes_too(slices, kind, sizes):
    thin, whole = (Scan.prepare(slab(count, 0.1, 0), None) for count in (slices, 12))
    assert _volume_sizes(ScanPair(thin, whole, kind, DescriptorSettings(1, 1, 3.0))) == sizes
    assert _volume_sizes(ScanPair(whole, thin, kind, DescriptorSettings(1, 1, 3.0))) == sizes
