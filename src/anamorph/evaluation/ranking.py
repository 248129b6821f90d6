"""The significance ranking of Learn2Reg over several methods, by its columns or by any metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation
from anamorph.evaluation.learn2reg.config import Measure
from anamorph.evaluation.metrics.metric import columns_of as metric_columns
from anamorph.evaluation.metrics.metric import load
from anamorph.evaluation.numbers import Direction, Scores

HARDEST = 0.3


@dataclass(frozen=True, eq=False)
class Column:
    """One criterion.

    ``merits`` is ``(methods, entries)``, larger for better, finite; an entry that a method failed on has less than any
    other. ``means`` are of the numbers as they are, without what is missing or infinite.
    """

    name: str
    merits: np.ndarray
    means: np.ndarray


@dataclass(frozen=True)
class Criterion:
    """What methods are compared by.

    Args:
        name: of the column.
        better: which end of the values is the better one.
        hardest: whether it is taken over the hardest entries too.
        entries: the values of a pair by what must correspond between the methods: label, or place in a list.
    """

    name: str
    better: Direction
    hardest: bool
    entries: Callable[[Scores], Mapping[int, float]]


def columns_of(
    task: str, rivals: Sequence[Evaluation], initial: Evaluation | None = None, metrics: Sequence[str] = ()
) -> tuple[list[Column], tuple[str, ...]]:
    """The criteria that all methods share.

    Entries are pairs for numbers of a pair such as SDlogJ, labels of pairs for Dice and HD95, landmarks for TRE. What
    no method has (a label that is absent) is left out; what only some have counts as worst for the others. Dice, TRE
    and all chosen metrics of labels and points come twice: over all entries, and as ``DSC30`` and so on over the 30 %
    that were hardest before registration, the same for all methods.

    Args:
        task: for messages.
        rivals: one evaluation per method.
        initial: the state before registration; by default the baseline of the first evaluation that has one.
        metrics: names of metrics to compare by; those of Learn2Reg's evaluator by default.

    Returns:
        The columns, and remarks for people.

    Raises:
        UserError: the methods share no measure, an unknown metric or one that a method lacks, or detailed values of one
            pair differ in number.
    """
    criteria = _chosen(rivals, metrics) if metrics else _shared(task, rivals)
    keys = list(dict.fromkeys(case.key for rival in rivals for case in rival.cases))
    scores = [{case.key: case.scores for case in rival.cases} for rival in rivals]
    before = _before(rivals, initial)
    notes = [
        f"{rival.method}: no result for {missing} of {len(keys)} pairs, which count as worst"
        for rival, own in zip(rivals, scores, strict=True)
        if (missing := sum(1 for key in keys if not own.get(key)))
    ]
    columns = []
    for criterion in criteria:
        table = _table(criterion, keys, [*scores, before])
        values, start = table[:-1], table[-1]
        kept = ~np.isnan(values).all(axis=0)
        columns.append(_column(criterion.name, criterion, values[:, kept]))
        if criterion.hardest:
            hardest = _hardest(criterion, start[kept])
            name = f"{criterion.name}30"
            if hardest.size:
                columns.append(_column(name, criterion, values[:, kept][:, hardest]))
            else:
                notes.append(f"{name} is left out: nothing says how hard the pairs were before registration")
    return columns, tuple(notes)


def _shared(task: str, rivals: Sequence[Evaluation]) -> list[Criterion]:
    """The measures of Learn2Reg's evaluator that all methods have."""
    shared = [m for m in rivals[0].measures if all(_has(rival, m) for rival in rivals)]
    if not shared:
        raise UserError(f"{task}: the evaluations share no measure; evaluate them with one configuration")
    return [
        Criterion(
            measure.name,
            "higher" if measure.metric == "dice" else "lower",
            measure.metric in ("dice", "tre"),
            partial(_listed, measure.name),
        )
        for measure in shared
    ]


def _listed(name: str, scores: Scores) -> Mapping[int, float]:
    found = scores.compatible.get(name)
    return {} if found is None else dict(enumerate(np.atleast_1d(np.array(found["detailed"], np.float64)).tolist()))


