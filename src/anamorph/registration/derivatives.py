"""A result as derivatives of BIDS: both transforms, the moving scan in the fixed scan's space, sidecars, a report."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anamorph
from anamorph.data.bids import DESCRIPTION
from anamorph.errors import UserError
from anamorph.evaluation.numbers import plain
from anamorph.image.atomic import write_text
from anamorph.image.bids_names import BidsName, label, space_labels
from anamorph.image.write import write_image
from anamorph.reading import read_own_record
from anamorph.registration.folder import Saved, composites, describe_success
from anamorph.registration.page import report_of
from anamorph.report.page import drawn
from anamorph.transforms.files import write_transform

if TYPE_CHECKING:
    from anamorph.registration.result import Result

BIDS_VERSION = "1.10.0"
RAW = "raw"
"""What links call the data set that the scans come from."""
IGNORED = "*_xfm.*\n*.html\ngroup_*\n"
"""What the standard has no names for yet, transforms among them."""


@dataclass(frozen=True)
class Derivatives:
    """Where the files of one registration go.

    Args:
        root: of the derivatives.
        moving: the moving scan, whose names theirs are made of.
        moving_path: its file.
        fixed_path: the file of the fixed scan.
        source: what the space of the moving scan is called.
        target: what the space of the fixed scan is called.
        raw: the data set that the moving scan lies in; None if it lies in none.
    """

    root: Path
    moving: BidsName
    moving_path: Path
    fixed_path: Path
    source: str
    target: str
    raw: Path | None = None

    @classmethod
    def of(
        cls, root: Path, fixed: Path, moving: Path, *, space: str | None = None, raw: Path | None = None
    ) -> Derivatives:
        """Names made of those of the two scans.

        Args:
            root: of the derivatives.
            fixed: its file.
            moving: its file, which has a name of BIDS.
            space: what the space of the fixed scan is called; by its name by default.
            raw: the data set of the moving scan.

        Raises:
            UserError: the moving scan has no name of BIDS, or the fixed one the same.
        """
        name = BidsName.of(moving)
        if name is None or "sub" not in name.entities:
            raise UserError(f"{moving.name}: derivatives of BIDS need a moving scan named like sub-01_T1w.nii.gz")
        source, target = (name.suffix, label(space)) if space else space_labels(fixed, name)
        return cls(root, name, moving, fixed, source, target, raw)

    @property
    def folder(self) -> Path:
        """Of the participant, the session and the type of data."""
        parts = [f"{key}-{self.moving.entities[key]}" for key in ("sub", "ses") if key in self.moving.entities]
        kind = self.moving_path.absolute().parent.name
        return self.root.joinpath(*parts, kind if kind in ("anat", "func", "dwi", "perf", "pet", "fmap") else "anat")

    @property
    def name(self) -> str:
        """Tells the registration from all others of the data set."""
        return self.moving.changed(self.moving.suffix, "", **{"from": self.source, "to": self.target}).text

    @property
    def transforms(self) -> tuple[Path, Path]:
        """The transform that pulls the moving scan, and that of the other direction."""
        ways = ((self.source, self.target), (self.target, self.source))
        there, back = (self._path("xfm", ".h5", **{"from": one, "to": other, "mode": "image"}) for one, other in ways)
        return there, back

    @property
    def warped(self) -> Path:
        """The moving scan in the space of the fixed one."""
        return self._path(self.moving.suffix, ".nii.gz", space=self.target, desc="registered")

    @property
    def labels(self) -> Path:
        """The labels of the moving scan in the space of the fixed one."""
        return self._path("dseg", ".nii.gz", space=self.target)

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / f"{self.name}.html"

    def files(self) -> list[Path]:
        """All that may be written."""
        images = *self.transforms, self.warped, self.labels
        return [*images, *map(_sidecar, images), self.report]

    def _path(self, suffix: str, extension: str, **entities: str) -> Path:
        return self.folder / self.moving.changed(suffix, extension, **entities).text

    def uri(self, path: Path) -> str:
        """How sidecars name a file: within its data set, or by its name alone."""
        inside = self.raw is not None and path.absolute().is_relative_to(self.raw.absolute())
        if not inside or self.raw is None:
            return path.name
        return f"bids:{RAW}:{path.absolute().relative_to(self.raw.absolute()).as_posix()}"


def write_dataset(root: Path, raw: Path | None = None) -> None:
    """Write what makes a folder a derived data set of BIDS, where it is not there."""
    described: dict[str, Any] = {
        "Name": "Registrations by anamorph",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "anamorph", "Version": anamorph.__version__, "Description": "image registration"}],
    }
    if raw is not None:
        described["DatasetLinks"] = {RAW: Path(os.path.relpath(raw, root)).as_posix()}
    readme = (
        "# Registrations by anamorph\n\n`*_from-A_to-B_mode-image_xfm.h5` (ITK) brings images of space A to space B, "
        "and so maps points of B to A.\n`*_space-B_desc-registered_*` is the scan in space B; sidecars have the "
        "verdict.\n"
    )
    texts = {DESCRIPTION: json.dumps(described, indent=2) + "\n", ".bidsignore": IGNORED, "README.md": readme}
    for name, text in texts.items():
        if not (root / name).exists():
            write_text(root / name, text)


def write_derivatives(
    result: Result, names: Derivatives, before: Callable[[], None] | None = None
) -> tuple[list[Path], Saved]:
    """Write a result, its sidecars and its report beside their places, and move them there once all are complete.

    Args:
        result: of the scans that the names are made of.
        names: of the files.
        before: called before the first file is moved.

    Returns:
        the files that were written, and what would be the folder of the result.
    """
    result.measure()
    record = describe_success(result)
    work = names.root / f".{names.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        reason = _write_all(result, dataclasses.replace(names, root=work), record)
        made = sorted(path for path in work.rglob("*") if path.is_file())
        if before is not None:
            before()
        placed = [names.root / path.relative_to(work) for path in made]
        for path, place in zip(made, placed, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return placed, Saved(names.root, record, reason, names.report.name)


def _write_all(result: Result, names: Derivatives, record: dict[str, Any]) -> str | None:
    """Write all files; why there is no report, in one line."""
    from anamorph.report.pair import write_report

    names.folder.mkdir(parents=True)
    written = list(_images(result, names))
    for path in written:
        write_text(_sidecar(path), json.dumps(plain(_told(path, names, record)), indent=2, ensure_ascii=False) + "\n")
    files = [(path.name, _told(path, names, record)["Description"]) for path in written]
    return drawn(names.report, lambda: write_report(names.report, report_of(result, {}, files)))


def _images(result: Result, names: Derivatives) -> Iterator[Path]:
    pair, world = result.pair, result.inputs.world
    for path, (transform, grid) in zip(names.transforms, composites(result), strict=True):
        write_transform(transform, path, "itk-h5", grid)
        yield path
    write_image(pair.warped, names.warped, world)
    yield names.warped
    if pair.moving_labels is not None:
        write_image(pair.warped_labels, names.labels, world)
        yield names.labels


def _told(path: Path, names: Derivatives, record: dict[str, Any]) -> dict[str, Any]:
    """The sidecar of a file."""
    fixed, moving = names.uri(names.fixed_path), names.uri(names.moving_path)
    verdict = {"Verdict": record["verdict"]["status"], "VerdictReasons": record["verdict"]["reasons"]}
    there, back = names.transforms
    if path in (there, back):
        one, other = (names.source, names.target) if path == there else (names.target, names.source)
        sources = {"Sources": [fixed, moving], "FromSpace": one, "ToSpace": other}
        text = f"ITK transform that brings images of {one} to {other}, and so maps points of {other} to {one}"
        return {"Description": text, **sources, **verdict, "Metrics": record["metrics"]}
    what = "labels of the moving scan" if path == names.labels else "moving scan"
    return {
        "Description": f"{what} on the grid of the fixed scan, read once from its original voxels",
        "Sources": [moving, there.name],
        "SpatialReference": fixed,
        "SkullStripped": _skull_stripped(names),
        **verdict,
    }


def _skull_stripped(names: Derivatives) -> bool:
    """What the sidecar of the moving scan says, else its name; raw data of BIDS are not stripped."""
    told = read_own_record(_sidecar(names.moving_path)).get("SkullStripped")
    return told if isinstance(told, bool) else "brain" in names.moving.entities.get("desc", "").lower()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".json")
