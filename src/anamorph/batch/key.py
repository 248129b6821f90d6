"""What a result depends on: the content of its files, the settings with the hashes of their models, and the version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anamorph
from anamorph.errors import AnamorphError
from anamorph.image.atomic import escaped, write_text
from anamorph.reading import read_own_record
from anamorph.runtime.machine import current_hash, usable_cores

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
