"""Who has which of two labels: a CSV file of ``subject,label``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError

REQUIRED = ("subject", "label")
OPTIONAL = ("registration", "fixed_labels")


@dataclass(frozen=True)
class LabelRow:
    """One line of the table.

    Args:
        subject: the patient.
        positive: whether the label is the positive one.
        registration: folder of the registration, relative to the folder of registrations; None if it is named after
            the subject.
        fixed_labels: label map of the fixed scan, absolute.
    """

    subject: str
    positive: bool
    registration: str | None = None
    fixed_labels: Path | None = None


@dataclass(frozen=True)
class LabelTable:
    """The labels of all patients.

    Args:
        path: of the file.
        rows: one per line; a subject of several registrations may have several.
        negative: the word for the one label.
        positive: the word for the other, whose probability is predicted.
    """

    path: Path
    rows: tuple[LabelRow, ...]
    negative: str
    positive: str

    @property
    def by_subject(self) -> Mapping[str, bool]:
        """Whether each patient is positive."""
        return {row.subject: row.positive for row in self.rows}


def read_label_table(path: Path, positive: str | None = None) -> LabelTable:
    """Read the table.

    Args:
        path: CSV with a heading: ``subject,label`` and, where wanted, ``registration`` and ``fixed_labels`` (relative
            to the table). A label is any of two words.
        positive: the word whose probability is predicted; by default the one that comes last in the alphabet.

    Raises:
        UserError: no such file, columns missing, not exactly two labels, or a subject with both.
    """
    entries = list(_entries(path))
    words = sorted({entry["label"] for entry in entries})
    if len(words) != 2:
        found = ", ".join(repr(word) for word in words[:5]) or "none"
        raise UserError(f"{path}: a binary label has two values, but here are {len(words)} ({found}); keep two groups")
    if positive is not None and positive not in words:
        raise UserError(f"{path}: no label is '{positive}'; choose --positive '{words[0]}' or '{words[1]}'")
    wanted = positive or words[1]
    rows = tuple(_row(entry, wanted, path.parent) for entry in entries)
    both = {row.subject for row in rows if row.positive} & {row.subject for row in rows if not row.positive}
    if both:
        raise UserError(f"{path}: {min(both)} has both labels; a patient has one")
    return LabelTable(path, rows, next(word for word in words if word != wanted), wanted)


def _entries(path: Path) -> Iterator[dict[str, str]]:
    """The lines that are not empty, stripped."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a CSV with the columns {','.join(REQUIRED)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: no column {' and '.join(missing)}; begin with the line {','.join(REQUIRED)}")
            for entry in reader:
                cells = {name: (entry.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
                if not any(cells.values()):
                    continue
                if not (cells["subject"] and cells["label"]):
                    raise UserError(
                        f"{path}, line {reader.line_num}: no {REQUIRED[bool(cells['subject'])]}; fill it in"
                    )
                yield cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text") from error


def _row(entry: Mapping[str, str], positive: str, folder: Path) -> LabelRow:
    labels = (folder / entry["fixed_labels"]).absolute() if entry["fixed_labels"] else None
    return LabelRow(entry["subject"], entry["label"] == positive, entry["registration"] or None, labels)
