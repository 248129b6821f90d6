"""What a guide sees in both scans, before and after."""

from __future__ import annotations

import numpy as np

from anamorph.evaluation.seen_labels import judge_seen
from anamorph.geometry import Grid
from anamorph.image import Labels
from anamorph.transforms import Affine

GRID = Grid((20, 18, 16), spacing_mm=2.0)
GUIDE = {
    "name": "one",
    "trust": {"liver": 1.0, "spleen": 0.0, "kidney": 0.4},
    "sure": {"liver": 0.9, "spleen": 0.3, "kidney": 0.7},
}


def boxes(first: int) -> Labels:
    data = np.zeros(GRID.shape, np.uint8)
    data[first : first + 6, 2:8, 2:8] = 1
    data[10:14, 10:14, 10:14] = 3
    return Labels(data, GRID)


def test_a_map_that_lays_one_label_upon_its_partner_takes_the_other_away():
    seen = judge_seen((boxes(2), boxes(5)), GUIDE, Affine.translation(np.array([6.0, 0, 0])))
    assert [(row.name, row.before, row.after) for row in seen.rows] == [
        ("liver", 0.5, 1.0),
        ("spleen", None, None),
        ("kidney", 1.0, 0.25),
    ]
    assert seen.least_agreed == 3
    assert np.array_equal(np.unique(seen.alone(3).data), [0, 3])
    assert np.array_equal(seen.warped.data == 1, seen.fixed.data == 1)


def test_labels_that_nobody_trusts_have_no_least():
    guide = GUIDE | {"trust": dict.fromkeys(GUIDE["trust"], 0.0)}
    assert judge_seen((boxes(2), boxes(5)), guide, Affine.identity()).least_agreed is None
    assert judge_seen(None, {}, Affine.identity()) is None
