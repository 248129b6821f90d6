"""Which scans are trained and measured with which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from anamorph.errors import UserError

Pair = tuple[int, int, int]
"""Cohort, fixed row, moving row."""

if TYPE_CHECKING:
    from torch import Generator

    from anamorph.training.cache import Cohort


def draw_pairs(cohorts: Sequence[Cohort], per_scan: int, merge_validation: bool, generator: Generator) -> list[Pair]:
    """``(cohort, fixed, moving)`` rows of an epoch in random order.

    Each training scan is the moving one of ``per_scan`` pairs, with another patient's scan of its cohort drawn as the
    fixed one (drawing the scan itself, as the published program may, teaches nothing but the identity). Of a cohort
    whose pairs are given, which are those of one patient or listed, each is visited ``per_scan`` times, in a random
    direction. ``merge_validation`` takes the validation scans or pairs in.

    Raises:
        UserError: a cohort holds no pair.
    """
    items = []
    for number, cohort in enumerate(cohorts):
        found: list[Pair] = []
        for _ in range(per_scan):
            draw = _given if _has_given(cohort) else _drawn
            found += draw(number, cohort, merge_validation, generator)
        if not found:
            raise UserError(f"{cohort.dataset.path.name}: training needs scans of two patients; add some to training")
        items += found
    return shuffled(items, generator)


def draw_combinations(
    cohorts: Sequence[Cohort], per_scan: int, merge_validation: bool, generator: Generator
) -> list[Pair]:
    """``(cohort, fixed, moving)`` rows of an epoch whose fixed scan is any other of the cohort, also of one patient.

    Raises:
        UserError: a cohort holds a single scan.
    """
    items: list[Pair] = []
    for number, cohort in enumerate(cohorts):
        rows = _training_rows(cohort, merge_validation)
        if len(rows) < 2:
            raise UserError(f"{cohort.dataset.path.name}: training needs two scans; add some to training")
        for _ in range(per_scan):
            drawn = torch.randint(len(rows) - 1, (len(rows),), generator=generator).tolist()
            # The scan itself is left out of those it may meet.
            items += [
                (number, rows[other + (other >= n)], moving)
                for n, (moving, other) in enumerate(zip(rows, drawn, strict=True))
            ]
    return shuffled(items, generator)


def validation_pairs(cohorts: Sequence[Cohort], most: int) -> list[Pair]:
    """At most so many ``(cohort, fixed, moving)`` rows for validation, evenly from all there are, always the same.

    Raises:
        UserError: there are none.
    """
    found = [(number, *pair) for number, cohort in enumerate(cohorts) for pair in cohort.pairs("validation")]
    if not found:
        raise UserError(
            "no data set holds validation pairs; list some under registration_val, or make the data set again with "
            "`anamorph dataset create --validation 0.2`"
        )
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    return [found[n] for n in sorted(order[:most])]


def _has_given(cohort: Cohort) -> bool:
    return cohort.dataset.pairings == "paired" or bool(cohort.dataset.listed_pairs.get("training"))


def _given(number: int, cohort: Cohort, merge_validation: bool, generator: Generator) -> list[Pair]:
    pairs = cohort.pairs("training") + (cohort.pairs("validation") if merge_validation else [])
    turned = torch.randint(2, (len(pairs),), generator=generator).tolist()
    return [(number, b, a) if swap else (number, a, b) for (a, b), swap in zip(pairs, turned, strict=True)]


def _drawn(number: int, cohort: Cohort, merge_validation: bool, generator: Generator) -> list[Pair]:
    rows = _training_rows(cohort, merge_validation)
    subject = [case.subject for case in cohort.dataset.cases]
    pairs = []
    for moving in rows:
        others = [row for row in rows if subject[row] != subject[moving]]
        if others:
            pairs.append((number, others[int(torch.randint(len(others), (1,), generator=generator))], moving))
    return pairs


def _training_rows(cohort: Cohort, merge_validation: bool) -> list[int]:
    return cohort.of_split("training") + (cohort.of_split("validation") if merge_validation else [])


def shuffled(items: list[Pair], generator: Generator) -> list[Pair]:
    """In random order."""
    return [items[n] for n in torch.randperm(len(items), generator=generator).tolist()]
