"""Names and colours of labels: written out, or in the tables of 3D Slicer, FreeSurfer, ITK-SNAP and BIDS."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anamorph.errors import UserError
from anamorph.reading import read_json, read_text, understood

EXPECTED = "give 1=liver,2=spleen, or a table of 3D Slicer, FreeSurfer, ITK-SNAP or BIDS (dseg.tsv)"
_ITK_SNAP = re.compile(r'(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d\s+\d\s+"(.*)"')
_SLICER = re.compile(r'(\d+)\s+("[^"]*"|\S+)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+[\d.]+)?')
_HEX = re.compile(r"#[0-9a-fA-F]{6}")

Row = tuple[int, str, str]
"""Value, name, and colour as CSS writes it; empty where there is none."""


@dataclass(frozen=True)
class LabelNames:
    """What labels are called and how they are coloured, by value; either may know fewer than occur.

    Args:
        names: of labels.
        colours: as CSS writes them, such as ``"#ff8800"``.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)


LabelNamesLike = LabelNames | Mapping[int, str] | str | os.PathLike[str]


def read_label_names(source: LabelNamesLike) -> LabelNames:
    """Names of labels from ``1=liver,2=spleen``, a mapping, or a file.

    A file is a colour table of 3D Slicer (``.ctbl``, ``.txt``, ``.csv``) or FreeSurfer, a label description of
    ITK-SNAP, a ``dseg.tsv`` of BIDS, or JSON: ``{"1": "liver"}``, by itself or under ``labels``.

    Raises:
        UserError: there is no such file, or it holds no names.
    """
    if isinstance(source, LabelNames):
        return source
    if isinstance(source, Mapping):
        return _named((int(value), str(name), "") for value, name in source.items())
    text, path = os.fspath(source), Path(source)
    if not path.exists():
        return _named(_written_out(text))
    with understood(path, "no names of labels", EXPECTED):
        found = _named(_rows(path))
        if not found.names:
            raise ValueError("not one line is understood")
    return found


def _named(rows: Iterator[Row]) -> LabelNames:
    """Background, which is no label, is left out."""
    kept = [row for row in rows if row[0] and row[1]]
    return LabelNames({v: name for v, name, _ in kept}, {v: colour for v, _, colour in kept if colour})


def _written_out(text: str) -> Iterator[Row]:
    for part in text.split(","):
        value, equals, name = part.partition("=")
        if not equals or not value.strip().isdecimal() or int(value) == 0 or not name.strip():
            raise UserError(f"--label-names wants 1=liver,2=spleen, not '{part.strip()}', or a file that exists")
        yield int(value), name.strip(), ""


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".json":
        content = read_json(path)
        yield from ((int(v), str(name), "") for v, name in content.get("labels", content).items())
    elif path.suffix in (".tsv", ".csv"):
        yield from _of_columns(path)
    else:
        lines = (line.strip() for line in read_text(path).splitlines())
        yield from (row for line in lines if (row := _of_line(line)))


def _of_columns(path: Path) -> Iterator[Row]:
    """Rows of a table with heads: ``index``, ``name`` and ``color`` of BIDS, or those of a colour table of Slicer."""
    kind = "excel-tab" if path.suffix == ".tsv" else "excel"
    for row in csv.DictReader(read_text(path).splitlines(), dialect=kind):
        cells = {head.strip().lower(): (cell or "").strip() for head, cell in row.items() if isinstance(cell, str)}
        value = cells["index"] if "index" in cells else cells["labelvalue"]
        colour = cells.get("color", "")
        if not _HEX.fullmatch(colour):
            parts = [cells.get(f"color_{letter}", "") for letter in "rgb"]
            colour = _css(parts) if all(part.isdecimal() for part in parts) else ""
        yield int(value), cells["name"], colour


def _of_line(line: str) -> Row | None:
    """A line of ITK-SNAP, whose names come last, or of Slicer and FreeSurfer, whose names come second."""
    if found := _ITK_SNAP.fullmatch(line):
        return int(found[1]), found[5], _css(found.groups()[1:4])
    if found := _SLICER.fullmatch(line):
        return int(found[1]), found[2].strip('"').replace("_", " "), _css(found.groups()[2:5])
    return None


def _css(parts: Sequence[str]) -> str:
    red, green, blue = (min(int(part), 255) for part in parts)
    return f"#{red:02x}{green:02x}{blue:02x}"
