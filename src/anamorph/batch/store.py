"""What is finished and undamaged, and what a result depends on: files, settings, hashes of models, version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import anamorph
from anamorph.errors import AnamorphError
from anamorph.image.atomic import escaped, write_text
from anamorph.reading import read_own_record
from anamorph.runtime.machine import current_hash, file_hash
from anamorph.runtime.threads import usable_cores


def check_sums(folder: Path, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files by their names, seen from a folder."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in paths
    }


def damage(folder: Path, files: Mapping[str, Any], quick: bool = False) -> str | None:
    """What is wrong with files, as one line; None if they are what :func:`check_sums` found.

    Args:
        folder: of the files.
        files: names with their check sums; a name that leads out of the folder is damage.
        quick: look at the sizes alone.
    """
    for name, told in files.items():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or not isinstance(told, dict):
            return f"{name} is no file of {folder}"
        try:
            if (folder / name).stat().st_size != told.get("bytes"):
                return f"{name} has another size than recorded"
            if not quick and file_hash(folder / name) != told.get("sha256"):
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name}: {(error.strerror or str(error)).lower()}"
    return None


@dataclass(frozen=True)
class Kept:
    """The results of one unit of work: files, and the record beside them, which is written last.

    Args:
        record: the JSON file.
        folder: where the names of the files start.
        origin: all that the results depend on, see :func:`~anamorph.batch.store.origin_of`.
        under: key of the record under which the origin stands, in a record of another kind.
    """

    record: Path
    folder: Path
    origin: Mapping[str, Any]
    under: str | None = None

    def find(self) -> dict[str, Any] | None:
        """The record of results of the same origin whose files are undamaged; None if there are none."""
        record = read_own_record(self.record)
        told = record if self.under is None else record.get(self.under)
        if not isinstance(told, dict) or told.get("origin") != self.origin:
            return None
        files = told.get("files")
        return record if isinstance(files, dict) and files and damage(self.folder, files) is None else None

    def stamp(self, files: Iterable[Path]) -> dict[str, Any]:
        """What :meth:`find` looks at, for files that have been written."""
        return {"origin": dict(self.origin), "files": check_sums(self.folder, files)}

    def keep(self, files: Iterable[Path], told: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record of files that have been written, and return it."""
        record = {**told, **self.stamp(files)}
        write_text(self.record, json.dumps(record, indent=2) + "\n")
        return record

    def forget(self) -> None:
        """Remove the record before files are written anew."""
        self.record.unlink(missing_ok=True)


KEY_DIGITS = 32
MISSING = "missing"
"""Stands for the hash of a file that cannot be read: its results fail, and are other results once it can."""


def origin_of(**parts: Any) -> dict[str, Any]:
    """All that a result depends on, as plain values of JSON, with the version of this package."""
    plain: dict[str, Any] = json.loads(json.dumps({"anamorph": anamorph.__version__, **parts}))
    return plain


def key_of(origin: Mapping[str, Any]) -> str:
    """Hash of an origin, short enough for the name of a folder."""
    text = json.dumps(origin, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(escaped(text).encode()).hexdigest()[:KEY_DIGITS]


class Contents:
    """SHA-256 by path of every file that goes into a result; files that did not change are not read again.

    Args:
        cache: file that keeps the hashes for later runs, with the size and the time of change that they belong to;
            damage to it costs time only.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known = {} if cache is None else _read(cache)
        self._looked: dict[str, list[Any]] = {}
        self._hashes: dict[Path, str] = {}

    def __getitem__(self, path: Path) -> str:
        """The hash of a file."""
        if path not in self._hashes:
            self.look([path])
        return self._hashes[path]

    def of(self, files: Mapping[str, Path | None]) -> dict[str, str | None]:
        """Hashes of files by their roles; None where there is no file."""
        self.look(path for path in files.values() if path is not None)
        return {role: None if path is None else self[path] for role, path in files.items()}

    def look(self, paths: Iterable[Path], progress: Callable[[float], None] | None = None) -> None:
        """Hash what is new or was changed, several files at a time."""
        wanted = sorted({*paths} - self._hashes.keys())
        with ThreadPoolExecutor(usable_cores()) as pool:
            for done, (path, entry) in enumerate(zip(wanted, pool.map(self._entry, wanted), strict=True)):
                if progress is not None:
                    progress(done / len(wanted))
                self._hashes[path] = MISSING if entry is None else entry[2]
                if entry is not None:
                    self._looked[str(path)] = entry
        if self._cache is not None:
            _keep(self._cache, json.dumps(self._looked))

    def _entry(self, path: Path) -> list[Any] | None:
        """Size, time of change and hash; None if the file cannot be read."""
        try:
            status = path.stat()
            known = self._known.get(str(path))
            if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
                return known
            return [status.st_size, status.st_mtime_ns, current_hash(path)]
        except OSError:
            return None


def _read(cache: Path) -> dict[str, list[Any]]:
    return {
        path: entry
        for path, entry in read_own_record(cache).items()
        if isinstance(entry, list) and [*map(type, entry)] == [int, int, str]
    }


def _keep(cache: Path, text: str) -> None:
    try:
        if cache.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    try:
        write_text(cache, text)
    except AnamorphError:  # someone who may only look, or a full disk: the next one hashes again
        return
