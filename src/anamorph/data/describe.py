"""What Learn2Reg's manifests say about their files, taken from the files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from anamorph.data.dataset import FILE_KINDS, Case, Dataset, some
from anamorph.data.labels import ANNOTATED, same_name
from anamorph.errors import UserError

_WORKERS = 2


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
    unknown = {number for one in unknown_if_absent for number in _numbers(one, labels)}
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


def _numbers(text: str, labels: Mapping[int, str]) -> list[int]:
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
    with ThreadPoolExecutor(_WORKERS) as pool:
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
