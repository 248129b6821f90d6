"""Labels of data sets: which of them a scan shows completely, and one number for each name of several data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anamorph.data.dataset import Case, Dataset, some
from anamorph.errors import UserError

ANNOTATED = "annotated_labels"
"""The key of a manifest, and of the entry of a scan."""
_NO_NAME = re.compile(r"(?:label|class|structure|region|roi)?[\s_-]*\d*", re.IGNORECASE)
_MOST_SHOWN = 3


def annotated_labels(dataset: Dataset, case: Case | None = None) -> tuple[int, ...]:
    """The labels that a data set, or one of its scans, shows completely.

    ``annotated_labels`` of the entry of the scan goes before that of the manifest, and this before all that the
    manifest names.

    Raises:
        UserError: what is written there is no list of labels that the manifest names.
    """
    name = dataset.path.name
    if case is not None and case.extra.get(ANNOTATED) is not None:
        return _listed(case.extra, dataset.labels, f"{name}: {ANNOTATED} of {case.key}")
    if dataset.extra.get(ANNOTATED) is not None:
        return _listed(dataset.extra, dataset.labels, f"{name}: {ANNOTATED}")
    return tuple(sorted(dataset.labels))


def labels_called(labels: Mapping[int, str], names: Iterable[str]) -> dict[int, str]:
    """Those of the labels that numbers or names mean."""
    wanted = {same_name(name) for name in names}
    return {n: name for n, name in labels.items() if str(n) in wanted or same_name(name) in wanted}


def without_labels(dataset: Dataset, left_out: Iterable[int]) -> Dataset:
    """The same data set, in which no scan annotates some labels: they are neither learned from nor measured.

    Raises:
        UserError: what the manifest says of its labels is not understood.
    """
    gone = set(left_out)
    if not gone:
        return dataset

    def kept(case: Case | None) -> dict[str, list[int]]:
        return {ANNOTATED: [label for label in annotated_labels(dataset, case) if label not in gone]}

    cases = tuple(
        replace(case, extra={**case.extra, **kept(case)}) if case.extra.get(ANNOTATED) is not None else case
        for case in dataset.cases
    )
    return replace(dataset, cases=cases, extra={**dataset.extra, **kept(None)})


def _listed(content: Mapping[str, Any], labels: Mapping[int, str], where: str) -> tuple[int, ...]:
    given = content[ANNOTATED]
    if not isinstance(given, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in given):
        raise UserError(f"{where} must be a list of label values such as [1, 2], not {str(given)[:80]!r}")
    unknown = sorted(set(given) - set(labels))
    if unknown:
        raise UserError(f"{where} holds {some(map(str, unknown))}, which labels does not name")
    return tuple(sorted(set(given)))


@dataclass(frozen=True)
class LabelTable:
    """The labels of one data set or model.

    Args:
        source: what messages call it.
        labels: name by number.
    """

    source: str
    labels: Mapping[int, str]


def same_name(name: str) -> str:
    """A name as it is compared: without regard to case, and with ``_``, ``-`` and spaces alike."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def is_name(name: str) -> bool:
    """Whether a name says more than the number does, as ``label 3`` does not."""
    return not _NO_NAME.fullmatch(name.strip())


def shared_numbers(tables: Sequence[LabelTable]) -> tuple[dict[int, str], tuple[dict[int, int], ...]]:
    """One numbering for all tables, in which a number has one name and a name one number.

    A label takes the number that an earlier table has for its name; a name that is new keeps its own number. Where no
    table names its labels the numbers count as they are.

    Returns:
        the joint name by number, and for each table the joint number by its own.

    Raises:
        UserError: a number stands for two names, a table has one name twice, or only some of the labels have names.
    """
    _refuse_unclear(tables)
    joint: dict[int, str] = {}
    owner: dict[int, str] = {}
    maps, clashes = [], []
    for table in tables:
        known = {_identity(number, name): number for number, name in joint.items()}
        own = {number: known.get(_identity(number, name), number) for number, name in sorted(table.labels.items())}
        for number, target in own.items():
            name = table.labels[number]
            if target in joint and _identity(target, joint[target]) != _identity(number, name):
                clashes.append((number, name, table.source, joint[target], owner[target]))
        for number, target in own.items():
            joint.setdefault(target, table.labels[number])
            owner.setdefault(target, table.source)
        maps.append(own)
    if clashes:
        raise UserError(_clash(clashes, max(number for table in tables for number in table.labels)))
    return dict(sorted(joint.items())), tuple(maps)


def _identity(number: int, name: str) -> str:
    return same_name(name) if is_name(name) else f"label {number}"


def _clash(clashes: Sequence[tuple[int, str, str, str, str]], highest: int) -> str:
    said = "; ".join(
        f"label {number} is '{other}' in {owner} and '{name}' in {source}"
        for number, name, source, other, owner in clashes[:_MOST_SHOWN]
    )
    more = f" and {len(clashes) - _MOST_SHOWN} more" if len(clashes) > _MOST_SHOWN else ""
    number, _, source, _, _ = clashes[0]
    return (
        f"{said}{more}; make {source} again with other numbers, such as `anamorph dataset create ... --relabel "
        f"{number}={highest + 1}` (or `dataset import`), or correct its names"
    )


def _refuse_unclear(tables: Sequence[LabelTable]) -> None:
    """Names that are missing or doubled, where another table has to be brought together with them."""
    tables = [table for table in tables if table.labels]
    names = [{same_name(name) for name in table.labels.values() if is_name(name)} for table in tables]
    for table, own in zip(tables, names, strict=True):
        unnamed = [number for number, name in table.labels.items() if not is_name(name)]
        others = [(other, found - own) for other, found in zip(tables, names, strict=True) if found - own]
        if unnamed and others:
            other, found = others[0]
            raise UserError(
                f"{table.source} does not name its label {unnamed[0]}, which may or may not be '{min(found)}' of "
                f"{other.source}; name it under labels in the manifest, or with `anamorph dataset create --label-names`"
            )
        twice = [number for number, name in table.labels.items() if is_name(name)]
        if len(tables) > 1 and len(twice) > len(own):
            raise UserError(f"{table.source} {_doubled(table)}; merge them with `anamorph dataset create --relabel`")


def _doubled(table: LabelTable) -> str:
    seen: dict[str, int] = {}
    for number, name in table.labels.items():
        if is_name(name) and same_name(name) in seen:
            return f"names both label {seen[same_name(name)]} and {number} '{name}'"
        seen[same_name(name)] = number
    return "names two labels alike"
