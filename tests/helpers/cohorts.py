"""Made-up evaluations for the tests of their page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from anamorph.report.cohort import CohortReport, CohortRow

DIRECTIONS = {"Dice": "higher", "HD95, mm": "lower", "Folding, %": "lower"}
LABELS = ("spleen", "liver", "pancreas")


def make_row(key: str, method: str = "convex", dice: float = 0.8, **changes) -> CohortRow:
    values = {
        "verdict": "PASS",
        "metrics": {"Dice": dice, "HD95, mm": 30 * (1 - dice), "Folding, %": 0.01},
        "per_label": {"Dice": {name: dice - 0.1 * rank for rank, name in enumerate(LABELS)}},
    }
    return CohortRow(key, method, **(values | changes))


def make_report(**changes) -> CohortReport:
    """Five pairs by two methods and the baseline: two without a result, one FAIL, one without any number."""
    rows = [
        make_row(f"p{i}", "identity", 0.3, verdict=None, metrics={"Dice": 0.3, "Folding, %": 0.0}) for i in range(5)
    ]
    rows += [
        make_row("p0", dice=0.9),
        make_row("p1", dice=0.7),
        make_row("p2", dice=0.95, verdict="FAIL", reasons=("the map folds",)),
        make_row("p3", metrics={"Dice": math.nan, "HD95, mm": None}, per_label={}),
        CohortRow("p4", "convex", error="disp_p4.npz is missing"),
        make_row("p0", "deeds", dice=0.6, verdict="WARN", reasons=("labels lost",)),
        make_row("p1", "deeds", dice=0.2, metrics={"Dice": 0.2, "HD95, mm": math.inf, "Folding, %": 2.0}),
        make_row("p2", "deeds", dice=0.8),
        make_row("p3", "deeds", dice=0.75),
        CohortRow("p4", "deeds", error="disp_p4.npz has the wrong shape"),
    ]
    values = {"title": "five pairs", "rows": rows, "metric_directions": DIRECTIONS, "baseline": "identity"}
    return CohortReport(**(values | changes))


def large_report(folder: Path, pairs: int) -> CohortReport:
    """Many pairs by one method over the baseline, with 13 labels and a picture each."""
    rng = np.random.default_rng(5)
    rows = []
    for place in range(pairs):
        key = f"{place:04d}_0000<--{place + 1:04d}_0000"
        path = folder / f"{place}.jpg"
        coarse = rng.integers(0, 255, (24, 56, 3), np.uint8)
        Picture.fromarray(coarse).resize((560, 240), Picture.Resampling.BICUBIC).save(path)
        for method, gain in (("identity", 0.0), ("convex", 0.4)):
            per_label = {f"organ {n}": float(np.clip(rng.normal(0.4 + gain, 0.1), 0, 1)) for n in range(13)}
            distance = {name: 40 * (1 - value) for name, value in per_label.items()}
            metrics = {
                name: float(np.mean([*values.values()]))
                for name, values in (("Dice", per_label), ("HD95, mm", distance))
            }
            shown = {"thumbnail": path, "report_link": f"pairs/{place}/report.html", "verdict": "PASS"} if gain else {}
            rows.append(
                CohortRow(key, method, metrics=metrics, per_label={"Dice": per_label, "HD95, mm": distance}, **shown)
            )
    return CohortReport("many pairs", rows, DIRECTIONS, baseline="identity")
