"""What is on disk and may be used again: records beside files, believed only if origin and check sums are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anamorph.data import Case
from anamorph.image.atomic import write_text
from anamorph.reading import read_own_record
from anamorph.runtime.machine import file_hash


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a record, so that it appears only when it is complete."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty if it is missing or damaged."""
    return read_own_record(path)


def sums(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files by their names."""
    return {path.name: file_hash(path) for path in paths}


def intact(folder: Path, files: Any) -> bool:
    """True when every file of a table of :func:`sums` is in the folder as it was."""
    if not isinstance(files, dict) or not files:
        return False
    named = {Path(name).name: told for name, told in files.items()}  # nothing outside the folder
    return all((folder / name).is_file() and file_hash(folder / name) == told for name, told in named.items())


def hashes(case: Case, *kinds: str) -> list[str | None]:
    """SHA-256 of some files of a scan, see :meth:`anamorph.data.Case.file`; None where there is none."""
    files = [case.file(kind) for kind in kinds]
    return [file_hash(path) if path is not None and path.is_file() else None for path in files]
