"""Every page, with names in every text field that would break out of it if they could."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from anamorph.classification import Features, Plan, Rows
from anamorph.classification.features import Cohort, CommonGrid
from anamorph.classification.run import Classification, ModelOutcome
from anamorph.classification.validation import Permutation, score
from anamorph.evaluation import failed
from anamorph.evaluation.gates import Check
from anamorph.evaluation.kept_tissue import Change, KeptPiece
from anamorph.evaluation.verdict import Verdict
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.image.series import ImageSeries
from anamorph.report import PairReport
from anamorph.report import classification as of_classification
from anamorph.report.charts import Chart, Curve
from anamorph.report.cohort import CohortReport, CohortRow
from anamorph.report.cohort import page as of_cohort
from anamorph.report.many_scans import (
    LayersReport,
    ScanLine,
    ScanRow,
    Stage,
    TemplateReport,
    layers_page,
    template_page,
)
from anamorph.report.pair import render
from anamorph.report.series import SeriesReport, series_page
from anamorph.supervoxels.layers import Layers
from reports import make_report

HOSTILE = (
    "</script></style></title><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=2'>{{ 7 * 6 }} a\\b&amp;"
)
GRID = Grid((24, 20, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))
PATIENTS = 6


def scan(seed: int = 0) -> Image:
    return Image(np.random.default_rng(seed).random(GRID.shape).astype(np.float32), GRID, HOSTILE)


def pair() -> str:
    base = make_report(GRID)
    judged = base.verdict
    check = Check("own", "signs of failure", "WARN", 1.0, 0.5, HOSTILE, HOSTILE)
    points = Points(np.array([[-20.0, -20, 20], [-30, -10, 30]]), (HOSTILE, "other"))
    report = dataclasses.replace(
        base,
        title=HOSTILE,
        fixed=Image(base.fixed.data, GRID, HOSTILE),
        moving=Image(base.moving.data, GRID, HOSTILE),
        verdict=Verdict("WARN", [*judged.checks, check], judged.accuracy),
        label_names={3: HOSTILE},
        label_colours={3: '#123456"><img src=x onerror="window.pwned=3">'},
        fixed_points=points,
        moving_points=points,
        kept=[KeptPiece(HOSTILE, "fixed", "volume", None, Change(1.0, 1.0), Change(0.0, 0.5))],
        true_error_mm={when: {"mean": 2.0, "p95": 3.0, "max": 4.0} for when in ("before", "after")},
        start=[HOSTILE, HOSTILE],
        warnings=[HOSTILE],
        notes=[HOSTILE],
        files=[(HOSTILE, HOSTILE)],
        settings={HOSTILE: {HOSTILE: [HOSTILE]}},
        provenance={HOSTILE: HOSTILE},
        trace={HOSTILE: [3.0, 2.0, 1.0]},
        timings={HOSTILE: 1.0, f"{HOSTILE}: part": 0.5},
    )
    return render(report)


def failed_pair() -> str:
    return render(PairReport(HOSTILE, scan(), scan(1), failed(HOSTILE), failure=HOSTILE, warnings=[HOSTILE]))


def template() -> str:
    stages = [Stage(HOSTILE, scan(n), 0.5 / n if n else None, 1.0 if n else None, 0.2 if n else None) for n in range(3)]
    line = ScanLine(HOSTILE, "WARN", 0.9, 1.0, ("scans", HOSTILE, "report.html"), HOSTILE, (HOSTILE,))
    return template_page(TemplateReport(HOSTILE, stages, 0.1, False, 0.1, [line], {HOSTILE: HOSTILE}))


def layers() -> str:
    cut = Layers((np.indices(GRID.shape)[0][None] // 4).astype(np.uint8), GRID, {})
    row = ScanRow(HOSTILE, (HOSTILE,))
    return layers_page(LayersReport(HOSTILE, scan(), cut, ((HOSTILE, HOSTILE),), (HOSTILE,), [row], (HOSTILE,)))


def series() -> str:
    frames = ImageSeries(tuple(scan(n) for n in range(4)))
    labels = [Labels((np.indices(GRID.shape)[0] > 9 + n).astype(np.uint8), GRID, HOSTILE) for n in range(4)]
    values = [0.0, 1.0, 2.0, 1.0]
    chart = Chart(HOSTILE, HOSTILE, [Curve(HOSTILE, values), Curve(f"{HOSTILE} again", values, dashed=True)])
    table = (HOSTILE, "value"), ((HOSTILE, HOSTILE),)
    return series_page(SeriesReport(HOSTILE, [HOSTILE], range(4), HOSTILE, [chart], frames, frames, labels, table))


def classification() -> str:
    positive = np.arange(PATIENTS) % 2 == 1
    chances = np.where(positive, 0.8, 0.3)
    chances[1] = 0.2
    permutation = Permutation(0.2, 0.9, 0.5, 20)
    names = np.array([f"{HOSTILE}{n}" for n in range(PATIENTS)])
    fields = np.zeros((PATIENTS, 3, 2, 2, 2), np.float32)
    cohort = Cohort(
        Rows(Features(fields, np.zeros((PATIENTS, 1))), names, positive),
        *(tuple(names), (HOSTILE,), CommonGrid((2, 2, 2), 4.0, False), "fitted", (HOSTILE,)),
    )
    models = tuple(
        ModelOutcome(f"{HOSTILE}{n}", HOSTILE, chances, score(chances, positive), permutation) for n in range(2)
    )
    words = f"{HOSTILE} well", f"{HOSTILE} ill"
    return of_classification.render(Classification(Plan(), cohort, words, names, positive, models))


def cohort() -> str:
    numbers = {f"{HOSTILE}{n}": 0.5 + 0.01 * n for n in range(9)}
    rows = [
        CohortRow(
            *(f"{key}<--{HOSTILE}", f"{HOSTILE}{method}", "WARN", numbers, {f"{HOSTILE}0": {HOSTILE: 0.5}}),
            report_link=f"pairs/{HOSTILE}/report.html",
            reasons=(HOSTILE,),
            answers=HOSTILE,
            names=HOSTILE,
        )
        for key in "ab"
        for method in "xy"
    ]
    rows.append(CohortRow(f"c{HOSTILE}", f"{HOSTILE}x", error=HOSTILE))
    return of_cohort.render(CohortReport(HOSTILE, rows, dict.fromkeys(numbers, "higher"), (HOSTILE,)))


PAGES: dict[str, Callable[[], str]] = {
    "pair": pair,
    "failed pair": failed_pair,
    "template": template,
    "layers": layers,
    "series": series,
    "classification": classification,
    "cohort": cohort,
}
