"""``PLAN.toml``: data sets and their pairs, methods with their settings, and what is wanted of every pair."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from anamorph.batch.registration import RegistrationSettings
from anamorph.data.dataset import FILE_KINDS, POINT_KINDS, Case, Dataset, Pair, Split, all_pairs
from anamorph.data.manifest import parse_name, read_dataset
from anamorph.errors import UserError
from anamorph.methods import DEFAULT_METHOD
from anamorph.toml_table import TomlTable, read_toml

LISTED = ("val", "test", "training")
TO_ONE = "to:"
CHOICES = (*LISTED, "all", "same-patient", f"{TO_ONE}ID")
_COLUMNS = (
    "id",
    *(f"{role}{end}" for end in ("", *(f"_{kind}" for kind in FILE_KINDS)) for role in ("fixed", "moving")),
)
MOST_ATTEMPTS = 20
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
"""Labels of methods are names of folders."""


@dataclass(frozen=True)
class PairsTable:
    """One ``[[dataset]]`` of a plan.

    Args:
        manifest: of the data set.
        table: CSV with the columns ``fixed`` and ``moving``, and perhaps ``id`` and further files of either scan; they
            name scans of the manifest (``0001_0000``), or files from the folder of the table.
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
    fixed = _case_of(dataset, choice.removeprefix(TO_ONE))
    return [Pair(fixed, case) for case in cases if case.image != fixed.image]


def _case_of(dataset: Dataset, key: str) -> Case:
    """The scan of an id: subject and modality, or the subject alone if that is enough."""
    found = [case for case in dataset.cases if case.key == key] or [
        case for case in dataset.cases if case.subject == key
    ]
    if len(found) != 1:
        raise UserError(
            f"{dataset.path}: {len(found) or 'no'} scans are called '{key}'; name one by subject and modality, such as "
            f"{dataset.cases[0].key if dataset.cases else '0001_0000'}"
        )
    return found[0]


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
    if dataset is not None:
        return _case_of(dataset, name)
    files = {kind: row.get(f"{role}_{kind}") for kind in FILE_KINDS}
    subject, modality = parse_name(name)
    paths: dict[str, Any] = {kind: path.parent.absolute() / file for kind, file in files.items() if file}
    return Case(subject, modality, path.parent.absolute() / name, **paths)


def _dataset_of(path: Path, rows: list[tuple[str, Pair]]) -> Dataset:
    """The data set that a table of files makes."""
    cases = {case.image: case for _, pair in rows for case in (pair.fixed, pair.moving)}
    return Dataset(path.absolute(), path.parent.absolute(), path.stem, {}, {}, tuple(cases.values()))


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


@dataclass(frozen=True)
class PlannedMethod:
    """A method with its settings under the name that tables and folders show."""

    label: str
    settings: RegistrationSettings

    @cached_property
    def described(self) -> dict[str, Any]:
        """Everything a result depends on apart from the scans, as plain values.

        Raises:
            UserError: there is no such method, preset, setting or model.
        """
        # Workers on other machines may have the GPU that this one lacks.
        return replace(self.settings, device="cpu").described() | {"device": self.settings.device}


@dataclass(frozen=True)
class Wanted:
    """What is kept of every pair, how often a pair is tried, and by how many threads it is done.

    Results are the same to the last bit where the number of threads is; None leaves it to the machine.
    """

    transforms: bool = True
    warped: bool = False
    metrics: bool = True
    attempts: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class CohortPlan:
    """A whole plan: every pair is registered by every method."""

    path: Path
    pairs: tuple[PlannedPair, ...]
    methods: tuple[PlannedMethod, ...]
    wanted: Wanted

    def files(self) -> set[Path]:
        """Every file that a result depends on."""
        return {path for planned in self.pairs for path in self.files_of(planned).values()}

    def files_of(self, planned: PlannedPair) -> dict[str, Path]:
        """Every file that the results of a pair depend on, by its role."""
        cases = {"fixed": planned.pair.fixed, "moving": planned.pair.moving}
        files = {role: case.image for role, case in cases.items()}
        if any(method.settings.masks for method in self.methods):
            files |= {f"{role}_mask": case.mask for role, case in cases.items() if case.mask}
        if self.wanted.metrics:
            files |= {f"{role}_label": case.label for role, case in cases.items() if case.label}
            for kind in POINT_KINDS:
                points = zip(cases, planned.pair.points(kind), strict=True)
                files |= {f"{role}_{kind}": path for role, path in points if path}
        return files


