"""The Learn2Reg manifest ``*_dataset.json``: reading and writing.

Every key is optional save a list of scans. Interpreted are ``name``, ``modality``, ``labels``, ``pairings``,
``registration_direction``, ``training``, ``validation``, ``test``, ``training_paired_images``, ``registration_val`` and
``registration_test``; the counts (``numTraining`` and so on) are computed on writing; all else is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anamorph.data.dataset import FILE_KINDS, POINT_KINDS, Case, Dataset, Pair, Split
from anamorph.errors import UserError
from anamorph.image.atomic import write_text
from anamorph.reading import read_json, understood

__all__ = ["Case", "Dataset", "Pair", "parse_name", "read_dataset", "write_dataset"]

PAIR_KEYS = {"training": "training_paired_images", "val": "registration_val", "test": "registration_test"}
COUNT_KEYS = {"training": "numPairedTraining", "val": "numRegistration_val", "test": "numRegistration_test"}
CASE_COUNT_KEYS = {"training": "numTraining", "validation": "numValidation", "test": "numTest"}
_INTERPRETED = {
    *("name", "modality", "labels", "pairings", "registration_direction"),
    *(*CASE_COUNT_KEYS, *CASE_COUNT_KEYS.values(), *PAIR_KEYS.values(), *COUNT_KEYS.values()),
}
_FOLDERS = {"label": "labels", "mask": "masks", "keypoints": "keypoints", "landmarks": "landmarks"}
_NAME = re.compile(r"^(?:.*_)?(?P<subject>\d{4})_(?P<modality>\d{4})$")
_NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_POINT_KEY = re.compile(rf"^(?:{'|'.join(POINT_KINDS)})\d\d$")


def parse_name(name: str) -> tuple[str, str]:
    """Subject and modality of ``TASK_0001_0000.nii.gz``; of any other name the stem and ``0000``."""
    stem = re.sub(r"\.(nii\.gz|nii|mha|mhd|nrrd|csv|npz|mgz)$", "", Path(name).name, flags=re.IGNORECASE)
    found = _NAME.match(stem)
    return (found["subject"], found["modality"]) if found else (stem, "0000")


def find_manifest(source: str | Path) -> Path:
    """The JSON itself, or the only ``*_dataset.json`` (else ``dataset.json``) of a folder.

    Raises:
        UserError: there is none, or there are several.
    """
    source = Path(source)
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder; name a *_dataset.json or the folder that holds it")
    found = sorted(source.glob("*_dataset.json")) or sorted(source.glob("dataset.json"))
    if len(found) != 1:
        raise UserError(
            f"{source}: {len(found)} files *_dataset.json; "
            + ("name one of them" if found else "make one with `anamorph dataset create`")
        )
    return found[0]


def read_dataset(source: str | Path, root: Path | None = None) -> Dataset:
    """Read a manifest; files are looked for, not opened.

    A label, mask or point file that the JSON does not name is found in the folder beside (``labelsTr`` for
    ``imagesTr``), as Learn2Reg's evaluator does. Scans of ``training`` whose subject is in ``registration_val`` or
    ``registration_test`` belong to those splits: many sets list all scans under ``training``. Entries of ``validation``
    and ``test`` that name a fixed and a moving scan are pairs, where there is no other list of pairs.

    Args:
        source: the JSON, or a folder that holds exactly one ``*_dataset.json``.
        root: the folder that its paths start from; by default that of the JSON.

    Raises:
        UserError: no such file, damaged JSON, or entries that are not understood.
    """
    path = find_manifest(source).absolute()
    with understood(path, "cannot be read as JSON", "is it a Learn2Reg dataset file?"):
        content = read_json(path)
    if not isinstance(content, dict) or not {*CASE_COUNT_KEYS, *PAIR_KEYS.values()} & set(content):
        raise UserError(f"{path}: lists no scans (training, test) and no pairs; is it a Learn2Reg dataset file?")
    with understood(path, "is not understood", "compare it with the Learn2Reg layout"):
        return _Reader(path, (root or path.parent).absolute(), content).dataset()


class _Reader:
    """Turns the content of one JSON into a :class:`Dataset`."""

    def __init__(self, path: Path, root: Path, content: dict[str, Any]) -> None:
        self.path, self.root, self.content = path, root, content
        self.cases: dict[Path, Case] = {}
        self.missing: list[tuple[str, str, Path]] = []

    def dataset(self) -> Dataset:
        splits: tuple[Split, ...] = ("training", "validation", "test")
        for split in splits:
            for entry in _flat(self._get(split, (list, dict), [])):
                if not _is_pair(entry):
                    self._add(entry, split)
        listed = {
            name: [self._pair(entry, name) for entry in self._get(key, list, [])]
            for name, key in PAIR_KEYS.items()
            if key in self.content
        }
        for name, key in (("val", "validation"), ("test", "test")):
            pairs = [entry for entry in _flat(self._get(key, (list, dict), [])) if _is_pair(entry)]
            if pairs and name not in listed:
                listed[name] = [self._pair(entry, name) for entry in pairs]
        owners: dict[str, Split] = {}
        by_list: tuple[tuple[str, Split], ...] = (("val", "validation"), ("test", "test"))
        for name, split in by_list:
            owners |= {self.cases[image].subject: split for pair in listed.get(name, []) for image in pair}
        cases = {
            image: replace(case, split=owners.get(case.subject, "training")) if case.split == "training" else case
            for image, case in self.cases.items()
        }
        pairings = self.content.get("pairings", "unpaired")
        if pairings not in ("paired", "unpaired"):
            raise UserError(f"{self.path}: pairings is {pairings!r}; write paired or unpaired")
        modalities = _modalities(self._get("modality", dict, {}))
        return Dataset(
            path=self.path,
            root=self.root,
            name=self._name(),
            modalities=modalities,
            labels=self._labels(),
            cases=tuple(cases.values()),
            listed_pairs={name: tuple(Pair(cases[f], cases[m]) for f, m in pairs) for name, pairs in listed.items()},
            pairings=pairings,
            direction=self._direction(),
            extra={key: value for key, value in self.content.items() if key not in _INTERPRETED},
            missing=tuple(self.missing),
            remarks=tuple(self._remarks()),
        )

    def _name(self) -> str:
        """What the file says, fit to be part of a file name."""
        given = str(self.content.get("name") or re.sub("_?dataset$", "", self.path.stem))
        return _NO_FILE_NAME.sub("-", given).strip(". ") or "dataset"

    def _get(self, key: str, kind: Any, default: Any) -> Any:
        value = self.content.get(key)
        if value is None or value == "":
            return default
        if not isinstance(value, kind):
            raise UserError(
                f"{self.path}: {key} is {type(value).__name__} and not understood; see the Learn2Reg layout"
            )
        return value

    def _resolve(self, text: Any, where: str) -> Path:
        if not isinstance(text, str) or not text:
            raise UserError(
                f"{self.path}: {where} holds {text!r} in place of a path; write one such as ./imagesTr/A.nii.gz"
            )
        return Path(self.root, text)

    def _add(self, entry: Any, split: Split) -> Case:
        """Take up one entry of a list of scans: a path, or a mapping with ``image`` and further files."""
        entry = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or "image" not in entry:
            raise UserError(f"{self.path}: an entry of {split} has no image: {str(entry)[:80]}; add its path")
        image = self._resolve(entry["image"], split)
        if image in self.cases:
            raise UserError(f"{self.path}: {entry['image']} is listed twice; list every scan once")
        subject, modality = parse_name(image.name)
        subject, modality = str(entry.get("subject", subject)), _four_digits(entry.get("modality", modality))
        if _NO_FILE_NAME.search(subject):  # files are named after it
            raise UserError(f"{self.path}: the subject {subject!r} holds a / or a control character; rename it")
        key = f"{subject}_{modality}"
        if not image.is_file():
            self.missing.append((key, "image", image))
        files: dict[str, Any] = {kind: self._file(key, kind, entry.get(kind), image) for kind in FILE_KINDS}
        extra = {
            name: value for name, value in entry.items() if name not in ("image", "subject", "modality", *FILE_KINDS)
        }
        for name in filter(_POINT_KEY.match, [*extra]):
            extra[name] = self._file(key, name, extra[name], image)
        self.cases[image] = Case(subject, modality, image, **files, split=split, extra=extra)
        return self.cases[image]

    def _file(self, key: str, kind: str, text: Any, image: Path) -> Path | None:
        if text is None or text == "":
            return _beside(image, kind)
        path = self._resolve(text, kind)
        if not path.is_file() and kind not in ("label", "mask"):
            as_table = path.with_name(re.sub(r"\.nii(\.gz)?$", ".csv", path.name))  # some sets name an image here
            path = as_table if as_table.is_file() else path
        if not path.is_file():
            self.missing.append((key, kind, path))
            return None
        return path

    def _pair(self, entry: Any, name: str) -> tuple[Path, Path]:
        if not isinstance(entry, dict) or not (_is_pair(entry) or {"0", "1"} <= set(entry)):
            raise UserError(f"{self.path}: an entry of {PAIR_KEYS[name]} lacks fixed and moving: {str(entry)[:80]}")
        images = [
            self._resolve(entry.get(role, entry.get(n)), PAIR_KEYS[name])
            for role, n in (("fixed", "0"), ("moving", "1"))
        ]
        for image in images:
            if image not in self.cases:
                self._add(str(image), "test" if name == "test" else "validation" if name == "val" else "training")
        return images[0], images[1]

    def _remarks(self) -> Iterable[str]:
        """Counts that are not those of the lists."""
        stated = {CASE_COUNT_KEYS[split]: split for split in CASE_COUNT_KEYS}
        stated |= {COUNT_KEYS[name]: key for name, key in PAIR_KEYS.items()}
        for count, key in stated.items():
            listed = len(list(_flat(self._get(key, (list, dict), []))))
            if isinstance(self.content.get(count), int) and self.content[count] != listed:
                yield f"{count} is {self.content[count]}, but {listed} are listed"

    def _labels(self) -> dict[int, str]:
        """``{"1": "liver"}``, or one such mapping per modality."""
        content = self._get("labels", dict, {})
        tables = [one for one in content.values() if isinstance(one, dict)] or [content]
        try:
            return {
                int(value): _CONTROL.sub(" ", str(name))
                for table in tables
                for value, name in table.items()
                if int(value) != 0
            }
        except ValueError as error:
            raise UserError(f'{self.path}: labels must be like {{"1": "liver"}} ({error})') from error

    def _direction(self) -> tuple[str, str]:
        """As the file says, else from the second to the first modality of a paired set, else within the first."""
        given = self._get("registration_direction", dict, {})
        if {"fixed", "moving"} <= set(given):
            return _four_digits(given["fixed"]), _four_digits(given["moving"])
        present = sorted({case.modality for case in self.cases.values()}) or ["0000"]
        return present[0], present[1 if len(present) > 1 and self.content.get("pairings") == "paired" else 0]


def _beside(image: Path, kind: str) -> Path | None:
    """The file of the same name in the folder beside: ``labelsTr`` for ``imagesTr``, else None."""
    folder = image.parent.name
    if not folder.startswith("images") or kind not in _FOLDERS:
        return None
    name = re.sub(r"\.nii(\.gz)?$", ".csv", image.name) if kind in POINT_KINDS else image.name
    path = image.parent.parent / folder.replace("images", _FOLDERS[kind], 1) / name
    return path if path.is_file() else None


def _flat(entries: list[Any] | dict[str, Any]) -> Iterable[Any]:
    """Unpaired sets of two modalities may list their scans per modality."""
    return entries if isinstance(entries, list) else [entry for part in entries.values() for entry in part]


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, dict) and {"fixed", "moving"} <= set(entry)


def _four_digits(modality: Any) -> str:
    text = str(modality)
    if not text.isdigit() or len(text) > 4:
        raise UserError(f"the modality {text!r} is no number below 10000; number the modalities or time points from 0")
    return text.zfill(4)


def _modalities(content: Mapping[str, Any]) -> dict[str, str]:
    return {_four_digits(key): str(name) for key, name in content.items()}


def write_dataset(dataset: Dataset, path: str | Path) -> None:
    """Write the manifest, so that it appears only when it is complete.

    Paths below the folder of ``path`` are written relative to it (``./imagesTr/..``), others absolute.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = Path(path).absolute()
    text = json.dumps(as_json(dataset, path.parent), indent=2, ensure_ascii=False) + "\n"
    write_text(path, text)


