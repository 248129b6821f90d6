"""What registrations are foreseen to take on one core follows from what they do."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.methods.convex import Convex
from anamorph.methods.deeds import Deeds
from anamorph.methods.foreseen import COMPARED_S, NETWORK_S, REFINED_S, START_S
from anamorph.methods.guide import guide_bytes

GRID = Grid((64, 64, 64), np.eye(4))
"""Small enough for all its voxels to be described: a search over the second of them has as many cells."""
VOXELS = 64**3


def seconds(kind, fixed=GRID, moving=GRID, **settings):
    return kind(kind.Config(**settings)).one_core_seconds(fixed, moving)


def test_iterations_and_levels_take_their_time():
    plain = seconds(Convex)
    more = seconds(Convex, refine_iterations=(20, 50))
    assert more - plain == pytest.approx(REFINED_S * 30 * VOXELS)
    # The finest level compares cells of two voxels, five displacements along each axis.
    fewer = seconds(Convex, search_scales=(4, 2), search_cells=(2, 2), search_radius_mm=(0.0, 0.0))
    one = seconds(Convex, search_scales=(1,), search_cells=(2,), search_radius_mm=(0.0,))
    none = seconds(Convex, search_scales=(1,), search_cells=(64,), search_radius_mm=(0.01,))
    assert one - none == pytest.approx(COMPARED_S * ((VOXELS / 8) * 5**3 - 1))
    assert fewer < plain


def test_a_start_that_is_given_is_not_looked_for():
    assert seconds(Convex) - seconds(Convex, init="world") == pytest.approx(START_S)


def test_a_guide_takes_the_time_of_its_network():
    guided = seconds(Convex, guide="symmetric-hippocampus/guide") - seconds(Convex)
    assert guided == pytest.approx(NETWORK_S * guide_bytes("symmetric-hippocampus/guide", GRID, GRID, GRID))


def test_either_scan_may_lead():
    large = Grid((96, 96, 96), np.eye(4))
    both = seconds(Convex, GRID, large), seconds(Convex, large, GRID)
    assert both[0] == both[1]
    assert seconds(Convex) < both[0] < seconds(Convex, large, large)


def test_the_published_program_is_not_foreseen():
    assert seconds(Deeds, compatible=True) is None
    assert seconds(Deeds) > seconds(Convex)
