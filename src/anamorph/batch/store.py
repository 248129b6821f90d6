"""What is finished and undamaged: files with their check sums, and a record that tells what they were made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from anamorph.image.atomic import write_text
from anamorph.reading import read_own_record
from anamorph.runtime.machine import file_hash


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
        origin: all that the results depend on, see :func:`~anamorph.batch.key.origin_of`.
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
