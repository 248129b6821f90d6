"""Dice of every organ under several methods: mean and standard deviation over the pairs, as SLIC-Reg prints it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation
from anamorph.evaluation.numbers import Scores
from anamorph.image.atomic import atomic_text

INITIAL = "before registration"


@dataclass(frozen=True)
class Overlap:
    """Of Dice values: their mean, their standard deviation (of the population) and their number."""

    mean: float
    std: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Overlap:
        """Without values that are not numbers; NaN of none."""
        kept = [value for value in values if not math.isnan(value)]
        if not kept:
            return cls(float("nan"), float("nan"), 0)
        return cls(float(np.mean(kept)), float(np.std(kept)), len(kept))


@dataclass(frozen=True)
class OrganTable:
    """One row per method, the first the state before registration.

    Args:
        organs: name by label.
        chosen: the labels of the last column but one, or none.
        rows: for each method the :class:`Overlap` of every label, then of ``chosen`` and of all labels, whose standard
            deviation is over organs and pairs alike, as published.
    """

    organs: dict[int, str]
    chosen: tuple[int, ...]
    rows: dict[str, tuple[Overlap, ...]]

    @classmethod
    def of(
        cls, evaluations: Sequence[Evaluation], chosen: Sequence[int] = (), absent_counts_zero: bool = False
    ) -> OrganTable:
        """Collect evaluations of the same pairs.

        Args:
            evaluations: one per method.
            chosen: labels that get a mean of their own.
            absent_counts_zero: a label that a scan of the pair lacks counts 0, as published, and not as nothing.

        Raises:
            UserError: the evaluations differ in data set or pairs, a method comes twice, or no Dice is known.
        """
        first = evaluations[0]
        keys = {case.key for case in first.cases}
        for one in evaluations[1:]:
            if one.task != first.task or {case.key for case in one.cases} != keys:
                raise UserError(f"{one.method} and {first.method} were evaluated on different pairs; use one data set")
        names = [one.method for one in evaluations]
        if len(set(names)) < len(names):
            raise UserError("two of the results have one method's name; evaluate with --name to tell them apart")
        by_method = {INITIAL: [case.baseline for case in first.cases]}
        by_method |= {one.method: [case.scores for case in one.cases] for one in evaluations}
        values = {name: [_dice(scores) for scores in cases] for name, cases in by_method.items()}
        labels = sorted({label for cases in values.values() for case in cases for label in case})
        if not labels:
            raise UserError("the evaluations hold no Dice; evaluate with labels")
        missing = sorted(set(chosen) - set(labels))
        if missing:
            raise UserError(f"no label {missing[0]} was evaluated; there are {', '.join(map(str, labels))}")
        absent = 0.0 if absent_counts_zero else math.nan
        rows = {}
        for name, cases in values.items():
            if name == INITIAL and not any(cases):
                continue
            # NaN is a label that one of the scans lacks; a failed pair has no labels at all.
            each = {n: [_known(case.get(n, math.nan), absent) for case in cases if case] for n in labels}
            groups = [[n] for n in labels] + ([list(chosen)] if chosen else []) + [labels]
            rows[name] = tuple(Overlap.of([v for n in group for v in each[n]]) for group in groups)
        known = first.label_names
        return cls({n: known.get(n, str(n)) for n in labels}, tuple(chosen), rows)

    @property
    def columns(self) -> list[str]:
        """The names of the numbers of a row."""
        chosen = [f"mean of {len(self.chosen)}"] if self.chosen else []
        return [*self.organs.values(), *chosen, f"mean of {len(self.organs)}"]

    def write_csv(self, path: Path) -> None:
        """A row per method, mean and standard deviation of each column beside each other."""
        heads = [f"{name}{kind}" for name in self.columns for kind in ("", " std")]
        with atomic_text(path) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["method", *heads])
            for method, row in self.rows.items():
                writer.writerow([method, *(f"{v:.6f}" for one in row for v in (one.mean, one.std))])


def _dice(scores: Scores | None) -> dict[int, float]:
    return {} if scores is None else scores.correct.labels("dice")


def _known(value: float, absent: float) -> float:
    return absent if math.isnan(value) else value
