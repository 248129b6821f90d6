"""The scans of a data set as a training reads them: preprocessed once, memory-mapped, checked by hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anamorph.data.dataset import Case, Dataset, Pair, Split, all_pairs, some
from anamorph.data.labels import annotated_labels
from anamorph.errors import UserError
from anamorph.geometry.grid import SAME_GRID_MM, Grid
from anamorph.image.atomic import atomic_directory, write_text
from anamorph.image.read import read_grid, read_image, read_labels
from anamorph.networks.preprocessing import Preprocessing
from anamorph.reading import read_own_record
from anamorph.runtime.machine import file_hash
from anamorph.training.time_budget import TimeIsUp
from anamorph.types import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = 2
"""Of the files of a cache; a change makes every older one be built again."""
HIGHEST_LABEL = 255
_ROWS = "rows.txt"


@dataclass(frozen=True, eq=False)
class Cohort:
    """The cached scans of one manifest.

    Args:
        dataset: the manifest; ``dataset.cases[n]`` is the scan of row ``n``.
        preprocessing: what was done to the scans.
        images: memory-mapped ``(N, C, I, J, K)`` float16.
        label_maps: memory-mapped ``(N, I, J, K)`` uint8; 0 for labels that a scan does not annotate.
        frames: the grid of every row; all have one shape.
        annotated_by_row: the labels that each scan annotates: ``annotated_labels`` of its entry, else of the manifest,
            else all that this names; none without a label map. All other labels are unknown there.
        fingerprint: hash of all files and of the preprocessing.
        numbers: the number of each label in the training by that in the files, if they differ.
    """

    dataset: Dataset
    preprocessing: Preprocessing
    images: np.ndarray
    label_maps: np.ndarray
    frames: tuple[Grid, ...]
    annotated_by_row: tuple[tuple[int, ...], ...]
    fingerprint: str
    numbers: Mapping[int, int]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        preprocessing: Preprocessing,
        folder: Path,
        progress: Progress | None = None,
        numbers: Mapping[int, int] | None = None,
    ) -> Cohort:
        """Open the cache of a data set, made first if there is none for these files and this preprocessing.

        Args:
            dataset: its manifest.
            preprocessing: the common shape is the largest of all scans if it gives none.
            folder: of all caches; each gets a folder named after the data set and its hash.
            progress: called for every scan that is read. It may raise
                :class:`~anamorph.training.time_budget.TimeIsUp`: what was cached until then is kept, as it is on
                Ctrl-C, and the next call goes on from there.
            numbers: of the labels in the training by those in the files, where several data sets are brought together
                by the names of their labels; the same by default.

        Raises:
            UserError: the data set cannot be trained on; every reason is found before the first scan is cached, save
                what only the voxels tell (labels that the manifest does not name, differing channel counts).
        """
        own = {value: value for value in dataset.labels} | dict(numbers or {})
        annotated = _checked(dataset, own)
        grids = [read_grid(case.image) for case in dataset.cases]
        i, j, k = np.max([preprocessing.covering_shape(grid) for grid in grids], axis=0).tolist()
        frames = tuple(preprocessing.frame(grid, (i, j, k)) for grid in grids)
        tell = progress or (lambda stage, fraction: None)
        fingerprint = _fingerprint(dataset, preprocessing, annotated, own, tell)
        place = folder / f"{dataset.name}-{fingerprint[:12]}"
        arrays = _open(place, fingerprint)
        if arrays is None:
            _build(place, dataset, preprocessing, frames, annotated, own, fingerprint, tell)
            arrays = _open(place, fingerprint)
        if arrays is None:
            raise UserError(f"{place}: the cache does not hold what was written; is the disk sound?")
        return cls(dataset, preprocessing, *arrays, frames, annotated, fingerprint, own)

    @property
    def channels(self) -> int:
        """Of every scan."""
        return int(self.images.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every scan, voxels."""
        return self.images.shape[2:]

    @property
    def names(self) -> dict[int, str]:
        """The labels that the manifest names, by their numbers in the training, ascending."""
        return dict(sorted((self.numbers[value], name) for value, name in self.dataset.labels.items()))

    @property
    def labels(self) -> tuple[int, ...]:
        """The numbers of the labels that the manifest names, ascending."""
        return tuple(self.names)

    @property
    def annotated(self) -> tuple[int, ...]:
        """The labels that some scan annotates, ascending."""
        return tuple(sorted({label for labels in self.annotated_by_row for label in labels}))

    def taken_for_background(self) -> dict[int, int]:
        """Training scans by label that annotate the label and show no cached voxel, where other scans show some."""
        rows = self.of_split("training", labelled=True)
        present = {row: set(np.flatnonzero(np.bincount(self.label_maps[row].ravel())).tolist()) for row in rows}
        counts = {
            label: sum(label in self.annotated_by_row[row] and label not in present[row] for row in rows)
            for label in self.annotated
            if any(label in found for found in present.values())
        }
        return {label: count for label, count in counts.items() if count}

    def of_split(self, split: Split, *, labelled: bool = False) -> list[int]:
        """The rows of a split; ``labelled`` leaves out those without a label map."""
        cases = enumerate(self.dataset.cases)
        return [n for n, case in cases if case.split == split and not (labelled and case.label is None)]

    def pairs(self, split: Literal["training", "validation"]) -> list[tuple[int, int]]:
        """The ``(fixed, moving)`` rows of a split: the pairs that the manifest lists, else all there are."""
        if split == "training":
            pairs = self.dataset.pairs("training")
        else:
            listed = self.dataset.listed_pairs.get("val", ())
            pairs = listed or all_pairs(
                self.dataset.of_split("validation"), self.dataset.pairings, self.dataset.direction
            )
        return [self._rows(pair) for pair in pairs]

    def load(self, rows: Sequence[int], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Scans ``(B, C, I, J, K)`` float32 and label maps ``(B, I, J, K)`` uint8 on a device."""
        import torch

        images = torch.from_numpy(np.stack([self.images[row] for row in rows]).astype(np.float32))
        labels = torch.from_numpy(np.stack([self.label_maps[row] for row in rows]))
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def require_labels(self, splits: Sequence[Split] = ("training", "validation")) -> None:
        """See that every scan of these splits has a label map.

        Raises:
            UserError: some have none.
        """
        lacking = [case.key for case in self.dataset.cases if case.split in splits and case.label is None]
        if lacking:
            raise UserError(
                f"{self.dataset.path.name}: {len(lacking)} scans have no label map ({some(lacking)}); add the label of "
                "each, or train without labels"
            )

    def describe(self) -> dict[str, Any]:
        """What a run folder and a model card say of the data."""
        extra = self.dataset.extra
        keys = ("description", "licence", "license", "reference", "attribution", "release")
        return {
            "name": self.dataset.name,
            "scans": {split: len(self.of_split(split)) for split in ("training", "validation", "test")},
            "labels": {str(value): name for value, name in self.names.items()},
            "annotated_labels": list(self.annotated),
            "sha256": self.fingerprint,
        } | {key: extra[key] for key in keys if isinstance(extra.get(key), str)}

    def _rows(self, pair: Pair) -> tuple[int, int]:
        rows = {case.image: n for n, case in enumerate(self.dataset.cases)}
        return rows[pair.fixed.image], rows[pair.moving.image]


def _checked(dataset: Dataset, numbers: Mapping[int, int]) -> tuple[tuple[int, ...], ...]:
    """The annotated labels of every scan of a data set that can be trained on, as far as its manifest tells."""
    name = dataset.path.name
    if not dataset.of_split("training") and not dataset.of_split("validation"):
        raise UserError(f"{name}: lists no scans for training; put them under the key training")
    if dataset.missing:
        key, kind, path = dataset.missing[0]
        more = f" and {len(dataset.missing) - 1} further files" if len(dataset.missing) > 1 else ""
        raise UserError(f"{name}: the {kind} of {key}, {path}{more} does not exist; correct the list or add the files")
    known = _label_values(dataset)
    if not known and any(case.label for case in dataset.cases):
        raise UserError(f'{name}: has label maps but names no labels; add such as "labels": {{"1": "liver"}}')
    if known and not (known[0] > 0 and known[-1] <= HIGHEST_LABEL):
        raise UserError(f"{name}: labels are whole numbers from 1 to {HIGHEST_LABEL}, not {known[0]} to {known[-1]}")
    annotated_labels(dataset)
    return tuple(
        () if case.label is None else tuple(sorted(numbers[value] for value in annotated_labels(dataset, case)))
        for case in dataset.cases
    )


def _label_values(dataset: Dataset) -> tuple[int, ...]:
    return tuple(sorted(dataset.labels))


def _fingerprint(
    dataset: Dataset,
    preprocessing: Preprocessing,
    annotated: tuple[tuple[int, ...], ...],
    numbers: Mapping[int, int],
    tell: Progress,
) -> str:
    scans = []
    for n, case in enumerate(dataset.cases, 1):
        scans.append([case.key, file_hash(case.image), None if case.label is None else file_hash(case.label)])
        tell(f"checking {dataset.name}", n / len(dataset.cases))
    content = {
        "format": FORMAT,
        "preprocessing": preprocessing.as_json(),
        "numbers": sorted(numbers.items()),
        "annotated": annotated,
        "scans": scans,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _open(place: Path, fingerprint: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays of a cache, or None if there is none or its files were changed."""
    record = read_own_record(place / "cache.json")
    files = [place / "images.npy", place / "labels.npy"]
    if record.get("fingerprint") != fingerprint or not all(file.is_file() for file in files):
        return None
    if [file_hash(file) for file in files] != [record.get("images_sha256"), record.get("labels_sha256")]:
        return None
    images, labels = (np.load(file, mmap_mode="r") for file in files)
    return images, labels


def _build(
    place: Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    frames: tuple[Grid, ...],
    annotated: tuple[tuple[int, ...], ...],
    numbers: Mapping[int, int],
    fingerprint: str,
    tell: Progress,
) -> None:
    unfinished = place.with_name(f"{place.name}.unfinished")
    try:
        with atomic_directory(place, overwrite=True, marker="cache.json") as folder:
            done = _take_up(unfinished, folder)
            try:
                for n, (case, frame) in enumerate(zip(dataset.cases, frames, strict=True)):
                    if n < done:
                        continue
                    channels = preprocessing.channels(read_image(case.image), frame)
                    images = _array(folder / "images.npy", np.float16, (len(frames), *channels.shape))
                    labels = _array(folder / "labels.npy", np.uint8, (len(frames), *frame.shape))
                    if len(channels) != images.shape[1]:
                        raise UserError(
                            f"{dataset.path.name}: {case.key} has {len(channels)} channels, {dataset.cases[0].key} "
                            f"{images.shape[1]}; a network takes one number of channels"
                        )
                    images[n] = channels
                    labels[n] = _label_map(case, dataset, preprocessing, frame, annotated[n], numbers)
                    done = n + 1
                    tell(f"caching {dataset.name}", done / len(frames))
                    del images, labels
            except (KeyboardInterrupt, TimeIsUp):
                _set_aside(folder, unfinished, done)
                raise
            record = {
                "fingerprint": fingerprint,
                "images_sha256": file_hash(folder / "images.npy"),
                "labels_sha256": file_hash(folder / "labels.npy"),
            }
            write_text(folder / "cache.json", json.dumps(record, indent=2) + "\n")
    except UserError:
        if _open(place, fingerprint) is None:  # another process of this training may have been faster
            raise


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """The array in a file to write to, made first if it is not there."""
    if path.is_file():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _set_aside(folder: Path, unfinished: Path, done: int) -> None:
    """Keep the rows that are done under a name that the next call looks for; nothing if there are none."""
    if done and not unfinished.exists():
        (folder / _ROWS).write_text(str(done), encoding="ascii")
        folder.rename(unfinished)


def _take_up(unfinished: Path, folder: Path) -> int:
    """How many rows an interrupted call left, which are now in ``folder``; one process alone can take them."""
    claimed = folder / "claimed"
    try:
        unfinished.rename(claimed)
        done = int((claimed / _ROWS).read_text(encoding="ascii"))
        for name in ("images.npy", "labels.npy"):
            (claimed / name).rename(folder / name)
    except (OSError, ValueError):
        done = 0
    shutil.rmtree(claimed, ignore_errors=True)
    return done


def _label_map(
    case: Case,
    dataset: Dataset,
    preprocessing: Preprocessing,
    frame: Grid,
    annotated: tuple[int, ...],
    numbers: Mapping[int, int],
) -> np.ndarray:
    if case.label is None:
        return np.zeros(frame.shape, np.uint8)
    labels, grid = read_labels(case.label), read_grid(case.image)
    if labels.grid.shape != grid.shape or not labels.grid.matches(grid, SAME_GRID_MM):
        raise UserError(
            f"{dataset.path.name}: the label map of {case.key} is not on the grid of its scan; "
            "`anamorph dataset check` tells more"
        )
    known = _label_values(dataset)
    strange = [value for value in labels.present() if value not in known]
    if strange:
        raise UserError(
            f"{dataset.path.name}: {case.label.name} holds the labels {some(map(str, strange))}, but the manifest "
            f"names {some(map(str, known))}; name them under labels or correct the file"
        )
    counted = np.zeros(HIGHEST_LABEL + 1, np.uint8)
    for value in known:
        counted[value] = numbers[value] if numbers[value] in annotated else 0
    return counted[preprocessing.labels(labels, frame)]