def read_plan(path: Path, base: Path | None = None) -> CohortPlan:
    """Read a plan and the data sets it names; scans are looked for, not opened.

    Args:
        path: the file.
        base: the folder that its relative paths start from; its own by default.

    Raises:
        UserError: missing, no TOML, or something in it is wrong; the message names the line.
    """
    top = read_toml(path)
    base = (base or path.parent).absolute()
    pairs = _pairs([_source(table, base) for table in top.tables("dataset")], path)
    methods = [_method(table) for table in top.tables("method")]
    labels = [method.label for method in methods]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise UserError(f"{path.name}: two methods are called '{repeated}'; give each [[method]] a label of its own")
    wanted = _wanted(top.table("output"), top.table("run"))
    top.done()
    return CohortPlan(path, pairs, tuple(methods), wanted)


def _source(table: TomlTable, base: Path) -> PairsTable:
    """One ``[[dataset]]``."""

    def path_of(key: str) -> Path | None:
        value = table.take(key, str, None)
        return None if value is None else base / value

    choice = PairsTable(
        manifest=path_of("manifest"),
        table=path_of("csv"),
        choose=table.take("pairs", str, None),
        split=table.take("split", Literal["training", "validation", "test"], None),
        both_directions=table.take("both_directions", bool, False),
        labels=tuple(table.take("labels", list, [])),
        name=table.take("name", str, None),
    )
    if not all(isinstance(label, int) and not isinstance(label, bool) and label > 0 for label in choice.labels):
        table.fail("labels", "labels must be a list of whole numbers above 0, such as [1, 2]")
    table.done()
    try:
        choice.check()
    except UserError as error:
        table.fail(None, str(error))
    return choice


def _pairs(sources: list[PairsTable], path: Path) -> tuple[PlannedPair, ...]:
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


def _method(table: TomlTable) -> PlannedMethod:
    """One ``[[method]]``."""
    name = table.take("name", str, DEFAULT_METHOD)
    label = table.take("label", str, name)
    if not _LABEL.fullmatch(label):
        table.fail("label", f"label {label!r} is no name of a folder; use letters, digits and _ . + -")
    settings = RegistrationSettings(
        method=name,
        preset=table.take("preset", str, "auto"),
        settings=tuple(f"{key}={_as_text(value)}" for key, value in table.take("settings", dict, {}).items()),
        device=table.take("device", Literal["cpu", "cuda"], "cpu"),
        seed=table.take("seed", int, 0),
        masks=table.take("masks", bool, False),
    )
    table.done()
    planned = PlannedMethod(label, settings)
    try:
        _ = planned.described
    except UserError as error:
        table.fail(None, str(error))
    return planned


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wanted(output: TomlTable, run: TomlTable) -> Wanted:
    wanted = Wanted(
        transforms=output.take("transforms", bool, Wanted.transforms),
        warped=output.take("warped", bool, Wanted.warped),
        metrics=output.take("metrics", bool, Wanted.metrics),
        attempts=run.take("attempts", int, Wanted.attempts),
        threads=run.take("threads", int, None),
    )
    if wanted.threads is not None and wanted.threads < 1:
        run.fail("threads", f"threads must be at least 1, not {wanted.threads}")
    if not 1 <= wanted.attempts <= MOST_ATTEMPTS:
        run.fail("attempts", f"attempts must be 1 to {MOST_ATTEMPTS}, not {wanted.attempts}")
    output.done()
    run.done()
    return wanted
