"""SHA-256 of every file that goes into a result; files that did not change since are not read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from anamorph.errors import AnamorphError, UserError
from anamorph.image.atomic import write_text
from anamorph.reading import read_own_record
from anamorph.registration.provenance import file_hash, usable_cores

MISSING = "missing"
"""Stands for the hash of a file that is not there: its pairs fail, and are other pairs once it is."""


class Contents:
    """Hashes by path, kept in a file with the size and the time of change that they belong to.

    Args:
        cache: where to keep them; damage there costs time only.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known = _read(cache)
        self._looked: dict[str, list[Any]] = {}
        self._hashes: dict[Path, str] = {}

    def __getitem__(self, path: Path) -> str:
        """The hash of a file that was looked at."""
        return self._hashes[path]

    def look(self, paths: Iterable[Path], progress: Callable[[float], None] | None = None) -> None:
        """Hash what is new or was changed, several files at a time.

        Raises:
            UserError: a file is there and cannot be read.
        """
        wanted = sorted({*paths} - self._hashes.keys())
        with ThreadPoolExecutor(usable_cores()) as pool:
            for done, (path, entry) in enumerate(zip(wanted, pool.map(self._entry, wanted), strict=True)):
                if progress is not None:
                    progress(done / len(wanted))
                self._hashes[path] = MISSING if entry is None else entry[2]
                if entry is not None:
                    self._looked[str(path)] = entry
        self._keep()

    def _entry(self, path: Path) -> list[Any] | None:
        """Size, time of change and hash; None if there is no such file."""
        try:
            status = path.stat()
            known = self._known.get(str(path))
            if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
                return known
            return [status.st_size, status.st_mtime_ns, file_hash(path)]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); check it") from error

    def _keep(self) -> None:
        text = json.dumps(self._looked)
        try:
            if self._cache.read_text(encoding="utf-8") == text:
                return
        except (OSError, UnicodeDecodeError):
            pass
        try:
            write_text(self._cache, text)
        except AnamorphError:  # someone who may only look, or a full disk: the next one hashes again
            return


def _read(cache: Path) -> dict[str, list[Any]]:
    content = read_own_record(cache)
    return {
        path: entry
        for path, entry in content.items()
        if isinstance(entry, list) and [*map(type, entry)] == [int, int, str]
    }
