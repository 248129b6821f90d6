"""A data set made of scans: numbers, the split by patient, pairs, files in their places, the manifest."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from anamorph import __version__
from anamorph.data.copy_files import FileMode, copy_file
from anamorph.data.dataset import (
    FILE_KINDS,
    POINT_KINDS,
    REMARK,
    Case,
    Dataset,
    Pair,
    Split,
    all_pairs,
    named_subjects,
    some,
    split_subjects,
    thin_pairs,
)
from anamorph.data.labels import ANNOTATED, same_name
from anamorph.data.manifest import read_dataset, write_dataset
from anamorph.data.scans import Scan
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_directory
from anamorph.types import Progress

_FOLDERS = {"image": "images", "label": "labels", "mask": "masks", "keypoints": "keypoints", "landmarks": "landmarks"}
_WORKERS = 4
_READERS = 2
PairingChoice = Literal["auto", "paired", "unpaired"]


@dataclass(frozen=True)
class Recipe:
    """How to make a data set of scans.

    Args:
        name: of the task; names the files ``NAME_0001_0000.nii.gz`` and ``NAME_dataset.json``.
        modalities: in their order; the first is the fixed one.
        labels: name by value; empty to take the values that occur.
        pairings: ``paired``: a patient's scans with each other, ``unpaired``: two patients, ``auto``: paired if most
            patients have several scans.
        validation: share or number of patients.
        test: share or number of patients.
        ids: patients by split, such as ``validation=1,4,7``, in place of a draw; all others are for training.
        seed: of the split and of the choice of pairs.
        max_pairs: most pairs listed for validation, and for test.
        unknown_if_absent: numbers or names of labels, or ``all``: a scan whose label map lacks such a label does not
            tell whether the structure is there; any other label is background where it is not.
        files: ``link`` to the originals, ``copy`` them, or ``reference`` them in the JSON alone.
        extra: further keys of the manifest.
    """

    name: str
    modalities: Sequence[str] = ("",)
    labels: Mapping[int, str] = field(default_factory=dict)
    pairings: PairingChoice = "auto"
    validation: float = 0.2
    test: float = 0.2
    ids: Sequence[str] = ()
    seed: int = 0
    max_pairs: int = 100
    unknown_if_absent: Sequence[str] = ()
    files: FileMode = "link"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.\-]*(_[A-Za-z0-9.\-]+)*", self.name):
            raise UserError(f"the name '{self.name}' does not suit file names; use letters, digits, - and _")
        if self.max_pairs < 1:
            raise UserError("--max-pairs must be at least 1")
        for option, value, known in (("pairs", self.pairings, PairingChoice), ("files", self.files, FileMode)):
            if value not in get_args(known):
                raise UserError(f"--{option} '{value}' is not known; choose one of {', '.join(get_args(known))}")


def plan_dataset(scans: Sequence[Scan], recipe: Recipe, out: Path) -> Dataset:
    """The data set as it will be, before any file is made: numbers, splits and pairs.

    Subjects keep the number at the end of their names where all have one of their own, and are numbered from 1 else.
    Where some have labels or points, those without are for training: nothing could be measured on them.

    Raises:
        UserError: two scans of one patient and modality, or too few patients for the split.
    """
    out = out.absolute()
    names = list(recipe.modalities)
    by_subject = {
        subject: list(group) for subject, group in groupby(sorted(scans, key=_order), key=lambda s: s.subject)
    }
    for subject, own in by_subject.items():
        if len({scan.modality for scan in own}) < len(own):
            raise UserError(
                f"'{subject}' has {len(own)} scans and fewer modalities; tell them apart with --modalities or --subject"
            )
    several = sum(len(own) > 1 for own in by_subject.values())
    pairings = (
        recipe.pairings if recipe.pairings != "auto" else "paired" if several > len(by_subject) / 2 else "unpaired"
    )
    if pairings == "paired" and several == 0:
        raise UserError(
            "no patient has two scans to pair; name the time points with --modalities, or pass --pairs unpaired"
        )
    numbers = _numbers(list(by_subject))
    measured = [subject for subject, own in by_subject.items() if any(set(scan.files) - {"mask"} for scan in own)]
    fewest = 1 if pairings == "paired" else 2
    splits = (
        named_subjects(recipe.ids, numbers)
        if recipe.ids
        else split_subjects(measured or by_subject, recipe.validation, recipe.test, seed=recipe.seed, fewest=fewest)
    )
    cases = tuple(
        _case(scan, recipe, out, numbers[subject], f"{names.index(scan.modality):04}", splits.get(subject, "training"))
        for subject, own in by_subject.items()
        for scan in own
    )
    listed: dict[str, tuple[Pair, ...]] = {}
    of_split: tuple[tuple[str, Split], ...] = (("training", "training"), ("val", "validation"), ("test", "test"))
    for key, split in of_split:
        pairs = _pairs(tuple(case for case in cases if case.split == split), pairings, len(names))
        if split != "training":
            listed[key] = thin_pairs(pairs, recipe.max_pairs, seed=recipe.seed)
        elif pairings == "paired":
            listed[key] = pairs
    second = f"{min(1, len(names) - 1):04}" if pairings == "paired" else "0000"
    return Dataset(
        path=out / f"{recipe.name}_dataset.json",
        root=out,
        name=recipe.name,
        modalities={f"{n:04}": name or "image" for n, name in enumerate(names)},
        labels=recipe.labels,
        cases=cases,
        listed_pairs=listed,
        pairings=pairings,
        direction=("0000", second),
        extra={**recipe.extra, "created": _record(recipe)},
    )


def create_dataset(
    scans: Sequence[Scan],
    recipe: Recipe,
    out: Path,
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Make the data set; the folder appears when it is complete.

    Args:
        scans: what it is made of.
        recipe: how.
        out: the folder.
        inputs: where the scans come from; not to be replaced, as the scans themselves.
        overwrite: replace an earlier data set.
        progress: called with the stage and the fraction done.

    Raises:
        UserError: the plan does not work out, a file cannot be read, or ``out`` exists already.
    """
    out = out.absolute()
    dataset = plan_dataset(scans, recipe, out)
    tell = progress or (lambda stage, fraction: None)
    if recipe.files == "reference":
        if dataset.path.exists() and not overwrite:
            raise UserError(f"{dataset.path} already exists; choose another folder or pass --overwrite to replace it")
        write_dataset(described(dataset, tell, recipe.unknown_if_absent), dataset.path)
        return read_dataset(dataset.path)
    read = [source for scan in scans for source in (scan.image, *scan.files.values()) if isinstance(source, Path)]
    with atomic_directory(out, overwrite, marker=dataset.path.name, inputs=(*inputs, *read)) as folder:
        remarks = _place_all(scans, dataset, recipe, folder, tell)
        moved = plan_dataset(scans, recipe, folder)  # the same, seen in the folder under construction
        cases = tuple(
            replace(case, extra={**case.extra, REMARK: remark} if remark else case.extra)
            for case, remark in zip(moved.cases, remarks, strict=True)
        )
        write_dataset(described(replace(moved, cases=cases), tell, recipe.unknown_if_absent), moved.path)
    return read_dataset(dataset.path)


