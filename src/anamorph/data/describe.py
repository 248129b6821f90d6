"""What Learn2Reg's manifests say about their files, taken from the files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from anamorph.data.dataset import FILE_KINDS, Case, Dataset

_WORKERS = 2


def described(dataset: Dataset, tell: Callable[[str, float], None]) -> Dataset:
    """The data set with ``labels`` (if it names none), ``provided_data``, ``tensorImageSize`` and ``tensorImageShape``.

    Raises:
        UserError: a label map cannot be read.
    """
    labels = dict(dataset.labels) or {value: f"label {value}" for value in sorted(_occurring(dataset, tell))}
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
    return replace(dataset, labels=labels, extra=extra)


def _occurring(dataset: Dataset, tell: Callable[[str, float], None]) -> set[int]:
    from anamorph.image.read import read_labels

    paths = [case.label for case in dataset.cases if case.label is not None]
    found: set[int] = set()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for n, labels in enumerate(pool.map(lambda path: read_labels(path).present(), paths)):
            found.update(labels)
            tell("reading labels", 0.9 + 0.1 * n / len(paths))
    return found


def _shape(case: Case) -> tuple[int, ...] | None:
    """From the header alone; None for formats that need reading the whole file."""
    if not case.image.name.lower().endswith((".nii.gz", ".nii")):
        return None
    import nibabel

    header: Any = nibabel.load(case.image).header
    return tuple(int(n) for n in header.get_data_shape()[:3])
