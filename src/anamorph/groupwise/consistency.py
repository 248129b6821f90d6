"""How well scans agree with each other by way of the template."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from anamorph.data import Case
from anamorph.evaluation.metrics.dice import dice
from anamorph.image.read import read_labels
from anamorph.registration.outputs import FIXED_TO_MOVING, MOVING_TO_FIXED
from anamorph.transforms import Composite
from anamorph.transforms.files import read_transform


def pairwise_dice(cases: Sequence[Case], scans: Path) -> dict[tuple[str, str], float]:
    """Mean Dice of every ordered pair of labelled scans, registered by way of the template.

    Args:
        cases: of the template, with label maps.
        scans: the folder ``scans`` of the template.

    Returns:
        by the keys of the fixed and of the moving scan.
    """
    labels = {case.key: read_labels(case.label) for case in cases if case.label is not None}
    there = {key: read_transform(scans / key / MOVING_TO_FIXED) for key in labels}
    back = {key: read_transform(scans / key / FIXED_TO_MOVING) for key in labels}
    found = {}
    for fixed, moving in permutations(labels, 2):
        warped = Composite.of(there[fixed], back[moving]).warp_labels(labels[moving], labels[fixed].grid)
        found[fixed, moving] = float(np.mean([*dice(labels[fixed], warped).values()]))
    return found