def _record(recipe: Recipe) -> dict[str, Any]:
    """What makes the same split again."""
    return {
        "by": f"anamorph {__version__}",
        **({"ids": list(recipe.ids)} if recipe.ids else {"validation": recipe.validation, "test": recipe.test}),
        **{key: getattr(recipe, key) for key in ("seed", "max_pairs", "files")},
        **({"unknown_if_absent": list(recipe.unknown_if_absent)} if recipe.unknown_if_absent else {}),
    }


def _order(scan: Scan) -> tuple[str, str]:
    return scan.subject, scan.modality


def _numbers(subjects: list[str]) -> dict[str, str]:
    found = [re.search(r"(\d+)$", subject) for subject in subjects]
    own = [int(match[1]) for match in found if match]
    if len(set(own)) == len(subjects) and max(own) < 10_000:
        return {subject: f"{number:04}" for subject, number in zip(subjects, own, strict=True)}
    return {subject: f"{n:04}" for n, subject in enumerate(subjects, 1)}


def _case(scan: Scan, recipe: Recipe, out: Path, number: str, modality: str, split: Split) -> Case:
    if recipe.files == "reference":
        unfit = [kind for kind, source in (("image", scan.image), *scan.files.items()) if not isinstance(source, Path)]
        if unfit:
            raise UserError(f"the {unfit[0]} of {scan.subject} must be written anew; pass --files link or copy")
        files: dict[str, Any] = {"image": scan.image, **scan.files}
        return Case(number, modality, **files, split=split, extra={"source": scan.name})
    end = "Ts" if split == "test" else "Tr"
    stem = f"{recipe.name}_{number}_{modality}"
    paths: dict[str, Any] = {
        kind: out / f"{_FOLDERS[kind]}{end}" / f"{stem}{'.csv' if kind in POINT_KINDS else '.nii.gz'}"
        for kind in ("image", *(kind for kind in FILE_KINDS if kind in scan.files))
    }
    return Case(number, modality, **paths, split=split, extra={"source": scan.name})


def _pairs(cases: tuple[Case, ...], pairings: str, modalities: int) -> tuple[Pair, ...]:
    """Paired: the first scan of a patient with each later one. Unpaired: every two patients."""
    if pairings == "paired":
        return tuple(p for n in range(1, modalities) for p in all_pairs(cases, pairings, ("0000", f"{n:04}")))
    return all_pairs(cases, pairings, ("0000", "0000"))


