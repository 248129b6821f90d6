"""The pairs of a plan: chosen among the scans of a manifest, or listed in a table with further files of each scan."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from anamorph.data.dataset import FILE_KINDS, KNOWN_KINDS, TO_ONE, Case, Dataset, Pair, Sources, Split, all_pairs
from anamorph.data.manifest import parse_name, read_dataset
from anamorph.errors import UserError
from anamorph.registration.tissue import with_weight

LISTED = ("val", "test", "training")
CHOICES = (*LISTED, "all", "same-patient", f"{TO_ONE}ID")
_COLUMNS = (
    "id",
    *(
        f"{role}{end}"
        for end in ("", *(f"_{kind}" for kind in (*FILE_KINDS, *KNOWN_KINDS)))
        for role in ("fixed", "moving")
    ),
)
BETWEEN = ";"
"""Between several files in a cell."""
WEIGHTED, SEVERAL = ("keep_rigid", "keep_volume"), ("keep_rigid", "keep_volume", "outlines")
"""Kinds whose files may have a weight, and of which there may be several."""


@dataclass(frozen=True)
class PairsTable:
    """One ``[[dataset]]`` of a plan.

    Args:
        manifest: of the data set.
        table: CSV with the columns ``fixed`` and ``moving``, which name scans of the manifest (``0001_0000``) or files;
            and perhaps ``id`` and further files of either scan. Paths start from the folder of the table.
        choose: one of :data:`CHOICES`.
        split: all but listed pairs: of scans of this split alone.
        both_directions: every pair the other way round too.
        labels: to compare, instead of those the manifest names.
        name: of the data set, instead of its own.
    """

    manifest: Path | None = None
    table: Path | None = None
    choose: str | None = None
    split: Split | None = None
    both_directions: bool = False
    labels: tuple[int, ...] = ()
    name: str | None = None

    def check(self) -> None:
        """See that it says where the pairs come from, once.

        Raises:
            UserError: it does not.
        """
        if self.manifest is None and self.table is None:
            raise UserError("a data set needs a manifest or a csv; add one of them")
        if self.table is not None and (self.choose is not None or self.split is not None):
            raise UserError("the csv lists the pairs; drop pairs and split")
        known = self.choose in (None, *CHOICES[:-1]) or (self.choose or "").startswith(TO_ONE)
        if not known:
            raise UserError(f"pairs is '{self.choose}'; choose one of: {', '.join(CHOICES)}")
        if self.split is not None and (self.choose or "val") in LISTED:
            raise UserError("a split limits pairs = all, same-patient or to:ID; drop it")


@dataclass(frozen=True)
class PlannedPair:
    """One pair of a plan.

    Args:
        id: of the pair within the plan: ``FFFF_ffff<--MMMM_mmmm``, after the name of the data set if there are several.
        pair: its scans.
        dataset: where it comes from.
        labels: that are compared if both scans have label maps.
    """

    id: str
    pair: Pair
    dataset: Dataset
    labels: tuple[int, ...]


def planned_pairs(sources: list[PairsTable], path: Path) -> tuple[PlannedPair, ...]:
    """The pairs of all data sets of a plan, those that share the fixed scan beside each other.

    Raises:
        UserError: a data set gives no pairs, or two pairs have one id.
    """
    planned = []
    read = [chosen_pairs(source) for source in sources]
    names = {id(dataset): dataset.name for dataset, _ in read}
    for source, (dataset, pairs) in zip(sources, read, strict=True):
        labels = source.labels or tuple(sorted(dataset.labels)) or _labels_present(pairs)
        prefix = f"{dataset.name}/" if len(set(names.values())) > 1 else ""
        planned += [PlannedPair(f"{prefix}{pair_id}", pair, dataset, labels) for pair_id, pair in pairs]
    seen: set[str] = set()
    for one in planned:
        if one.id in seen:
            raise UserError(
                f"{path.name}: two pairs are called {one.id}; list every pair once, or give the rows of the CSV an id"
            )
        if not one.id.isprintable():
            raise UserError(f"{path.name}: the name of the pair {one.id!r} holds control characters; rename the scans")
        seen.add(one.id)
    # Neighbours share the fixed scan, which is then read once for all of them.
    return tuple(sorted(planned, key=lambda one: (one.dataset.name, one.pair.fixed.key, one.id)))


def _labels_present(pairs: list[tuple[str, Pair]]) -> tuple[int, ...]:
    """All labels of the maps, where nobody named them."""
    from anamorph.evaluation.case import LabelMaps

    maps = LabelMaps()
    paths = {case.label for _, pair in pairs for case in (pair.fixed, pair.moving)} - {None}
    return tuple(sorted(set().union(*(maps.present(path) for path in paths if path is not None))))


def chosen_pairs(source: PairsTable) -> tuple[Dataset, list[tuple[str, Pair]]]:
    """The data set, and its pairs with their ids.

    Raises:
        UserError: the manifest or the table cannot be read, names scans that do not exist, or gives no pair.
    """
    dataset = None if source.manifest is None else read_dataset(source.manifest)
    if source.table is not None:
        rows = _read_table(source.table, dataset)
        where = source.table
        dataset = dataset or _dataset_of(source.table, rows)
    else:
        assert dataset is not None
        rows = [(pair.key, pair) for pair in _choose(dataset, source.choose or "val", source.split)]
        where = dataset.path
    if source.name is not None:
        dataset = replace(dataset, name=source.name)
    if source.both_directions:
        there = {(pair.fixed.image, pair.moving.image) for _, pair in rows}
        back = [Pair(pair.moving, pair.fixed) for _, pair in rows]
        rows += [(pair.key, pair) for pair in back if (pair.fixed.image, pair.moving.image) not in there]
    if not rows:
        raise UserError(f"{where}: there are no such pairs; choose others")
    return dataset, rows


def _choose(dataset: Dataset, choice: str, split: Split | None) -> Iterable[Pair]:
    if choice in LISTED:
        return dataset.pairs(choice)  # type: ignore[arg-type]
    cases = dataset.cases if split is None else dataset.of_split(split)
    if choice == "all":
        return all_pairs(cases, "unpaired", dataset.direction)
    if choice == "same-patient":
        ordered = sorted(cases, key=lambda case: case.key)
        return [Pair(fixed, moving) for fixed, moving in combinations(ordered, 2) if fixed.subject == moving.subject]
    fixed = dataset.scan(choice.removeprefix(TO_ONE), "pairs")
    return [Pair(fixed, case) for case in cases if case.image != fixed.image]


def _read_table(path: Path, dataset: Dataset | None) -> list[tuple[str, Pair]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV ({error}); it needs the columns fixed and moving") from error
    unknown = [column for column in columns if column not in _COLUMNS]
    if unknown or not {"fixed", "moving"} <= {*columns}:
        raise UserError(
            f"{path}, line 1: the columns are {', '.join(columns)}; needed are fixed and moving, and there may be "
            f"{', '.join(column for column in _COLUMNS if column not in ('fixed', 'moving'))}"
        )
    pairs = []
    for number, row in enumerate(rows, 2):
        try:
            pair = Pair(_case_in(row, "fixed", path, dataset), _case_in(row, "moving", path, dataset))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        pairs.append((row.get("id") or pair.key, pair))
    return pairs


def _case_in(row: dict[str, str | None], role: str, path: Path, dataset: Dataset | None) -> Case:
    name = row[role]
    if not name:
        raise UserError(f"no {role} scan; name one")
    folder = path.parent.absolute()
    case = Case(*parse_name(name), folder / name) if dataset is None else dataset.scan(name)
    files: dict[str, Any] = {kind: folder / file for kind in FILE_KINDS if (file := row.get(f"{role}_{kind}"))}
    known = {kind: _sources(cell, kind, folder) for kind in KNOWN_KINDS if (cell := row.get(f"{role}_{kind}"))}
    return replace(case, **files, known=known)


def _sources(cell: str, kind: str, folder: Path) -> Sources:
    """The files of a cell, with their weights."""
    texts = [text.strip() for text in cell.split(BETWEEN)] if kind in SEVERAL else [cell]
    found = []
    for text in texts:
        name, weight = with_weight(str(folder / text)) if kind in WEIGHTED else (str(folder / text), None)
        if not Path(str(name)).is_file():
            raise UserError(f"{kind}: no such file {name}; mend the table")
        found.append((Path(str(name)), weight))
    return tuple(found)


def _dataset_of(path: Path, rows: list[tuple[str, Pair]]) -> Dataset:
    """The data set that a table of files makes."""
    cases = {case.image: case for _, pair in rows for case in (pair.fixed, pair.moving)}
    return Dataset(path.absolute(), path.parent.absolute(), path.stem, {}, {}, tuple(cases.values()))
