"""The lists of a manifest: do they agree with each other and with the files?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from anamorph.data.annotated import ANNOTATED, annotated_labels
from anamorph.data.dataset import REMARK, Dataset
from anamorph.data.findings import CaseFacts, Problem, some
from anamorph.errors import UserError


def list_problems(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    """Everything that the lists say and that is not so."""
    yield from _missing(dataset)
    yield from _disagreeing_lists(dataset)
    yield from _pair_problems(dataset, {one.case.key: one for one in facts})
    yield from _shape_problems(dataset, facts)


def _missing(dataset: Dataset) -> Iterator[Problem]:
    for key, kind, path in dataset.missing:
        shown = path.relative_to(dataset.root) if path.is_relative_to(dataset.root) else path
        yield Problem("error", key, f"{kind} {shown} does not exist")


def _disagreeing_lists(dataset: Dataset) -> Iterator[Problem]:
    """What the lists of scans and pairs say, without looking at files."""
    name = dataset.path.name
    for key, count in Counter(case.key for case in dataset.cases).items():
        if count > 1:
            yield Problem(
                "error", key, f"{count} scans go by this subject and modality; results could not tell them apart"
            )
    splits: dict[str, set[str]] = {}
    for case in dataset.cases:
        splits.setdefault(case.subject, set()).add(case.split)
    for subject, found in splits.items():
        if len(found) > 1:
            yield Problem("error", subject, f"the patient is in {' and '.join(sorted(found))}")
    for split, pairs in dataset.listed_pairs.items():
        for key, count in Counter(pair.key for pair in pairs).items():
            if count > 1:
                yield Problem("warning", key, f"listed {count} times for {split}")
        across = [
            pair.key for pair in pairs if (pair.fixed.subject == pair.moving.subject) != (dataset.pairings == "paired")
        ]
        if across:
            reason = "join two patients" if dataset.pairings == "paired" else "are of one patient"
            yield Problem(
                "warning",
                name,
                f"pairings is {dataset.pairings}, but {len(across)} pairs of {split} {reason}: {some(across)}",
            )
    evaluated = {p.key for split in ("val", "test") for p in dataset.listed_pairs.get(split, ())}
    repeated = [p.key for p in dataset.listed_pairs.get("training", ()) if p.key in evaluated]
    if repeated:
        yield Problem(
            "warning", name, f"{len(repeated)} pairs of val or test are listed for training too, and left out there"
        )
    for case in dataset.cases:
        if isinstance(case.extra.get(REMARK), str):
            yield Problem("warning", case.key, case.extra[REMARK])
    for one in (None, *(case for case in dataset.cases if ANNOTATED in case.extra)):
        try:
            annotated_labels(dataset, one)
        except UserError as error:
            yield Problem("error", name if one is None else one.key, str(error))
    for remark in dataset.remarks:
        yield Problem("warning", name, remark)
    if not dataset.listed_pairs.get("val") and not dataset.listed_pairs.get("test"):
        yield Problem("warning", name, "lists no pairs for validation or test: there is nothing to evaluate")


def _pair_problems(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> Iterator[Problem]:
    for split, pairs in dataset.listed_pairs.items():
        different = []
        for pair in pairs:
            fixed, moving = facts[pair.fixed.key], facts[pair.moving.key]
            if pair.fixed.key == pair.moving.key:
                yield Problem("error", pair.key, "a scan is paired with itself")
            if fixed.grid and moving.grid and fixed.grid.shape != moving.grid.shape:
                different.append(pair.key)
            if split != "training" and not _measurable(fixed, moving):
                yield Problem("warning", pair.key, "has no labels or points on both sides to measure")
            for kind in set(fixed.points) & set(moving.points):
                if fixed.points[kind] != moving.points[kind]:
                    yield Problem(
                        "error", pair.key, f"{fixed.points[kind]} fixed but {moving.points[kind]} moving {kind}"
                    )
        if different:
            yield Problem(
                "warning",
                split,
                f"{len(different)} of {len(pairs)} pairs have scans of different shapes, which anamorph registers and "
                f"Learn2Reg's own evaluator refuses: {some(different)}",
            )


def _measurable(fixed: CaseFacts, moving: CaseFacts) -> bool:
    return bool((fixed.volumes_ml and moving.volumes_ml) or set(fixed.points) & set(moving.points))


def _shape_problems(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    """Scans of another shape than ``tensorImageShape`` says."""
    stated = dataset.extra.get("tensorImageShape")
    stated = stated if isinstance(stated, dict) else {}
    for key, shape in stated.items():
        others = [
            one.case.key
            for one in facts
            if one.grid and (one.case.modality == str(key).zfill(4) or len(stated) == 1) and [*one.grid.shape] != shape
        ]
        if others:
            yield Problem("warning", "tensorImageShape", f"{len(others)} scans are not {shape}: {some(others)}")
