"""Where the files of a preprocessed data set go."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from anamorph.data import Case, Dataset
from anamorph.data.dataset import POINT_KINDS
from anamorph.errors import UserError

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
