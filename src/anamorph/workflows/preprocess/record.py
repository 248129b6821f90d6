"""A preprocessed data set: where its files go, how each scan came from its original, and how results go back."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.data.dataset import POINT_KINDS, Case, Dataset
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Mask
from anamorph.reading import read_json, understood
from anamorph.transforms.maps import Affine, Composite, Transform

RECORDS = "records"
FOLDERS = {"image": "images", "label": "labels", "mask": "masks", "keypoints": "keypoints", "landmarks": "landmarks"}
_NIFTI = re.compile(r"\.(nii\.gz|nii|mha|mhd|nrrd|mgz|mgh)$", re.IGNORECASE)
_POINTS = re.compile(r"(\.mrk\.json|\.[^.]+)$")


@dataclass(frozen=True)
class Target:
    """A file of a scan: what it is, where it is, and where it goes, relative to the new data set."""

    kind: str
    source: Path
    path: Path

    @property
    def is_points(self) -> bool:
        """Whether it holds points, not voxels."""
        return self.kind.startswith(POINT_KINDS)


def targets(case: Case, root: Path) -> list[Target]:
    """All files of a scan, the image first. What lies below the root keeps its place; the rest goes by its kind."""
    files = {kind: case.file(kind) for kind in FOLDERS}
    files |= {name: value for name, value in case.extra.items() if isinstance(value, Path)}
    part = "Ts" if case.split == "test" else "Tr"
    found = []
    for kind, source in files.items():
        if source is None:
            continue
        folder = FOLDERS.get(kind, kind) + part
        below = source.is_relative_to(root) and ".." not in source.relative_to(root).parts
        place = source.relative_to(root) if below else Path(folder, source.name)
        points = kind.startswith(POINT_KINDS)
        name = _POINTS.sub("", place.name) + ".csv" if points else _NIFTI.sub("", place.name) + ".nii.gz"
        found.append(Target(kind, source, place.with_name(name)))
    return found


def record_path(case: Case) -> Path:
    """Of the record of a scan, relative to the new data set."""
    return Path(RECORDS, f"{case.key}.json")


def transform_path(case: Case) -> Path:
    """Of the affine from the original to the preprocessed scan, relative to the new data set."""
    return Path(RECORDS, f"{case.key}.tfm")


def moved(case: Case, root: Path, folder: Path) -> Case:
    """The scan with the paths it has in the new data set."""
    paths = {target.kind: folder / target.path for target in targets(case, root)}
    extra = {name: paths.get(name, value) for name, value in case.extra.items()}
    return replace(case, **{kind: paths.get(kind) for kind in FOLDERS}, extra=extra)  # type: ignore[arg-type]


def check_targets(dataset: Dataset) -> None:
    """See that no two files would be written to one place.

    Raises:
        UserError: they would.
    """
    owners: dict[Path, Path] = {}
    for case in dataset.cases:
        for path, source in (
            *((target.path, target.source) for target in targets(case, dataset.root)),
            (record_path(case), case.image),
        ):
            if path in owners:
                raise UserError(f"{owners[path]} and {source} would both be written as {path}; rename one of them")
            owners[path] = source


@dataclass(frozen=True)
class ScanRecord:
    """The geometry of one scan before and after.

    Args:
        key: of the scan, such as ``0001_0000``.
        original: its grid.
        preprocessed: its grid in the new data set.
        to_original: maps points of the preprocessed scan to the same anatomy in the original; the identity unless the
            scan was aligned to a reference.
    """

    key: str
    original: Grid
    preprocessed: Grid
    to_original: Affine

    def as_json(self) -> dict[str, Any]:
        """Plain values; matrices and points are RAS mm."""
        return {
            "scan": self.key,
            "original": _grid_as_json(self.original),
            "preprocessed": _grid_as_json(self.preprocessed),
            "preprocessed_to_original_ras_mm": self.to_original.matrix.tolist(),
        }


def field_of_view(record: ScanRecord) -> Mask | None:
    """Where a preprocessed scan shows the original one rather than padding; None if it does everywhere."""
    places = record.to_original.moving_positions(record.preprocessed, record.original)
    last = np.array(record.original.shape, np.float32)[:, None, None, None] - 0.5
    inside = np.all((places >= -0.5) & (places <= last), axis=0, keepdims=True)
    return None if inside.all() else Mask(inside.astype(np.uint8), record.preprocessed, f"{record.key} (padding)")


def map_back(transform: Transform, fixed: ScanRecord, moving: ScanRecord) -> Transform:
    """The transform between two original scans, from one found between their preprocessed versions.

    A point of the original fixed scan goes to the preprocessed one, through the transform, and to the original moving
    scan. Beyond a crop a dense field continues with its value at the border.
    """
    return Composite.of(fixed.to_original.inverse(), transform, moving.to_original)


def read_record(path: str | os.PathLike[str]) -> ScanRecord:
    """Read the record of a scan.

    Raises:
        UserError: no such file, or it is no record.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; records are in the folder records of a preprocessed data set")
    with understood(path, "is no record of `anamorph preprocess`", "name one of the folder records"):
        content = read_json(path)
        try:
            return ScanRecord(
                str(content["scan"]),
                _grid_of(content["original"]),
                _grid_of(content["preprocessed"]),
                Affine(np.array(content["preprocessed_to_original_ras_mm"], np.float64)),
            )
        except UserError as error:  # of a grid or an affine
            raise ValueError(str(error)) from error


def _grid_as_json(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid_of(content: dict[str, Any]) -> Grid:
    return Grid(tuple(content["shape"]), np.array(content["affine"], np.float64))
