"""Memory that labels which pull and tissue that slides take is foreseen."""

from __future__ import annotations

import tracemalloc

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.methods.affine import Linear
from anamorph.methods.guide import Guide, label_bytes, lane_bytes
from anamorph.methods.pyramid import Pyramid
from anamorph.phantom.pair import make_pair
from anamorph.registration.request import Request
from anamorph.registration.run import prepare
from anamorph.transforms.maps import Affine

PAIR = make_pair((72, 60, 64))
FIELDS = 16 * 2 * 72 * 60 * 64


def test_shares_of_labels_take_what_is_foreseen():
    fixed, moving = PAIR.fixed_labels, PAIR.moving_labels
    working = Pyramid.plan(fixed.grid, 0, 0).working
    tracemalloc.start()
    guide = Guide.of_labels(fixed, moving, fixed.present(), working.finest_mm)
    guide.agreement(Affine.translation([1.0, 2.0, 3.0]))
    measured = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    count = len(fixed.present())
    foreseen = label_bytes(count, fixed.grid, moving.grid, working, working) - lane_bytes(working, -(-count // 16))
    assert 0.6 * foreseen < measured < 1.05 * foreseen


def test_a_plan_counts_what_is_known_of_a_pair():
    def needed(**known):
        return prepare(Request(PAIR.fixed, PAIR.moving, **known))[1].needed_bytes

    plain = needed()
    organ = PAIR.fixed_labels.present()[0]
    lungs = Labels((PAIR.fixed_labels.data[0] == organ).astype(np.uint8), PAIR.fixed.grid)
    labels = {"fixed_labels": PAIR.fixed_labels, "moving_labels": PAIR.moving_labels}
    assert needed(**labels) == plain
    assert needed(sliding=lungs) - plain == FIELDS
    one, all_labels = needed(**labels, use_labels=[organ]) - plain, needed(**labels, use_labels="all") - plain
    assert all_labels > 1.5 * one > 0
    assert needed(sliding=lungs, method="linear") == needed(method="linear")
    grids = PAIR.fixed.grid, PAIR.moving.grid
    alone = needed(**labels, use_labels=[organ], method="linear") - needed(method="linear")
    assert alone == label_bytes(1, *grids, grids[0]) > 0


def test_labels_take_little_of_a_large_scan_where_they_correct_the_start_alone():
    large = Grid((512, 512, 400), np.diag([0.7, 0.7, 1.0, 1.0]))
    assert 10 * Linear().known_bytes(large, large, 13) < label_bytes(13, large, large, large)


def test_the_workers_of_a_cohort_are_given_room_for_it():
    grids = PAIR.fixed.grid, PAIR.moving.grid
    plain = RegistrationSettings(device="cpu").peak_memory_bytes(*grids)
    assert RegistrationSettings(device="cpu").peak_memory_bytes(*grids, slides=True) - plain == FIELDS
    some, most = (RegistrationSettings(use_labels=one).peak_memory_bytes(*grids) - plain for one in ("1,2", "all"))
    assert most > 3 * some > 0
