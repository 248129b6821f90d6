"""The files of an evaluated cohort, and the page: from the numbers to what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anamorph.data.dataset import Pair
from anamorph.evaluation.case import PairTruth
from anamorph.evaluation.cohort import REPORT, CaseResult, Evaluation
from anamorph.evaluation.cohort_files import RESULTS, TABLE, write_csv, write_json
from anamorph.evaluation.learn2reg.config import Measure
from anamorph.evaluation.metrics.metric import shown_columns
from anamorph.evaluation.numbers import Direction, Scores
from anamorph.report.cohort.model import CohortReport, CohortRow
from anamorph.report.cohort.page import write_cohort_report
from anamorph.report.cohort.thumbnail import thumbnail, write_thumbnail
from anamorph.report.page import drawn
from anamorph.transforms.maps import Transform

IDENTITY = "identity"
_UNITS = {"hd95": ", voxels", "tre": ", mm"}
NOTES = (
    "Columns marked L2R are what Learn2Reg's evaluator says: HD95 in voxels, SDlogJ from log(det J + 3). "
    "The others are correct in millimetres, with true folding.",
)


@dataclass
class Thumbnails:
    """Draws a picture of each pair while its field is at hand."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)

    def __call__(self, pair: Pair, fixed_to_moving: Transform, truth: PairTruth) -> None:
        """Draw one pair; one that cannot be shown has no picture."""
        path = self.folder / f"{pair.disp_names['long']}.jpg"
        if drawn(path, lambda: draw_pair(path, fixed_to_moving, truth)) is None:
            self.paths[pair.key] = path


def draw_pair(path: Path, fixed_to_moving: Transform, truth: PairTruth) -> None:
    """Write the thumbnail of a pair with its labels."""
    labels = {"fixed_labels": truth.fixed_labels, "moving_labels": truth.moving_labels}
    write_thumbnail(path, thumbnail(truth.fixed, truth.moving, fixed_to_moving, **labels))


def write_evaluation(folder: Path, evaluation: Evaluation, thumbnails: Mapping[str, Path] | None = None) -> str | None:
    """Write ``results.json``, ``results.csv`` and ``report.html`` into a folder; thumbnails are by the pair's key.

    Returns:
        why the page could not be drawn, if so.
    """
    write_json(evaluation, folder / RESULTS)
    write_csv(evaluation, folder / TABLE)
    page = folder / REPORT
    return drawn(page, lambda: write_cohort_report(page, cohort_report(evaluation, thumbnails)))


def cohort_report(evaluation: Evaluation, thumbnails: Mapping[str, Path] | None = None) -> CohortReport:
    """The model of the page: the pairs of one evaluation, and the identity as the baseline."""
    thumbnails = thumbnails or {}
    rows = []
    for case in evaluation.cases:
        if case.baseline:
            metrics, per_label = _whole(case.baseline, evaluation), _per_label(case.baseline, evaluation)
            rows.append(CohortRow(case.key, IDENTITY, metrics=metrics, per_label=per_label))
        rows.append(_row(case, evaluation, thumbnails.get(case.key)))
    columns = sorted(shown_columns(), key=lambda column: column.metric.prominence != "tile")  # most telling first
    directions: dict[str, Direction] = {column.heading: column.metric.better for column in columns}
    directions |= {_title(m): "higher" if m.metric == "dice" else "lower" for m in evaluation.measures}
    return CohortReport(f"{evaluation.method} on {evaluation.task}", rows, directions, NOTES, IDENTITY)


def _row(case: CaseResult, evaluation: Evaluation, picture: Path | None) -> CohortRow:
    return CohortRow(
        *(case.key, evaluation.method, case.verdict),
        metrics=_whole(case.scores, evaluation) if case.scores else {},
        per_label=_per_label(case.scores, evaluation) if case.scores else {},
        thumbnail=picture,
        report_link=str(case.report) if case.report and case.report.is_file() else None,
        error=case.error,
        reasons=case.reasons,
        answers=_answers(case),
        names=_names(case),
    )


def _names(case: CaseResult) -> str:
    """The names of both scans, unless they are the numbers of the key."""
    keys = case.fixed, case.moving
    if case.sources is None or all(key in name for key, name in zip(keys, case.sources, strict=True)):
        return ""
    return " ← ".join(case.sources)


def _answers(case: CaseResult) -> str:
    if case.signs_of_failure is None:
        return ""
    return f"signs of failure: {case.signs_of_failure}; accuracy: {case.accuracy}"


def _whole(scores: Scores, evaluation: Evaluation) -> dict[str, float]:
    metrics = {c.heading: scores.correct[c.name]["mean"] for c in shown_columns() if c.name in scores.correct}
    return metrics | {_title(measure): scores.compatible[measure.name]["mean"] for measure in evaluation.measures}


def _per_label(scores: Scores, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    detailed = {c.heading: labels for c in shown_columns() if (labels := scores.correct.labels(c.name))}
    detailed |= {
        _title(measure): dict(zip(measure.labels, scores.compatible[measure.name]["detailed"], strict=True))
        for measure in evaluation.measures
        if measure.labels
    }
    return {
        title: {evaluation.label_names.get(label, str(label)): value for label, value in values.items()}
        for title, values in detailed.items()
    }


def _title(measure: Measure) -> str:
    return f"L2R {measure.name}{_UNITS.get(measure.metric, '')}"
