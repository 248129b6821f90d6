"""Is a data set what its manifest says? Every file is opened, every pair looked up, the lists are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anamorph.data.dataset import POINT_KINDS, REMARK, Case, Dataset, some
from anamorph.data.labels import ANNOTATED, annotated_labels
from anamorph.errors import UserError
from anamorph.geometry.grid import SAME_GRID_MM, Grid
from anamorph.geometry.lengths import length_text
from anamorph.image.points import POINT_MARGIN_VOX

_WORKERS = 2  # large scans must fit into memory together


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: the key of a scan or pair, or the file itself."""

    severity: Literal["error", "warning"]
    place: str
    message: str


@dataclass(frozen=True)
class CaseFacts:
    """What one scan turned out to be.

    Args:
        case: the entry.
        grid: None if the scan cannot be read.
        dtype: of the voxels.
        volumes_ml: by label.
        points: number by kind.
        problems: of this scan.
    """

    case: Case
    grid: Grid | None
    dtype: str
    volumes_ml: dict[int, float]
    points: dict[str, int]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class DatasetCheck:
    """All findings."""

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What makes the data set unusable in part."""
        return tuple(one for one in self.problems if one.severity == "error")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.dataset.path),
            "name": self.dataset.name,
            "scans": [
                {
                    "key": one.case.key,
                    "split": one.case.split,
                    "image": str(one.case.image),
                    "shape": None if one.grid is None else list(one.grid.shape),
                    "spacing_mm": None if one.grid is None else [round(float(s), 6) for s in one.grid.spacing_mm],
                    "dtype": one.dtype,
                    "label_volumes_ml": {str(value): round(ml, 4) for value, ml in one.volumes_ml.items()},
                    "points": one.points,
                }
                for one in self.facts
            ],
            "pairs": {name: len(pairs) for name, pairs in self.dataset.listed_pairs.items()},
            "problems": [asdict(one) for one in self.problems],
        }


def check_dataset(dataset: Dataset, progress: Callable[[str, float], None] | None = None) -> DatasetCheck:
    """Open every file, compare grids, labels and points, and look at the lists.

    Errors: files that are missing or cannot be read, label maps and masks on another grid than their scan, labels that
    the manifest does not name, points outside the scan, pairs whose points do not correspond, a patient in two splits,
    two scans under one key. Warnings: what works but surprises, such as pairs on different grids, which Learn2Reg's
    evaluator refuses.
    """
    facts = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for n, one in enumerate(pool.map(lambda case: case_facts(case, dataset), dataset.cases)):
            facts.append(one)
            if progress:
                progress("opening files", (n + 1) / len(dataset.cases))
    problems = [problem for one in facts for problem in one.problems]
    problems += list_problems(dataset, facts)
    problems.sort(key=lambda one: one.severity)
    return DatasetCheck(dataset, tuple(facts), tuple(problems))


def case_facts(case: Case, dataset: Dataset) -> CaseFacts:
    """Open every file of a scan; what is wrong is among the problems, nothing is raised."""
    from anamorph.image.read import read_image

    problems: list[Problem] = []
    grid, dtype = None, ""
    volumes: dict[int, float] = {}
    points: dict[str, int] = {}
    if case.image.is_file():
        try:
            image = read_image(case.image)
            grid, dtype = image.grid, str(image.data.dtype)
            del image
        except UserError as error:
            problems.append(Problem("error", case.key, str(error)))
    if case.label is not None:
        volumes = _label_volumes(case, case.label, grid, dataset, problems)
    if case.mask is not None:
        _check_mask(case, case.mask, grid, problems)
    tables = {kind: case.file(kind) for kind in POINT_KINDS}
    tables |= {kind: path for kind, path in case.extra.items() if isinstance(path, Path)}
    for kind, path in tables.items():
        count = None if path is None or grid is None else _count_points(case, path, grid, problems)
        points |= {} if count is None else {kind: count}
    return CaseFacts(case, grid, dtype, volumes, points, tuple(problems))


def _label_volumes(
    case: Case, path: Path, grid: Grid | None, dataset: Dataset, problems: list[Problem]
) -> dict[int, float]:
    from anamorph.image.read import read_labels

    try:
        labels = read_labels(path)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return {}
    _check_grid(case, "label map", labels.grid, grid, problems)
    values, counts = np.unique(labels.data, return_counts=True)
    voxel_ml = abs(float(np.linalg.det(labels.grid.affine[:3, :3]))) / 1000
    volumes = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v != 0}
    strange = [value for value in volumes if value < 0 or (dataset.labels and value not in dataset.labels)]
    if strange:
        known = f"; the manifest names {_range(dataset.labels)}" if dataset.labels else "; labels are positive"
        problems.append(Problem("error", case.key, f"{path.name} holds the labels {some(map(str, strange))}{known}"))
    return volumes


def _check_mask(case: Case, path: Path, grid: Grid | None, problems: list[Problem]) -> None:
    from anamorph.image.read import read_mask

    try:
        mask = read_mask(path)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return
    _check_grid(case, "mask", mask.grid, grid, problems)
    if not mask.data.any():
        problems.append(Problem("error", case.key, f"{path.name} is empty: nothing of the scan would count"))


def _check_grid(case: Case, what: str, own: Grid, grid: Grid | None, problems: list[Problem]) -> None:
    if grid is None:
        return
    if own.shape != grid.shape:
        text = " x ".join(map(str, own.shape))
        problems.append(
            Problem("error", case.key, f"the {what} has {text} voxels, its scan {' x '.join(map(str, grid.shape))}")
        )
    elif not own.matches(grid, SAME_GRID_MM):
        apart = own.corner_distance_mm(grid)
        problems.append(
            Problem(
                "error", case.key, f"the {what} lies up to {length_text(apart, 1)} from its scan: a header was changed"
            )
        )


def _count_points(case: Case, path: Path, grid: Grid, problems: list[Problem]) -> int | None:
    from anamorph.image.read import read_points

    try:
        points = read_points(path, grid)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return None
    outside = int((~grid.contains(points.positions_mm, POINT_MARGIN_VOX)).sum())
    if outside:
        problems.append(
            Problem("error", case.key, f"{path.name}: {outside} of {len(points)} points lie outside the scan")
        )
    return len(points)


def _range(labels: Mapping[int, str]) -> str:
    values = sorted(labels)
    return (
        f"{values[0]} to {values[-1]}" if values == list(range(values[0], values[-1] + 1)) else some(map(str, values))
    )


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


def absent_labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[str]:
    """What it means that some label maps lack a label that others hold."""
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
