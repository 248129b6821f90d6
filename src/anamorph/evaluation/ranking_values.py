"""The numbers that a ranking compares: the same entries of every method, larger for better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation
from anamorph.evaluation.learn2reg.config import Measure
from anamorph.evaluation.numbers import Score

HARDEST = 0.3
_NO_SCORES: Mapping[str, Score] = {}


@dataclass(frozen=True, eq=False)
class Column:
    """One criterion.

    ``merits`` is ``(methods, entries)``, larger for better, finite; an entry that a method failed on has less than any
    other. ``means`` are of the numbers as they are, without what is missing or infinite.
    """

    name: str
    merits: np.ndarray
    means: np.ndarray


def columns_of(
    task: str, rivals: Sequence[Evaluation], initial: Evaluation | None = None
) -> tuple[list[Column], tuple[str, ...]]:
    """The criteria that all methods share.

    Entries are pairs for SDlogJ, labels of pairs for Dice and HD95, landmarks for TRE. What no method has (a label that
    is absent) is left out; what only some have counts as worst for the others. Dice and TRE come twice: over all
    entries, and as ``DSC30`` and so on over the 30 % that were hardest before registration, the same for all methods.

    Args:
        task: for messages.
        rivals: one evaluation per method.
        initial: the state before registration; by default the baseline of the first evaluation that has one.

    Returns:
        The columns, and remarks for people.

    Raises:
        UserError: the methods share no measure, or detailed values of one pair differ in number.
    """
    shared = [m for m in rivals[0].measures if all(_has(rival, m) for rival in rivals)]
    if not shared:
        raise UserError(f"{task}: the evaluations share no measure; evaluate them with one configuration")
    keys = list(dict.fromkeys(case.key for rival in rivals for case in rival.cases))
    scores = [{case.key: case.compatible for case in rival.cases} for rival in rivals]
    before = _before(rivals, initial)
    notes = [
        f"{rival.method}: no result for {missing} of {len(keys)} pairs, which count as worst"
        for rival, own in zip(rivals, scores, strict=True)
        if (missing := sum(1 for key in keys if not own.get(key)))
    ]
    columns = []
    for measure in shared:
        table = _table(measure, keys, [*scores, before])
        values, start = table[:-1], table[-1]
        kept = ~np.isnan(values).all(axis=0)
        columns.append(_column(measure.name, measure, values[:, kept]))
        if measure.metric in ("dice", "tre"):
            hardest = _hardest(measure, start[kept])
            if hardest.size:
                columns.append(_column(f"{measure.name}30", measure, values[:, kept][:, hardest]))
            else:
                notes.append(f"{measure.name}30 is left out: nothing says how hard the pairs were before registration")
    return columns, tuple(notes)


def _has(evaluation: Evaluation, measure: Measure) -> bool:
    return any(m.name == measure.name and m.metric == measure.metric for m in evaluation.measures)


def _before(rivals: Sequence[Evaluation], initial: Evaluation | None) -> dict[str, Mapping[str, Score]]:
    if initial is not None:
        return {case.key: case.compatible for case in initial.cases}
    for rival in rivals:
        found = {case.key: case.baseline.compatible for case in rival.cases if case.baseline}
        if found:
            return found
    return {}


def _table(measure: Measure, keys: Sequence[str], sources: Sequence[Mapping[str, Mapping[str, Score]]]) -> np.ndarray:
    """``(sources, entries)``; NaN where a source has no number."""
    blocks = []
    for key in keys:
        rows = [source.get(key, _NO_SCORES).get(measure.name) for source in sources]
        lists = [None if row is None else np.atleast_1d(np.array(row["detailed"], np.float64)) for row in rows]
        sizes = {len(values) for values in lists if values is not None}
        if len(sizes) > 1:
            raise UserError(
                f"{key}: the evaluations have {' and '.join(map(str, sorted(sizes)))} values of {measure.name}; "
                "evaluate them with one configuration"
            )
        size = sizes.pop() if sizes else 0
        blocks.append(np.array([np.full(size, np.nan) if values is None else values for values in lists]))
    return np.concatenate(blocks, axis=1)


def _column(name: str, measure: Measure, values: np.ndarray) -> Column:
    sign = 1 if measure.metric == "dice" else -1
    merits = sign * values
    known = np.isfinite(merits)
    lowest, highest = (merits[known].min(), merits[known].max()) if known.any() else (0.0, 0.0)
    merits = np.where(known, merits, lowest - (highest - lowest) - 1)
    means = [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else math.nan for row in values]
    return Column(name, merits, np.array(means))


def _hardest(measure: Measure, start: np.ndarray) -> np.ndarray:
    """Indices of the 30 % of the entries that were worst before registration."""
    known = np.flatnonzero(~np.isnan(start))
    order = np.argsort(start[known] if measure.metric == "dice" else -start[known], kind="stable")
    return known[order[: round(HARDEST * len(known))]]
