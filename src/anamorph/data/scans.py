"""The scans of a folder: which files belong together, whose they are, and which modality or time point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anamorph.data.dataset import FILE_KINDS
from anamorph.data.patients import find_owners
from anamorph.errors import UserError

Source = Path | Callable[[Path, Path], str | None]
"""A file (or DICOM folder), or what writes one, given its path and that of the scan already in place.

What writes one may give back a remark for the person who makes the data set.
"""

KINDS = ("image", *FILE_KINDS)
_IMAGE_SUFFIX = r"\.(?:nii\.gz|nii|mha|mhd|nrrd|mgz|mgh)$"
_SUFFIX = {
    **dict.fromkeys(("image", "label", "mask"), _IMAGE_SUFFIX),
    **dict.fromkeys(("keypoints", "landmarks"), r"\.(?:csv|fcsv|mrk\.json|txt|pts|nii\.gz|nii)$"),
}
_FOLDERS = {
    "image": ("images", "imagesTr"),
    "label": ("labels", "labelsTr"),
    "mask": ("masks", "masksTr"),
    "keypoints": ("keypoints", "keypointsTr"),
    "landmarks": ("landmarks", "landmarksTr"),
}


@dataclass(frozen=True)
class Scan:
    """One scan on disk, before it has a place in a data set.

    Args:
        subject: the patient, as the files name it.
        modality: name of the modality or time point; empty if there is only one.
        image: the scan.
        files: by kind (``label``, ``mask``, ``keypoints``, ``landmarks``).
        name: of the file, kept in the manifest.
    """

    subject: str
    modality: str
    image: Source
    files: Mapping[str, Source] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class ScanFolder:
    """What was found: the scans, the order of their modalities, and what a person should know.

    Importers add the names of the labels, further keys for the manifest, such as the licence, and the name of the task.
    """

    scans: tuple[Scan, ...]
    modalities: tuple[str, ...] = ("",)
    notes: tuple[str, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def find_scans(
    folder: Path,
    patterns: Mapping[str, str] | None = None,
    *,
    subject: str | None = None,
    modalities: Sequence[str] = (),
) -> ScanFolder:
    """Find the scans of a folder and the files that belong to them.

    Files belong together when what ``*`` stands for in their patterns is the same: the key. A label map of a key
    without modality (``case_01`` for ``case_01_0000``) counts for all scans of the subject.

    Args:
        folder: holds the files, or folders ``images``, ``labels``, ``masks``, ``keypoints``, ``landmarks``.
        patterns: by kind, such as ``{"image": "*_image.nii.gz", "label": "*_mask.nii.gz"}``, seen from the folder.
        subject: regular expression whose first group is the patient in a key; the rest names the modality.
        modalities: names of modalities or time points in the keys, the fixed one first.

    Raises:
        UserError: no scans, a pattern without ``*``, keys without patient or modality, or files without any scan.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that holds the scans")
    found = {kind: _find(folder, kind, pattern) for kind, pattern in _patterns(folder, patterns or {}).items()}
    others = {path for kind, files in found.items() if kind != "image" for path in files.values()}
    images = {key: path for key, path in found.pop("image").items() if path not in others}
    if not images:
        raise UserError(f"{folder}: no scans found; name them with --images, for example --images 'scans/*.nii.gz'")
    owners, notes = find_owners(list(images), subject, modalities)
    if (folder / "imagesTs").is_dir() and not any("imagesTs" in path.parts for path in images.values()):
        notes.append("imagesTs is left out; make a second data set from it with --images 'imagesTs/*'")
    scans, used = [], set()
    for key, image in images.items():
        patient, modality = owners[key]
        patient = patient or folder.resolve().name  # files named by the time point alone are of one patient
        files = {kind: files.get(key) or files.get(patient) for kind, files in found.items()}
        used |= set(files.values())
        scans.append(Scan(patient, modality, image, {k: p for k, p in files.items() if p is not None}, image.name))
    for kind, paths in found.items():
        left = [path.name for path in paths.values() if path not in used]
        if left and len(left) == len(paths):
            raise UserError(
                f"none of {len(left)} {kind} files, such as {left[0]}, is named like a scan, such as {image.name}"
            )
        if left:
            notes.append(f"{len(left)} {kind} files have no scan and are left out: {', '.join(left[:3])}")
    present = {scan.modality for scan in scans}
    order = [name for name in modalities if name in present] or sorted(present)
    return ScanFolder(tuple(scans), tuple(order), tuple(notes))


def _patterns(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The patterns asked for; for the rest the usual folders, and every image file where there is none."""
    usual = {
        kind: f"{name}/*" for kind, names in _FOLDERS.items() for name in reversed(names) if (folder / name).is_dir()
    }
    return {"image": "*"} | usual | {kind: pattern for kind, pattern in given.items() if pattern}


def _find(folder: Path, kind: str, pattern: str) -> dict[str, Path]:
    """Files by what ``*`` stands for; several are joined by ``_``, and a known suffix is dropped."""
    if "*" not in pattern:
        raise UserError(f"the pattern '{pattern}' has no * in the place of the scan's name")
    expression = re.compile("([^/]+)".join(map(re.escape, pattern.rstrip("/").split("*"))))
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern)):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        known = not pattern.endswith("*") if path.is_dir() else re.search(_SUFFIX[kind], path.name, re.IGNORECASE)
        if match is None or not known or path.name.startswith("."):
            continue
        key = re.sub(_SUFFIX[kind], "", "_".join(match.groups()), flags=re.IGNORECASE)
        if key in files:
            raise UserError(f"{files[key].name} and {path.name} are both {kind} of '{key}'; give a narrower pattern")
        files[key] = path.absolute()
    if not files and pattern != "*":
        raise UserError(f"{folder}: no {kind} files match '{pattern}'")
    return files
