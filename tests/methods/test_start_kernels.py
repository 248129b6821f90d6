"""The compiled kernels of the start give what their readable twins give."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.methods.start.matching import _sums, _sums_numpy
from anamorph.methods.start.rotations import AT_ONCE, PoseSearch, Room, covering_rotations
from anamorph.methods.start.volumes import Judge, ScanPair
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Affine
from arrays import smooth_descriptor

SHAPE = (26, 20, 16)


@pytest.fixture(scope="module")
def pair() -> ScanPair:
    values = smooth_descriptor((SHAPE[0] + 2, *SHAPE[1:]), sigma=1.5)
    weight = np.ones(SHAPE, np.float32)
    weight[:, :4] = 0
    fixed = Scan(np.ascontiguousarray(values[2:, ..., 0])[None], weight, Grid(SHAPE, np.eye(4)))
    moving = Scan(np.ascontiguousarray(values[:-2, ..., 0])[None], np.ones(SHAPE, np.float32), Grid(SHAPE, np.eye(4)))
    return ScanPair(fixed, moving, "scaled", DescriptorSettings(1, 1, 3.0))


def test_the_best_shifts_of_rotations(pair: ScanPair) -> None:
    search = PoseSearch(pair, "rigid", 12)
    rotations = covering_rotations(90.0)[:AT_ONCE]
    explained, places = search._best(rotations, Room.of(search.side, search.correlator))
    expected, expected_places = search._best_numpy(rotations)
    np.testing.assert_allclose(explained, expected, atol=2e-6)
    np.testing.assert_array_equal(places, expected_places)
    assert len(np.unique(places)) > 1


def test_rotations_that_share_too_little_of_their_bodies_are_not_tried(pair: ScanPair) -> None:
    search = PoseSearch(pair, "rigid", 12)
    search.fixed.body[2:], search.moving.body[:-2] = 0, 0
    search.correlator = type(search.correlator)(pair, search.fixed, search.moving, (search.side,) * 3)
    search._channels = search._interleaved()
    explained, _ = search._best(np.eye(3)[None], Room.of(search.side, search.correlator))
    np.testing.assert_allclose(explained, search._best_numpy(np.eye(3)[None])[0], atol=2e-6)


def test_the_sums_of_a_gauss_newton_step(pair: ScanPair) -> None:
    judge = Judge.of(pair, pair.fixed_on(pair.fixed.grid), pair.moving_on(pair.moving.grid))
    moved = judge.moved(Affine.translation([1.0, 0.3, 0.0]))
    chosen = np.flatnonzero(np.pad(np.ones([n - 2 for n in SHAPE], bool), 1).ravel() & (judge.fixed.weight > 0).ravel())
    given = judge.fixed, moved, chosen, judge.chance, np.eye(4)[:3] / 10
    for found, expected in zip(_sums(*given), _sums_numpy(*given), strict=True):
        assert abs(expected).max() > 1
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())
