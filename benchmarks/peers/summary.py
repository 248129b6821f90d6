"""Result files as markdown tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

Row = dict[str, str]

TITLES = {
    "identity": "unregistered (world or aligned centres)",
    "greedy": "greedy: affine + NCC",
    "antspy_syn": "ANTs SyNRA",
    "convexadam": "greedy's affine + ConvexAdam",
    "greedy_search": "greedy: search of poses, affine + NCC",
    "antspy_multistart": "ANTs: search of poses, SyNRA",
    "convexadam_search": "greedy's search of poses and affine + ConvexAdam",
    "elastix": "elastix: affine + B-spline",
    "demons": "SimpleITK: affine + diffeomorphic demons",
    "anamorph": "anamorph",
    "anamorph_unguided": "anamorph by the images alone",
    "anamorph_masked": "anamorph with masks",
    "anamorph_deeds": "anamorph deeds",
    "anamorph_deeds_published": "anamorph deeds, as published",
}
METRICS = {  # column: (heading, decimals)
    "dice": ("Dice", 3),
    "hd95_mm": ("HD95 mm", 2),
    "tre_mm": ("TRE mm", 2),
    "sdlogj": ("SDlogJ (true log det)", 3),
    "folding_percent": ("folding %", 3),
    "registration_s": ("seconds (registration)", 1),
    "process_s": ("seconds (process)", 1),
    "peak_mb": ("peak MB", 0),
}


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a result file, none when it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tables(rows: Iterable[Row]) -> str:
    """Return one markdown table per data set: means over the pairs that ended, with the number that failed."""
    rows = list(rows)
    blocks = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        columns = [column for column in METRICS if any(row[column] for row in of_dataset)]
        headings = ["method", "n", "failed", *(METRICS[column][0] for column in columns)]
        lines = [f"### {dataset}", _line(headings), _line(["---"] * len(headings))]
        for tool in dict.fromkeys(row["tool"] for row in of_dataset):
            ended = [row for row in of_dataset if row["tool"] == tool and not row["error"]]
            failed = sum(row["tool"] == tool for row in of_dataset) - len(ended)
            cells = [TITLES.get(tool, tool), str(len(ended)), str(failed)]
            lines.append(_line([*cells, *(_mean(ended, column) for column in columns)]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(rows: list[Row], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{mean(values):.{METRICS[column][1]}f}" if values else ""