def as_json(dataset: Dataset, root: Path) -> dict[str, Any]:
    """The content of the JSON, with paths seen from ``root``."""
    lists: dict[str, Any] = {}
    for split, count in CASE_COUNT_KEYS.items():
        entries = [_entry(case, root) for case in dataset.cases if case.split == split]
        if entries or split != "validation":
            lists |= {count: len(entries), split: entries}
    for name, pairs in dataset.listed_pairs.items():
        rows = [{"fixed": _shown(p.fixed.image, root), "moving": _shown(p.moving.image, root)} for p in pairs]
        lists |= {COUNT_KEYS[name]: len(rows), PAIR_KEYS[name]: rows}
    fixed, moving = dataset.direction
    head = {
        "pairings": dataset.pairings,
        "registration_direction": {"fixed": int(fixed), "moving": int(moving)},
        "modality": {str(int(key)): name for key, name in dataset.modalities.items()},
        "labels": {
            str(value): name for value, name in ({0: "background", **dataset.labels} if dataset.labels else {}).items()
        },
    }
    return {"name": dataset.name, **head, **dataset.extra, **lists}


def _entry(case: Case, root: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": _shown(case.image, root)}
    entry |= {kind: _shown(path, root) for kind in FILE_KINDS if (path := case.file(kind)) is not None}
    if parse_name(case.image.name) != (case.subject, case.modality):
        entry |= {"subject": case.subject, "modality": case.modality}
    return entry | {
        name: _shown(value, root) if isinstance(value, Path) else value
        for name, value in case.extra.items()
        if value is not None
    }


def _shown(path: Path, root: Path) -> str:
    return f"./{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else str(path)