def _place_all(scans: Sequence[Scan], dataset: Dataset, recipe: Recipe, folder: Path, tell: Progress) -> list[str]:
    """Every file into its place; what is to be said of each scan comes back."""
    ordered = sorted(scans, key=_order)
    names: dict[str, dict[tuple[str, ...], str]] = {kind: {} for kind in POINT_KINDS}

    def put(scan: Scan, case: Case) -> str:
        remarks = []
        image = folder / case.image.relative_to(dataset.root)
        copy_file(scan.image, image, "image", recipe.files, image)
        for kind, source in scan.files.items():
            path = case.file(kind)
            assert path is not None
            placed = copy_file(source, folder / path.relative_to(dataset.root), kind, recipe.files, image)
            if placed.names:
                names[kind].setdefault(placed.names, scan.name)
            remarks += [placed.remark] if placed.remark else []
        return "; ".join(remarks)

    told: list[str] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for remark in pool.map(put, ordered, dataset.cases):
            told.append(remark)
            tell("placing files", 0.9 * len(told) / len(ordered))
    for kind, found in names.items():
        if len(found) > 1:
            one, other = list(found.values())[:2]
            raise UserError(f"the {kind} of {one} and {other} have different names; each scan needs the same points")
    return told


def described(dataset: Dataset, tell: Callable[[str, float], None], unknown_if_absent: Sequence[str] = ()) -> Dataset:
    """The data set with ``labels`` (if it names none), ``provided_data``, ``tensorImageSize`` and ``tensorImageShape``.

    Args:
        dataset: as planned, its files in their places.
        tell: the progress.
        unknown_if_absent: numbers or names of labels, or ``all``, which are unknown where a label map lacks them: what
            such a scan shows is written to its entry under ``annotated_labels``.

    Raises:
        UserError: a label map cannot be read, or there is no such label.
    """
    present = _present(dataset, tell) if unknown_if_absent or not dataset.labels else {}
    occurring = sorted({value for found in present.values() for value in found})
    labels = dict(dataset.labels) or {value: f"label {value}" for value in occurring}
    unknown = {number for one in unknown_if_absent for number in _label_numbers(one, labels)}
    provided: dict[str, list[str]] = {}
    shapes: dict[str, set[tuple[int, ...] | None]] = defaultdict(set)
    for case in dataset.cases:
        key = str(int(case.modality))
        kinds = provided.setdefault(key, ["image"])
        kinds += [kind for kind in FILE_KINDS if case.file(kind) and kind not in kinds]
        shapes[key].add(_shape(case))
    extra: dict[str, Any] = {
        **dataset.extra,
        "provided_data": provided,
        "tensorImageSize": dict.fromkeys(provided, "3D"),
        "tensorImageShape": {
            key: list(shape) for key, found in shapes.items() if len(found) == 1 for shape in found if shape is not None
        },
    }
    cases = tuple(_telling(case, labels, unknown, present.get(case.key)) for case in dataset.cases)
    return replace(dataset, labels=labels, cases=cases, extra=extra)


def _telling(case: Case, labels: Mapping[int, str], unknown: set[int], present: list[int] | None) -> Case:
    """The entry with the labels that its label map shows, if these are not all."""
    shown = [value for value in sorted(labels) if value not in unknown or value in (present or ())]
    if present is None or len(shown) == len(labels):
        return case
    return replace(case, extra={**case.extra, ANNOTATED: shown})


def _label_numbers(text: str, labels: Mapping[int, str]) -> list[int]:
    if text == "all":
        return [*labels]
    found = [n for n, name in labels.items() if str(n) == text or same_name(name) == same_name(text)]
    if not found:
        known = some(f"{number} ({name})" for number, name in labels.items())
        raise UserError(f"--unknown-if-absent: there is no label '{text}'; there are {known}, or write all")
    return found


def _present(dataset: Dataset, tell: Callable[[str, float], None]) -> dict[str, list[int]]:
    """The labels of every label map, by the key of the scan."""
    from anamorph.image.read import read_labels

    paths = {case.key: case.label for case in dataset.cases if case.label is not None}
    found: dict[str, list[int]] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        maps = pool.map(lambda path: read_labels(path).present(), paths.values())
        for key, labels in zip(paths, maps, strict=True):
            found[key] = labels
            tell("reading labels", 0.9 + 0.1 * len(found) / len(paths))
    return found


def _shape(case: Case) -> tuple[int, ...] | None:
    """From the header alone; None for formats that need reading the whole file."""
    if not case.image.name.lower().endswith((".nii.gz", ".nii")):
        return None
    from anamorph.image.nibabel_files import opened

    with opened(case.image) as image:
        return tuple(int(n) for n in image.header.get_data_shape()[:3])