def _chosen(rivals: Sequence[Evaluation], metrics: Sequence[str]) -> list[Criterion]:
    criteria = []
    for name in metrics:
        metric = load(name)
        columns = [c for c in metric_columns(metric) if all(_measured(rival, c.name) for rival in rivals)]
        if not columns:
            lacking = next(r.method for r in rivals if not any(_measured(r, c.name) for c in metric_columns(metric)))
            raise UserError(
                f"{lacking} has no {name}; evaluate again with labels or landmarks, or choose another metric"
            )
        hardest = metric.compares and metric.per in ("label", "point")
        criteria += [Criterion(c.name, metric.better, hardest, partial(_by_name, c.name)) for c in columns]
    return criteria


def _measured(evaluation: Evaluation, name: str) -> bool:
    return any(name in case.correct for case in evaluation.cases)


def _by_name(name: str, scores: Scores) -> Mapping[int, float]:
    return scores.correct.labels(name) or dict(enumerate(scores.correct.parts(name)))


def _has(evaluation: Evaluation, measure: Measure) -> bool:
    return any(m.name == measure.name and m.metric == measure.metric for m in evaluation.measures)


def _before(rivals: Sequence[Evaluation], initial: Evaluation | None) -> dict[str, Scores | None]:
    if initial is not None:
        return {case.key: case.scores for case in initial.cases}
    for rival in rivals:
        found: dict[str, Scores | None] = {case.key: case.baseline for case in rival.cases if case.baseline}
        if found:
            return found
    return {}


def _table(criterion: Criterion, keys: Sequence[str], sources: Sequence[Mapping[str, Scores | None]]) -> np.ndarray:
    """``(sources, entries)``; NaN where a source has no number."""
    blocks = []
    for key in keys:
        given = [source.get(key) for source in sources]
        rows = [{} if scores is None else criterion.entries(scores) for scores in given]
        sizes = sorted({len(row) for row in rows if row})
        if len(sizes) > 1:
            raise UserError(
                f"{key}: the evaluations have {' and '.join(map(str, sizes))} values of {criterion.name}; "
                "evaluate them with one configuration"
            )
        names = dict.fromkeys(name for row in rows for name in row)
        blocks.append(np.array([[row.get(name, math.nan) for name in names] for row in rows], np.float64))
    return np.concatenate(blocks, axis=1)


def _column(name: str, criterion: Criterion, values: np.ndarray) -> Column:
    sign = 1 if criterion.better == "higher" else -1
    merits = sign * values
    known = np.isfinite(merits)
    lowest, highest = (merits[known].min(), merits[known].max()) if known.any() else (0.0, 0.0)
    merits = np.where(known, merits, lowest - (highest - lowest) - 1)
    means = [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else math.nan for row in values]
    return Column(name, merits, np.array(means))


def _hardest(criterion: Criterion, start: np.ndarray) -> np.ndarray:
    """Indices of the 30 % of the entries that were worst before registration."""
    known = np.flatnonzero(~np.isnan(start))
    order = np.argsort(start[known] if criterion.better == "higher" else -start[known], kind="stable")
    return known[order[: round(HARDEST * len(known))]]


Variant = Literal["rank-sum", "signed-rank"]
VARIANTS: dict[Variant, str] = {
    "rank-sum": "Wilcoxon rank-sum test, ordered by the fewest significant losses (the challenge's published code)",
    "signed-rank": "Wilcoxon signed-rank test on paired values, ordered by the most significant wins (its description)",
}
P_THRESHOLD = 0.05
LOWEST_SCORE, HIGHEST_SCORE = 0.1, 1.0


@dataclass(frozen=True)
class Standing:
    """One method in one column: mean value, significant wins and losses against the others, and the rank score."""

    mean: float
    wins: int
    losses: int
    score: float


@dataclass(frozen=True)
class TaskRanking:
    """One data set: standings by column and method, the geometric mean of the rank scores, and remarks."""

    task: str
    columns: dict[str, dict[str, Standing]]
    scores: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """All data sets; ``overall`` is the geometric mean over them, best method first."""

    variant: Variant
    tasks: tuple[TaskRanking, ...]
    overall: dict[str, float]


