"""A data set whose scans all have labels: known ones where there are, predicted ones elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from anamorph.data import Case, Dataset, read_dataset, write_dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_directory
from anamorph.image.read import read_image, read_labels
from anamorph.image.write import world_code, write_image
from anamorph.methods.base import Progress
from anamorph.networks.segmentation_model import SegmentationModel

LABELS = "labels"


def annotated_labels(dataset: Dataset) -> tuple[int, ...]:
    """The labels that every labelled scan of a data set shows completely: ``annotated_labels``, else all."""
    given = dataset.extra.get("annotated_labels")
    return tuple(int(value) for value in (dataset.labels if given is None else given))


def predict_dataset(
    model: SegmentationModel, dataset: Dataset, out: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Dataset:
    """Write a label map for every scan, and a manifest that names them beside the original scans.

    Labels that the data set annotates are taken from its own maps; all others are predicted, with whatever errors the
    model makes: the manifest says so under ``pseudo_labels``.

    Args:
        model: of the labels.
        dataset: scans with some labels or none.
        out: folder of the new manifest and of the label maps.
        overwrite: replace an earlier one.
        progress: told about every scan.

    Raises:
        UserError: a scan cannot be segmented, or ``out`` exists already.
    """
    own = annotated_labels(dataset)
    unknown = sorted(set(own) - set(model.labels))
    if unknown:
        raise UserError(
            f"{dataset.path.name} annotates {', '.join(map(str, unknown))}, which {model.card.name} does not know"
        )
    out = out.absolute()
    with atomic_directory(out, overwrite, marker=_manifest_name(dataset), inputs=dataset.files()) as folder:
        cases = []
        for n, case in enumerate(dataset.cases):
            if progress is not None:
                progress(f"segmenting {dataset.name}", n / len(dataset.cases))
            cases.append(_predicted(model, case, own, folder))
        made = _manifest(model, dataset, cases, folder, own)
        write_dataset(made, made.path)
    return read_dataset(out / made.path.name)


def _predicted(model: SegmentationModel, case: Case, own: tuple[int, ...], folder: Path) -> Case:
    image, world = read_image(case.image), world_code(case.image)
    known = None if case.label is None else read_labels(case.label)
    labels = model.predict(image, known, own if known is not None else ())
    path = folder / LABELS / f"{case.key}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    write_image(labels, path, world)
    return dataclasses.replace(case, label=path)


def _manifest(
    model: SegmentationModel, dataset: Dataset, cases: list[Case], folder: Path, own: tuple[int, ...]
) -> Dataset:
    by_image = {case.image: case for case in cases}
    pairs = {
        name: tuple(
            dataclasses.replace(pair, fixed=by_image[pair.fixed.image], moving=by_image[pair.moving.image])
            for pair in listed
        )
        for name, listed in dataset.listed_pairs.items()
    }
    pseudo = {"model": model.card.name, "sha256": model.card.sha256, "known": list(own)}
    extra = {key: value for key, value in dataset.extra.items() if key != "annotated_labels"}
    return dataclasses.replace(
        dataset,
        path=folder / _manifest_name(dataset),
        root=folder,
        labels=dict(sorted(model.card.labels.items())),
        cases=tuple(cases),
        listed_pairs=pairs,
        extra=extra | {"pseudo_labels": pseudo},
    )


def _manifest_name(dataset: Dataset) -> str:
    return f"{dataset.name}_dataset.json"
