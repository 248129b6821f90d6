"""The evaluation of a cohort: every pair of a data set against the predicted fields."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anamorph.data.dataset import Dataset, Pair, PairSplit
from anamorph.errors import UserError
from anamorph.evaluation import learn2reg
from anamorph.evaluation.case import LabelMaps, PairTruth, compatible_scores
from anamorph.evaluation.learn2reg.config import EvaluationConfig, Measure, default_config, read_config
from anamorph.evaluation.measure import measure, measure_unregistered
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.evaluation.numbers import Numbers, Score, Scores
from anamorph.evaluation.predictions import (
    IN_RESULT_FOLDER,
    Predictions,
    identity_field,
    opened,
    read_prediction,
)
from anamorph.evaluation.verdict import verdict
from anamorph.image.atomic import atomic_text
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.types import Progress

OnField = Callable[[Pair, Transform, PairTruth], None]
REPORT = "report.html"
MAX_WORKERS = 4
"""Pairs evaluated side by side: each needs about five times the memory of its field."""


@dataclass(frozen=True)
class CaseResult:
    """One pair of a cohort.

    Args:
        key: ``FFFF_ffff<--MMMM_mmmm``.
        fixed: subject and modality of the fixed scan.
        moving: key of the moving scan.
        scores: of the predicted field; None if there is none.
        baseline: of the identity; None if the data themselves could not be read.
        error: why ``scores`` is missing.
        verdict: PASS, WARN or FAIL by the gates that need one direction only.
        signs_of_failure: none, some or clear, by the same gates.
        accuracy: "within limits", "doubtful", "poor" or "not measured".
        reasons: why the verdict is not PASS.
        report: the pair's own report, where the prediction is an output folder of ``anamorph register``.
        sources: what the fixed and the moving scan were called before they were numbered.
    """

    key: str
    fixed: str
    moving: str
    scores: Scores | None = None
    baseline: Scores | None = None
    error: str | None = None
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    report: Path | None = None
    signs_of_failure: str | None = None
    accuracy: str | None = None
    sources: tuple[str, str] | None = None

    @property
    def compatible(self) -> Mapping[str, Score]:
        """What Learn2Reg's evaluator would say."""
        return self.scores.compatible if self.scores else {}

    @property
    def correct(self) -> Numbers:
        """The correct numbers."""
        return self.scores.correct if self.scores else Numbers()


@dataclass(frozen=True)
class Evaluation:
    """What ``anamorph evaluate`` finds.

    Args:
        task: name of the data set, ``name`` in the JSON.
        method: who made the predictions.
        measures: the columns of the compatible part.
        cases: one per pair, those without a result included.
        label_names: by value; may be empty.
        split: ``val`` or ``test``; empty where a configuration listed the pairs.
        masked: SDlogJ was taken within the mask of the fixed scan.
    """

    task: str
    method: str
    measures: tuple[Measure, ...]
    cases: tuple[CaseResult, ...]
    label_names: Mapping[int, str] = field(default_factory=dict)
    split: str = ""
    masked: bool = False

    @property
    def errors(self) -> dict[str, str]:
        """Why pairs have no result, by their key."""
        return {case.key: case.error for case in self.cases if case.error is not None}

    def compatible_aggregates(self, baseline: bool = False) -> dict[str, dict[str, float]]:
        """Mean, standard deviation and "30" of each measure over the pairs that have a result."""
        return {
            wanted.name: learn2reg.aggregate(
                [scores.compatible[wanted.name]["mean"] for scores in self._all_scores(baseline)], wanted.metric
            )
            for wanted in self.measures
        }

    def correct_aggregates(self, baseline: bool = False) -> dict[str, dict[str, float]]:
        """Mean, standard deviation, "30" and number of each correct number over the pairs that have a result."""
        everything = self._all_scores(baseline)
        return {
            column.name: column.metric.over_cohort(
                [one.correct[column.name]["mean"] for one in everything if column.name in one.correct],
                column.metric.better,
            )
            for column in all_columns()
            if any(column.name in scores.correct for scores in everything)
        }

    def _all_scores(self, baseline: bool) -> list[Scores]:
        """Of the pairs that have a result, so that both lists are of the same pairs; of all if none has."""
        evaluated = [case for case in self.cases if case.scores]
        if baseline:
            return [case.baseline for case in evaluated or self.cases if case.baseline]
        return [case.scores for case in evaluated if case.scores]


