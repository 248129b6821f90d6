"""Scans that explain little of each other: the map has few degrees of freedom, and nothing is deformed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import anamorph
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.linear_start import comparable_after, linear_start
from anamorph.methods.working_frame import Scan
from anamorph.methods.worth import LEAST_EXPLAINED, NOT_DEFORMED, mismatch_left
from anamorph.transforms import Affine


def noise(seed):
    """Smooth noise far from the origin, so that its header has a position."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((26, 24, 22)), 1.5)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = 40, -20, 10
    return Image(values.astype(np.float32), Grid(values.shape, affine))


@pytest.fixture(scope="module")
def unrelated():
    return noise(0), noise(1)


def test_the_map_between_unrelated_scans_is_rigid(unrelated):
    start, kind = linear_start(*(Scan.prepare(scan, None) for scan in unrelated), "affine")
    assert kind == "none"
    assert start.explained < LEAST_EXPLAINED
    linear = start.transform.matrix[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_unrelated_scans_are_not_deformed_unless_that_is_asked_for(unrelated, method):
    result = anamorph.register(*unrelated, method=method)
    assert isinstance(result.fixed_to_moving, Affine)
    np.testing.assert_allclose(result.moving_to_fixed.matrix @ result.fixed_to_moving.matrix, np.eye(4), atol=1e-9)
    assert NOT_DEFORMED in result.warnings
    deformed = anamorph.register(*unrelated, method=method, settings={"init": "world"})
    assert not isinstance(deformed.fixed_to_moving, Affine)
    assert NOT_DEFORMED not in deformed.warnings


def test_intensities_compare_by_their_correlation(unrelated):
    one, other = unrelated
    mixed = one.with_data(one.data + other.data * one.data.std() / other.data.std() * 1.5)
    scans = Scan.prepare(one, None), Scan.prepare(mixed, None)
    correlation = np.corrcoef(one.data.ravel(), mixed.data.ravel())[0, 1]
    assert 0.45 < correlation < 0.65
    for least, expected in ((correlation - 0.1, "scaled"), (correlation + 0.1, "none")):
        assert comparable_after(*scans, Affine.identity(), "scaled", least) == expected
    assert comparable_after(*scans, Affine.identity(), "ct", 0.99) == "ct"


def test_the_mismatch_left_is_that_of_the_descriptors():
    fixed = np.random.default_rng(0).random((6, 5, 4, 16)).astype(np.float32)
    moving = np.roll(fixed, 1, axis=0)
    pair = DescribedPair(fixed, np.ones((6, 5, 4), np.float32), moving, np.ones((6, 5, 4), np.float32))
    field = np.zeros((3, 6, 5, 4), np.float32)
    field[0] = 1
    shifted = np.concatenate([moving[1:], moving[-1:]])
    expected = ((shifted - fixed) ** 2).sum() / ((moving - fixed) ** 2).sum()
    assert mismatch_left(pair, field) == pytest.approx(expected, rel=1e-4)
