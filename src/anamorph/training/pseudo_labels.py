"""A data set whose scans all have labels: known ones where there are, predicted ones elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anamorph.data.dataset import Case, Dataset
from anamorph.data.labels import ANNOTATED, LabelTable, annotated_labels, shared_numbers
from anamorph.data.manifest import read_dataset, write_dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_directory
from anamorph.image.image import Labels
from anamorph.image.read import read_image, read_labels
from anamorph.image.write import world_code, write_image
from anamorph.networks.trained import SegmentationModel
from anamorph.types import Progress

LABELS = "labels"


def predict_dataset(
    model: SegmentationModel,
    dataset: Dataset,
    out: Path,
    *,
    keep_all_labels: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Write a label map for every scan, and a manifest that names them beside the original scans.

    Labels that a scan annotates are taken from its own map; all others are predicted, with whatever errors the model
    makes: the manifest says so under ``pseudo_labels``. Labels of the data set and of the model go by their names; the
    numbers written are those of the model.

    Args:
        model: predicts the labels.
        dataset: scans with some labels or none.
        out: folder of the new manifest and of the label maps.
        keep_all_labels: keep labels of the data set that the model does not know, where its own maps show them.
        overwrite: replace an earlier one.
        progress: called for every scan.

    Raises:
        UserError: a scan cannot be segmented, the data set annotates a label that the model does not know and
            ``keep_all_labels`` is off, a number has another name in the model, or ``out`` exists already.
    """
    tables = (LabelTable(model.card.name, model.card.labels), LabelTable(dataset.path.name, dataset.labels))
    names, (_, numbers) = shared_numbers(tables)
    own = annotated_labels(dataset)
    shown = {*own, *(value for case in dataset.cases for value in annotated_labels(dataset, case))}
    unknown = sorted(value for value in shown if numbers[value] not in model.labels)
    if unknown and not keep_all_labels:
        raise UserError(
            f"{dataset.path.name} annotates {', '.join(map(str, unknown))}, which {model.card.name} does not know; "
            "pass --keep-all-labels to keep them from its own label maps"
        )
    labels = {n: name for n, name in names.items() if n in {*model.labels, *(numbers[value] for value in unknown)}}
    out = out.absolute()
    with atomic_directory(out, overwrite, marker=_manifest_name(dataset), inputs=dataset.files()) as folder:
        cases = []
        for n, case in enumerate(dataset.cases):
            if progress is not None:
                progress(f"segmenting {dataset.name}", n / len(dataset.cases))
            known = annotated_labels(dataset, case)
            ours = {value: numbers[value] for value in known if numbers[value] in labels}
            cases.append(_predicted(model, case, ours, labels, folder))
        made = _manifest(model, dataset, cases, folder, [numbers[value] for value in own], labels)
        write_dataset(made, made.path)
    return read_dataset(out / made.path.name)


def _predicted(
    model: SegmentationModel, case: Case, own: Mapping[int, int], labels: Mapping[int, str], folder: Path
) -> Case:
    """Label the scan; ``own`` are the labels it annotates, as new numbers by numbers of the file.

    Its entry says which of all ``labels`` it shows where these are not all.
    """
    image, world = read_image(case.image), world_code(case.image)
    known = None if case.label is None else _renumbered(read_labels(case.label), own)
    predicted = model.predict(image, known, own.values() if known is not None else ())
    path = folder / LABELS / f"{case.key}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    write_image(predicted, path, world)
    shown = sorted({*model.labels, *(own.values() if known is not None else ())})
    extra = {key: value for key, value in case.extra.items() if key != ANNOTATED}
    if shown != sorted(labels):
        extra[ANNOTATED] = shown
    return dataclasses.replace(case, label=path, extra=extra)


def _renumbered(labels: Labels, numbers: Mapping[int, int]) -> Labels:
    """The labels of interest under other numbers; all else becomes background."""
    values, places = np.unique(labels.data, return_inverse=True)
    new = np.array([numbers.get(int(value), 0) for value in values], np.int32)
    return Labels(new[places].reshape(labels.data.shape), labels.grid, labels.name)


def _manifest(
    model: SegmentationModel,
    dataset: Dataset,
    cases: list[Case],
    folder: Path,
    known: Sequence[int],
    labels: Mapping[int, str],
) -> Dataset:
    by_image = {case.image: case for case in cases}
    pairs = {
        name: tuple(
            dataclasses.replace(pair, fixed=by_image[pair.fixed.image], moving=by_image[pair.moving.image])
            for pair in listed
        )
        for name, listed in dataset.listed_pairs.items()
    }
    pseudo = {"model": model.card.name, "sha256": model.card.sha256, "known": list(known)}
    extra = {key: value for key, value in dataset.extra.items() if key != ANNOTATED}
    return dataclasses.replace(
        dataset,
        path=folder / _manifest_name(dataset),
        root=folder,
        labels=dict(sorted(labels.items())),
        cases=tuple(cases),
        listed_pairs=pairs,
        extra=extra | {"pseudo_labels": pseudo},
    )


def _manifest_name(dataset: Dataset) -> str:
    return f"{dataset.name}_dataset.json"