def evaluate_dataset(
    dataset: Dataset,
    predictions: Path,
    *,
    split: PairSplit = "val",
    config: Path | None = None,
    method: str | None = None,
    progress: Progress | None = None,
    on_field: OnField | None = None,
) -> Evaluation:
    """Evaluate predicted fields on the pairs of a data set.

    Args:
        dataset: pairs, labels and landmarks.
        predictions: folder or ``.zip`` archive with one field per pair; see :class:`Predictions`.
        split: which pairs, without ``config``.
        config: Learn2Reg's evaluation configuration: pairs and measures.
        method: what to call the predictions; the name of the folder by default.
        progress: called as ``progress(stage, fraction)``.
        on_field: called with each pair, its map of the world and what is known about it, from several threads.

    Returns:
        The result; a pair whose field or data are missing or damaged has an error instead of numbers.

    Raises:
        UserError: no such folder, no pairs, or a damaged configuration.
    """
    maps = LabelMaps()
    if config is None:
        wanted = default_config(dataset, split, dataset.labels or _labels_present(dataset.pairs(split), maps))
    else:
        wanted = read_config(config, dataset)
    if not wanted.pairs:
        raise UserError("there are no pairs to evaluate; choose another split or configuration")
    with opened(predictions) as folder:
        evaluator = _PairEvaluator(wanted, Predictions(folder, wanted.pairs), maps, on_field)
        cases = _evaluate_all(evaluator, wanted.pairs, progress)
    return Evaluation(
        task=wanted.task,
        method=method or predictions.resolve().name.removesuffix(".zip"),
        measures=wanted.measures,
        cases=tuple(cases),
        label_names=dict(dataset.labels),
        split="" if config else split,
        masked=wanted.masked,
    )


def _labels_present(pairs: tuple[Pair, ...], maps: LabelMaps) -> set[int]:
    paths = {case.label for pair in pairs for case in (pair.fixed, pair.moving)}
    return set() if None in paths else set().union(*(maps.present(path) for path in paths if path))


def _evaluate_all(
    evaluator: Callable[[Pair], CaseResult], pairs: tuple[Pair, ...], progress: Progress | None
) -> list[CaseResult]:
    """Several pairs side by side; the results in the order of the pairs."""
    with ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1, len(pairs))) as pool:
        jobs = [pool.submit(evaluator, pair) for pair in pairs]
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                case = job.result()
                if progress is not None:
                    progress(f"evaluating {case.key}", done / len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [job.result() for job in jobs]


@dataclass(frozen=True)
class _PairEvaluator:
    """Evaluates one pair; what is wrong with its files becomes its error."""

    config: EvaluationConfig
    predictions: Predictions
    maps: LabelMaps
    on_field: OnField | None

    def __call__(self, pair: Pair) -> CaseResult:
        result = CaseResult(pair.key, pair.fixed.key, pair.moving.key, sources=(pair.fixed.source, pair.moving.source))
        try:
            truth = PairTruth.read(pair, self.config, self.maps)
            grids = truth.fixed_grid, truth.moving_grid
            before = measure_unregistered(truth.registered())
            baseline = Scores(compatible_scores(truth, identity_field(*grids), self.config), before)
            result = replace(result, baseline=baseline)
            path = self.predictions.find(pair)
            prediction = read_prediction(path, *grids)
            metrics = measure(truth.registered(prediction), before=before)
            scores = Scores(compatible_scores(truth, prediction.disp_vox, self.config), metrics.after)
            if self.on_field is not None:
                self.on_field(pair, prediction.fixed_to_moving, truth)
        except UserError as error:
            return replace(result, error=str(error))
        judged = verdict(metrics, metrics.notes)
        report = path.with_name(REPORT) if path.name in IN_RESULT_FOLDER else None
        return replace(
            result,
            scores=scores,
            verdict=judged.status,
            signs_of_failure=judged.signs_of_failure,
            accuracy=judged.accuracy.word,
            reasons=tuple(judged.reasons),
            report=report,
        )


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
