"""The significance ranking of Learn2Reg over several methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation
from anamorph.evaluation.ranking_values import Column, columns_of

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