def rank(
    evaluations: Sequence[Evaluation],
    variant: Variant = "rank-sum",
    initial: Evaluation | None = None,
    metrics: Sequence[str] = (),
) -> Ranking:
    """Rank methods as the challenge does (Hering et al., TMI 2022), without runtime.

    For each column every method is tested against every other one, two-sided at 5 %. Rank scores are spread evenly from
    0.1 to 1, those of ties averaged. The score of a task is the geometric mean over its columns, the overall score the
    geometric mean over the tasks.

    Args:
        evaluations: one per method and task, in any order.
        variant: one of :data:`VARIANTS`, which differ in the test and in what is counted.
        initial: the state before registration, for the hardest 30 %; by default the baseline of the evaluations.
        metrics: names of metrics to compare by; the measures of Learn2Reg's evaluator by default.

    Raises:
        UserError: fewer than two methods for a task, two evaluations of one name, or no common column.
    """
    if variant not in get_args(Variant):
        raise UserError(f"there is no variant '{variant}'; choose {' or '.join(VARIANTS)}")
    by_task: dict[str, dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        rivals = by_task.setdefault(evaluation.task, {})
        if evaluation.method in rivals:
            raise UserError(
                f"two evaluations of {evaluation.task} are called '{evaluation.method}'; evaluate one again with --name"
            )
        rivals[evaluation.method] = evaluation
    tasks = tuple(_rank_task(task, rivals, variant, initial, metrics) for task, rivals in by_task.items())
    methods = dict.fromkeys(evaluation.method for evaluation in evaluations)
    overall = {m: geometric_mean([task.scores.get(m, LOWEST_SCORE) for task in tasks]) for m in methods}
    return Ranking(variant, tasks, dict(sorted(overall.items(), key=lambda item: -item[1])))


def _rank_task(
    task: str,
    rivals: dict[str, Evaluation],
    variant: Variant,
    initial: Evaluation | None,
    metrics: Sequence[str],
) -> TaskRanking:
    if len(rivals) < 2:
        raise UserError(f"{task}: only {', '.join(rivals)} is evaluated; a ranking needs at least two methods")
    columns, notes = columns_of(task, list(rivals.values()), initial, metrics)
    standings = {column.name: _standings(column, list(rivals), variant) for column in columns}
    scores = {m: geometric_mean([column[m].score for column in standings.values()]) for m in rivals}
    return TaskRanking(task, standings, dict(sorted(scores.items(), key=lambda item: -item[1])), notes)


def _standings(column: Column, methods: list[str], variant: Variant) -> dict[str, Standing]:
    is_better = TESTS[variant]
    beats = np.array([[is_better(a, b) for b in column.merits] for a in column.merits])
    wins, losses = beats.sum(axis=1), beats.sum(axis=0)
    scores = rank_scores(-losses if variant == "rank-sum" else wins)
    rows = zip(methods, column.means, wins, losses, scores, strict=True)
    return {m: Standing(float(mean), int(won), int(lost), float(score)) for m, mean, won, lost, score in rows}


def rank_scores(points: np.ndarray) -> np.ndarray:
    """Scores spread evenly over [0.1, 1] in the order of the points, those of equal points averaged."""
    scale = np.empty(len(points))
    scale[np.argsort(points, kind="stable")] = np.linspace(LOWEST_SCORE, HIGHEST_SCORE, len(points))
    return np.array([scale[points == point].mean() for point in points])


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _rank_sum(a: np.ndarray, b: np.ndarray) -> bool:
    """Larger values in ``a``, the two samples taken as independent."""
    from scipy.stats import ranksums

    statistic, p = ranksums(a, b)
    return bool(statistic > 0 and p < P_THRESHOLD)


def _signed_rank(a: np.ndarray, b: np.ndarray) -> bool:
    """Larger values in ``a``, entry by entry."""
    from scipy.stats import rankdata, wilcoxon

    difference = a - b
    difference = difference[difference != 0]
    if difference.size == 0 or np.sum(np.sign(difference) * rankdata(np.abs(difference))) <= 0:
        return False
    return bool(wilcoxon(difference).pvalue < P_THRESHOLD)


TESTS: dict[Variant, Callable[[np.ndarray, np.ndarray], bool]] = {"rank-sum": _rank_sum, "signed-rank": _signed_rank}
