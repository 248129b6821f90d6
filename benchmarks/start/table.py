"""The rows of finished cases, and the table of how many came out right."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, str]
COLUMNS = (
    "tool", "case", "set", "disturbance", "parameter", "split", "success", "unit", "figure", "undisturbed", "before",
    "wall_s", "cpu_s", "verdict", "start", "error",
)  # fmt: skip


def read_rows(path: Path) -> list[Row]:
    """The rows of a result file without a last one that was cut short; none when there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def append(path: Path, row: Mapping[str, object], columns: Sequence[str] = COLUMNS) -> None:
    """Write a row in one piece, so that several runs may share a file and a stopped one leaves no half of a row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    new = not path.exists() or path.stat().st_size == 0
    if new:
        writer.writeheader()
    elif not path.read_bytes().endswith(b"\n"):
        text.write("\n")
    writer.writerow({key: _written(value) for key, value in row.items()})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.getvalue().encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())


def summary(rows: Iterable[Row]) -> str:
    """Markdown tables for each tool: right of judged by set and disturbance, and means of undisturbed pairs."""
    rows = list(rows)
    blocks = []
    for tool in _in_order(rows, "tool"):
        own = [row for row in rows if row["tool"] == tool]
        plain = [row for row in own if row["disturbance"] == "undisturbed"]
        blocks += [f"### {tool}", _table(own), *([_means(plain)] if plain else [])]
    return "\n\n".join(blocks)


def _table(rows: list[Row]) -> str:
    sets, kinds = _in_order(rows, "set"), _in_order(rows, "disturbance")
    lines = [_line(["set", *kinds, "all", "wall s", "cpu s"]), _line(["---"] * (len(kinds) + 4))]
    for one in [*sets, "all"]:
        own = rows if one == "all" else [row for row in rows if row["set"] == one]
        cells = [_right([row for row in own if row["disturbance"] == kind]) for kind in kinds]
        lines.append(_line([one, *cells, _right(own), _mean(own, "wall_s"), _mean(own, "cpu_s")]))
    unjudged = sum(not row["success"] for row in rows)
    return "\n".join(lines) + (f"\n\n{unjudged} not judged: too little in common." if unjudged else "")


def _means(rows: list[Row]) -> str:
    """Undisturbed pairs by set: mean figure after and before, and how many end below their start."""
    lines = [_line(["undisturbed", "pairs", "before", "after", "unit", "worse"]), _line(["---"] * 6)]
    for one in _in_order(rows, "set"):
        own = [row for row in rows if row["set"] == one]
        worse = sum(row["success"] == "no" for row in own)
        unit = next((row["unit"] for row in own if row["unit"]), "")
        lines.append(_line([one, str(len(own)), _mean(own, "before", 3), _mean(own, "figure", 3), unit, str(worse)]))
    return "\n".join(lines)


def _right(rows: list[Row]) -> str:
    judged = [row["success"] for row in rows if row["success"]]
    return f"{judged.count('yes')}/{len(judged)}" if judged else ""


def _mean(rows: list[Row], column: str, digits: int = 1) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{sum(values) / len(values):.{digits}f}" if values else ""


def _in_order(rows: list[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
