"""The report of a run: one table, one page of all methods, and the evaluation of each for `anamorph rank`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from anamorph.cohorts.evaluations import evaluations_of
from anamorph.cohorts.standing import STATES, Standing
from anamorph.cohorts.table import CSV, write_tables
from anamorph.evaluation.cohort import REPORT, Evaluation
from anamorph.evaluation.cohort_files import RESULTS, TABLE, write_csv, write_json
from anamorph.image.atomic import atomic_directory
from anamorph.report.cohort import CohortReport, write_cohort_report
from anamorph.report.cohort.evaluated import cohort_report
from anamorph.report.page import drawn

MOST_ROWS = 3000
"""On the page, which a browser has to open; the table has all."""


def write_report(folder: Path, standing: Standing) -> str | None:
    """Write the report of a run into a folder, which appears, or takes the place of an earlier one, when complete.

    Returns:
        why the page could not be drawn, if so.

    Raises:
        UserError: the folder holds something else, or pyarrow is not installed.
        RegistrationFailure: the disk is full.
    """
    evaluations = evaluations_of(standing)
    with atomic_directory(folder, overwrite=True, marker=CSV, inputs=standing.plan.files()) as temporary:
        write_tables(temporary, standing)
        for name, evaluation in zip(_folder_names(evaluations), evaluations, strict=True):
            if any(case.scores for case in evaluation.cases):
                (temporary / name).mkdir()
                write_json(evaluation, temporary / name / RESULTS)
                write_csv(evaluation, temporary / name / TABLE)
        path = temporary / REPORT
        return drawn(path, lambda: write_cohort_report(path, page(evaluations, standing)))


def page(evaluations: Sequence[Evaluation], standing: Standing) -> CohortReport:
    """The page of all methods; of very many pairs the last ones are in the table alone."""
    reports = [cohort_report(evaluation) for evaluation in evaluations]
    rows = {(row.key, row.method): row for report in reports for row in report.rows}
    directions = {name: direction for report in reports for name, direction in report.metric_directions.items()}
    counts = standing.counts()
    notes = [", ".join(f"{count} {state}" for state in STATES if (count := counts[state])) + "."]
    if len(rows) > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS} of {len(rows)} rows are shown, those without a result before the others; "
                     f"{CSV} has all.")  # fmt: skip
    shown = sorted(rows.values(), key=lambda row: row.error is None)[:MOST_ROWS]
    tasks = " and ".join(dict.fromkeys(evaluation.task for evaluation in evaluations))
    return CohortReport(f"Cohort {tasks}", shown, directions, (*notes, *reports[0].notes), reports[0].baseline)


def _folder_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """The label of the method, which is fit for it; of several data sets after a number and what is fit of the name."""
    tasks = [*dict.fromkeys(evaluation.task for evaluation in evaluations)]
    if len(tasks) == 1:
        return [evaluation.method for evaluation in evaluations]
    safe = {task: f"{number}-{re.sub('[^A-Za-z0-9]+', '-', task)[:40]}" for number, task in enumerate(tasks, 1)}
    return [f"{safe[evaluation.task]}-{evaluation.method}" for evaluation in evaluations]
