"""The scans of a folder: which files belong together, whose they are, and which modality or time point."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anamorph.data.dataset import FILE_KINDS
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
Owners = dict[str, tuple[str, str]]
"""Patient and modality (or time point) by the name of a scan."""
_MOST_WORDS = 5
_MOST_CHANNELS = 10
_WORDS_OF_LABELS = {"label", "labels", "mask", "seg", "segmentation", "gt"}
_TIMES = (
    r"(?:visit|session|ses|timepoint|time|followup|phase|week|month|day|year)[-_]?\d+|ses-\w+|(?:tp|t|fu|echo|frame)\d+"
)
_STATES = (
    "ed|es|diastole|systole|rest|stress|insp|exp|inspiration|expiration|inhale|exhale|inh|exh|supine|prone|left|right|"
    "pre|post|pre-?op|post-?op|baseline|bl|follow-?up|fu|prior|current|before|after|fixed|moving|"
    "native|arterial|portal|venous|delayed|art|ven"
)
_MODALITIES = "ct|cbct|mr|mri|us|trus|pet|t1w|t2w|t1c|t1ce|t1gd|flair|pdw?|adc|dwi|dce|swi|mra"
_NAMES = f"{_TIMES}|{_STATES}|{_MODALITIES}"
_NAMED = re.compile(rf"(?P<patient>.*?[^_.\-])[_.\-](?P<rest>(?:(?:{_NAMES})(?:[_.\-]|$))+)", re.I)
_SHORT_TIME = re.compile(r"(?P<patient>.*\d)[_.\-](?P<rest>[vdwmy]\d+)", re.I)  # after a patient's number alone
_CHANNEL = re.compile(r"(?P<patient>.*\d)_(?P<rest>0\d{3})")
_BIDS = re.compile(r"(?P<patient>sub-[A-Za-z0-9]+)(?:_(?P<rest>.*))?")


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


def find_owners(keys: Sequence[str], subject: str | None, modalities: Sequence[str]) -> tuple[Owners, list[str]]:
    """Patient and modality of every scan, and what a person should know of how they were found.

    Unless the user says so, scans are taken for one patient's only where their names say so: ``sub-01`` of BIDS,
    channels ``_0000``, ``_0001`` of nnU-Net and Learn2Reg, time points, states and modalities that go by a known name
    (``_t0``, ``_visit1``, ``_insp``, ``_CT``), or the same few words at the end of the names of several patients.
    Numbers after a common beginning are patients: ``x_049`` and ``x_057`` are two.

    Args:
        keys: names of the scans without suffix.
        subject: regular expression whose first group is the patient; the rest of a name is the modality.
        modalities: names of modalities or time points within the names.

    Raises:
        UserError: a name without patient or modality, or names of labels among those of scans.
    """
    if subject is not None:
        owners = {key: _by_expression(key, subject) for key in keys}
        unknown = {modality for _, modality in owners.values()} - set(modalities) if modalities else set()
        if unknown:
            raise UserError(
                f"--subject leaves '{min(unknown)}', which is not among --modalities {','.join(modalities)}"
            )
        return owners, _counted(owners)
    if modalities:
        owners = {key: _by_token(key, modalities) for key in keys}
        return owners, _counted(owners)
    owners = _of_channels(keys) or _of_bids(keys)
    if owners:
        return owners, _counted(owners)
    _refuse_labels(keys)
    owners = _of_names(keys)
    taken = sorted({modality for _, modality in owners.values() if modality})
    if not taken:
        return owners, _counted(owners)
    note = f"took {', '.join(taken)} at the end of the names for scans of one patient; pass --subject '(.+)' if not so"
    return owners, [note, *_counted(owners)]


def _counted(owners: Owners) -> list[str]:
    """How many scans are whose; nothing where every scan has a patient of its own."""
    counts = Counter(patient for patient, _ in owners.values())
    patient, most = counts.most_common(1)[0]
    if most == 1:
        return []
    whose = f"{patient}: " if patient else ""
    scans = [key for key, (owner, _) in owners.items() if owner == patient]
    shown = ", ".join(scans[:3]) + (", ..." if most > 3 else "")
    return [f"{len(owners)} scans of {len(counts)} patients, at most {most} of one ({whose}{shown})"]


def _of_channels(keys: Sequence[str]) -> Owners:
    """Names that all end in a channel; channels count from 0, what does not is no channel."""
    found = _matches(_CHANNEL, keys)
    channels = sorted({int(match["rest"]) for match in found.values()})
    counted = len(channels) <= _MOST_CHANNELS and channels == list(range(len(channels)))
    return _split(found) if len(found) == len(keys) and counted else {}


def _of_bids(keys: Sequence[str]) -> Owners:
    found = _matches(_BIDS, keys)
    owners = _split(found) if len(found) == len(keys) else {}
    return owners if _several(owners) else {}


def _of_names(keys: Sequence[str]) -> Owners:
    """By a known name at the end, else by a word that returns; a name of its own where a patient has one scan."""
    owners = _split(_matches(_NAMED, keys)) | _split(_matches(_SHORT_TIME, keys))
    rest = [key for key in keys if key not in owners]
    owners |= _of_words(rest)
    shared = _several(owners) | {patient for patient, _ in owners.values() if patient in keys}
    return {key: owners[key] if key in owners and owners[key][0] in shared else (key, "") for key in keys}


def _of_words(keys: Sequence[str]) -> Owners:
    """Words, not numbers, that return at the end of the names of most patients, of two at least."""
    parts = {key: tuple(key.rpartition("_")[::2]) for key in keys if "_" in key}
    words = {key: (stem, word) for key, (stem, word) in parts.items() if len(word) > 1 and word.isalpha()}
    several, stems = _several(words), {stem for stem, _ in words.values()}
    few = len({word for _, word in words.values()}) <= _MOST_WORDS
    return words if few and len(words) == len(keys) and len(several) > max(1, len(stems) / 2) else {}


def _refuse_labels(keys: Sequence[str]) -> None:
    endings: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        stem, _, ending = key.rpartition("_")
        endings[stem].add(ending)
    for stem, found in endings.items():
        if stem and len(found) > 1 and not _WORDS_OF_LABELS.isdisjoint(name.lower() for name in found):
            names = sorted(found, key=lambda name: (name.lower() in _WORDS_OF_LABELS, name))
            raise UserError(
                f"the names end in {', '.join(names)}; say which are scans, such as --images '*_{names[0]}*'"
            )


def _several(owners: Mapping[str, tuple[str, str]]) -> set[str]:
    """Patients of more than one scan."""
    return {patient for patient, count in Counter(patient for patient, _ in owners.values()).items() if count > 1}


def _matches(expression: re.Pattern[str], keys: Iterable[str]) -> dict[str, re.Match[str]]:
    return {key: match for key in keys if (match := expression.fullmatch(key))}


def _split(found: Mapping[str, re.Match[str]]) -> Owners:
    return {key: (match["patient"], (match["rest"] or "").strip("_.-")) for key, match in found.items()}


def _by_expression(key: str, subject: str) -> tuple[str, str]:
    try:
        match = re.search(subject, key)
    except re.error as error:
        raise UserError(f"--subject '{subject}' is no regular expression ({error})") from error
    if match is None or not match.groups() or not match[1]:
        raise UserError(f"--subject '{subject}' finds no patient in '{key}'; put the patient in parentheses")
    rest = (key[: match.start(1)] + key[match.end(1) :]).strip("_-. ")
    return match[1], rest


def _by_token(key: str, modalities: Sequence[str]) -> tuple[str, str]:
    for name in sorted(modalities, key=len, reverse=True):
        match = re.search(rf"(?:^|[_.\-]){re.escape(name)}(?=$|[_.\-])", key)
        if match:
            return (key[: match.start()] + key[match.end() :]).strip("_-."), name
    raise UserError(f"'{key}' holds none of --modalities {','.join(modalities)}; complete the list or narrow --images")
