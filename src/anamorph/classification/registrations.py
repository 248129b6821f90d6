"""The registrations of labelled patients: where they are, and what is read of each."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anamorph.data.dataset import Dataset, Pair, PairSplit
from anamorph.errors import UserError
from anamorph.evaluation.predictions import Predictions
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.image.read import read_grid, read_labels
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Transform

IN_PARTS, DENSE, ON_FIXED_GRID = "fixed_to_moving.h5", "fixed_to_moving.nii.gz", "warped.nii.gz"
"""Of an output folder of ``anamorph register``: the transform in its parts, the same as one field, the fixed grid."""
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Registration:
    """A transform of one patient's scans.

    Args:
        name: what the results call it.
        patient: the subject that the table of labels lists.
        positive: the patient's label.
        transform: file of the fixed-to-moving map.
        fixed: a file on the grid of the fixed scan.
        moving: the moving scan, where the file counts in its voxels.
        fixed_labels: label map of the fixed scan.
    """

    name: str
    patient: str
    positive: bool
    transform: Path
    fixed: Path
    moving: Path | None = None
    fixed_labels: Path | None = None

    def read(self) -> tuple[Transform, Grid, Labels | None]:
        """The map, the fixed grid, and the labels on it.

        Raises:
            UserError: a file is missing, damaged, has values that are not finite, or is on another grid.
        """
        grid = read_grid(self.fixed)
        moving_grid = None if self.moving is None else read_grid(self.moving)
        transform = read_transform(self.transform, grid=grid, moving_grid=moving_grid)
        labels = None if self.fixed_labels is None else read_labels(self.fixed_labels)
        if labels is not None and labels.grid.shape != grid.shape:
            raise UserError(
                f"{self.fixed_labels}: {labels.grid.shape} voxels, but the fixed scan of {self.name} has {grid.shape}; "
                "name the labels of the fixed scan"
            )
        return transform, grid, labels


def find_results(folder: Path, table: LabelTable) -> tuple[Registration, ...]:
    """The output folders of ``anamorph register``, one per line of the table.

    Args:
        folder: holds one folder per registration, named after the subject unless the table says otherwise.
        table: who is classified.

    Raises:
        UserError: no such folder, a registration that is missing, or one that is listed twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the registrations")
    names = [row.registration or row.subject for row in table.rows]
    # Two patients with one registration between them would be a leak, however its folder is spelt.
    place, times = Counter((folder / name).resolve() for name in names).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"{table.path}: {place.name} is listed twice; tell registrations apart in a column `registration`"
        )
    found = {name: _transform_in(folder / name) for name in names}
    absent = [name for name in names if found[name] is None]
    if absent:
        raise UserError(
            f"{folder}: no registration of {_some(absent)}; each is a folder made by `anamorph register`. Register "
            f"them, or take them out of {table.path.name}"
        )
    return tuple(
        Registration(
            name, row.subject, row.positive, path, path.with_name(ON_FIXED_GRID), fixed_labels=row.fixed_labels
        )
        for name, row in zip(names, table.rows, strict=True)
        if (path := found[name]) is not None
    )


def find_fields(folder: Path, table: LabelTable, dataset: Dataset, split: PairSplit) -> tuple[Registration, ...]:
    """The predicted fields of the pairs of a data set, as ``anamorph evaluate`` finds them.

    A pair belongs to the one of its subjects that the table lists: to the patient who is registered to a template, or
    whose scans the two are. Pairs of subjects that the table does not list are left out.

    Args:
        folder: of the fields; see :class:`~anamorph.evaluation.predictions.Predictions`.
        table: who is classified.
        dataset: scans, pairs and labels.
        split: which pairs.

    Raises:
        UserError: a pair of two labelled patients, a field or a patient that is missing.
    """
    pairs = dataset.pairs(split)
    known = table.by_subject
    predictions = Predictions(folder, pairs)
    owners = {pair: owner for pair in pairs if (owner := _owner(pair, known, table.path)) is not None}
    absent = sorted(set(known) - set(owners.values()))
    if absent:
        raise UserError(
            f"{dataset.path.name} has no pair of {_some(absent)} in its split {split}; choose another --split, or take "
            f"them out of {table.path.name}"
        )
    return tuple(_of_pair(pair, owner, known[owner], predictions) for pair, owner in owners.items())


def _owner(pair: Pair, known: Iterable[str], table: Path) -> str | None:
    owners = {pair.fixed.subject, pair.moving.subject} & set(known)
    if len(owners) > 1:
        raise UserError(
            f"the pair {pair.key} is of two patients of {table.name}, so it says nothing about one of them; use pairs "
            "of one patient, or pairs with a template"
        )
    return next(iter(owners), None)


def _of_pair(pair: Pair, owner: str, positive: bool, predictions: Predictions) -> Registration:
    found = predictions.find(pair)
    place = _transform_in(found.parent) if found.name in (IN_PARTS, DENSE) else found
    labels = pair.fixed.label
    return Registration(pair.key, owner, positive, place or found, pair.fixed.image, pair.moving.image, labels)


def _transform_in(folder: Path) -> Path | None:
    """The file that keeps affine and field apart, else the dense one."""
    return next((path for path in (folder / IN_PARTS, folder / DENSE) if path.is_file()), None)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


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
