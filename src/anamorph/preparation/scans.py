"""The scans of a prepared data set: preprocessed into its folder, or left where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from anamorph.data import Case, Dataset, read_dataset, write_dataset
from anamorph.errors import UserError
from anamorph.methods.base import Progress
from anamorph.supervoxels.prepared import KEY
from anamorph.workflows.preprocess import PreprocessSettings, find_preprocessed, preprocess_dataset


def place_scans(
    dataset: Dataset,
    preprocessing: PreprocessSettings | None,
    out: Path,
    *,
    workers: int = 1,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """The data set in ``out``, made first if it is not there yet; it does not count as prepared.

    Args:
        dataset: the source.
        preprocessing: of every scan; None refers to the scans where they are.
        out: the folder.
        workers: scans at a time.
        inputs: what else is read, and not to be replaced.
        overwrite: replace a data set that was made of other scans or otherwise.
        progress: called with the stage and the fraction of it that is done.

    Raises:
        UserError: ``out`` holds something else, or the preprocessing cannot work.
        RegistrationFailure: scans cannot be preprocessed.
    """
    if out.resolve() == dataset.root.resolve():
        raise UserError(f"{out} is the folder of the data set itself; choose another output folder")
    if preprocessing is None:
        return _reference(dataset, out)
    found = find_preprocessed(dataset, preprocessing, out)
    if found is None:
        return preprocess_dataset(
            dataset, preprocessing, out, workers=workers, inputs=inputs, overwrite=overwrite, progress=progress
        ).dataset
    return _write(found, found.path)


def find_case(dataset: Dataset, name: str) -> Case:
    """The scan that a key or a subject names.

    Raises:
        UserError: none, or several.
    """
    found = [case for case in dataset.cases if name in (case.key, case.subject)]
    if len(found) != 1:
        examples = ", ".join(case.key for case in (found or dataset.cases)[:3])
        raise UserError(f"--template {name} names {len(found)} scans; write a key such as {examples}")
    return found[0]


def _reference(dataset: Dataset, out: Path) -> Dataset:
    path = out / f"{dataset.name}_dataset.json"
    if out.exists() and any(out.iterdir()) and not path.is_file():
        raise UserError(f"{out} holds files but no {path.name}; choose another output folder")
    return _write(dataset, path)


def _write(dataset: Dataset, path: Path) -> Dataset:
    """Write the manifest to a folder without what it tells of a preparation."""
    extra = {name: value for name, value in dataset.extra.items() if name != KEY}
    write_dataset(replace(dataset, extra=extra), path)
    return read_dataset(path)
