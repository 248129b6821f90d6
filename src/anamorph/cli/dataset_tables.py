"""A data set on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from anamorph.cli.console import make_table, show

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.data.check import CaseFacts, Problem
    from anamorph.data.dataset import Dataset


def splits_table(dataset: Dataset) -> Table:
    """Patients, scans and pairs of every split."""
    shown = (("training", "training"), ("validation", "val"), ("test", "test"))
    table = make_table("split", ">patients", ">scans", ">with labels", ">with points", ">pairs", title=dataset.name)
    for split, key in shown:
        cases = [case for case in dataset.cases if case.split == split]
        listed = dataset.listed_pairs.get(key)
        pairs = len(dataset.pairs("training")) if split == "training" else len(listed or ())
        counts = (
            len({case.subject for case in cases}),
            len(cases),
            sum(case.label is not None for case in cases),
            sum(bool(case.keypoints or case.landmarks) for case in cases),
            pairs,
        )
        table.add_row(split, *map(str, counts))
    return table


def scans_table(dataset: Dataset, facts: Sequence[CaseFacts]) -> Table:
    """Shapes and spacings of every modality."""
    table = make_table("modality", "name", ">scans", "shape", "spacing (mm)", "type")
    for modality in sorted({one.case.modality for one in facts}):
        own = [one for one in facts if one.case.modality == modality]
        grids = [one.grid for one in own if one.grid is not None]
        shape = " x ".join(_range(axis, "d") for axis in zip(*(grid.shape for grid in grids), strict=True))
        spacing = " x ".join(_range(axis, ".3g") for axis in zip(*(grid.spacing_mm for grid in grids), strict=True))
        types = ", ".join(sorted({one.dtype for one in own if one.dtype}))
        table.add_row(modality, dataset.modalities.get(modality, ""), str(len(own)), shape, spacing, types)
    return table


def labels_table(dataset: Dataset, facts: Sequence[CaseFacts]) -> Table | None:
    """How often every label occurs, and how large it is."""
    from statistics import median

    labelled = [one for one in facts if one.case.label is not None]
    if not labelled:
        return None
    table = make_table(">label", "name", ">in scans", ">smallest (ml)", ">median (ml)", ">largest (ml)")
    for value in sorted({*dataset.labels, *(value for one in labelled for value in one.volumes_ml)}):
        sizes = [one.volumes_ml[value] for one in labelled if value in one.volumes_ml]
        numbers = (f"{size:.3g}" for size in (min(sizes), median(sizes), max(sizes))) if sizes else ("", "", "")
        table.add_row(str(value), dataset.labels.get(value, "?"), f"{len(sizes)} of {len(labelled)}", *numbers)
    return table


def absent_labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[str]:
    """What it means that some label maps lack a label that others hold."""
    from anamorph.data.labels import annotated_labels
    from anamorph.errors import UserError

    labelled = [one for one in facts if one.case.label is not None]
    for value in sorted({value for one in labelled for value in one.volumes_ml} & set(dataset.labels)):
        lacking = [one.case for one in labelled if value not in one.volumes_ml]
        try:
            known = sum(value in annotated_labels(dataset, case) for case in lacking)
        except UserError:
            return  # among the errors
        if known:
            yield (
                f"{dataset.labels[value]} ({value}) counts as background in {known} of {len(labelled)} label maps, "
                "which lack it; where nobody looked for it, make the data set with --unknown-if-absent"
            )


def remarks(dataset: Dataset, most: int) -> Iterator[str]:
    """What a person should look at in the scans of a new data set; of many, the first ones."""
    from anamorph.data.dataset import REMARK

    found = [
        f"{case.extra.get('source', case.key)}: {case.extra[REMARK]}" for case in dataset.cases if REMARK in case.extra
    ]
    yield from found[:most]
    if len(found) > most:
        yield f"and {len(found) - most} scans more; `anamorph dataset check` lists all"


def cases_table(facts: Sequence[CaseFacts]) -> Table:
    """Every scan."""
    table = make_table("scan", "split", "shape", "spacing (mm)", "labels", "points", "file")
    for one in facts:
        grid = one.grid
        table.add_row(
            one.case.key,
            one.case.split,
            "unreadable" if grid is None else " x ".join(map(str, grid.shape)),
            "" if grid is None else " x ".join(f"{s:.3g}" for s in grid.spacing_mm),
            " ".join(map(str, one.volumes_ml)),
            ", ".join(f"{count} {kind}" for kind, count in one.points.items()),
            one.case.extra.get("source") or one.case.image.name,
        )
    return table


def plan_table(dataset: Dataset) -> Table:
    """Which file every scan of a data set in the making comes from."""
    table = make_table("scan", "split", "modality", "files", "from")
    for case in dataset.cases:
        kinds = ", ".join(kind for kind in ("label", "mask", "keypoints", "landmarks") if case.file(kind))
        table.add_row(case.key, case.split, dataset.modalities[case.modality], kinds, case.extra["source"])
    return table


def show_problems(problems: Sequence[Problem], most: int) -> None:
    """Errors first; of many, the first ones."""
    if not problems:
        return
    table = make_table("", "where", "what")
    for one in problems[:most]:
        table.add_row(one.severity, one.place, one.message)
    show(table)
    if len(problems) > most:
        show(f"and {len(problems) - most} more; --json lists all")


def _range(values: Iterable[float], form: str) -> str:
    values = list(values)
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low}-{high}"
