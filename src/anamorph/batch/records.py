"""The folder of a run: files of results, records with their checksums, and failures.

```text
RUN/cohort.json, plan.toml      what was asked for last
RUN/inputs.json                 hashes of the inputs
RUN/results/ab/ab12.../         files of one pair by one method
RUN/records/ab/ab34....jsonl    one line per finished pair of a batch, each with its own checksum
RUN/failures/ab/ab12...-*.json  one file per failed attempt
```

A result counts once its line in ``records`` is there and its files are what the line says. Files of records are never
changed: a batch adds one, under a name that follows from what is in it. Nothing is locked. Processes that do the same
pair write the same bytes to the same names, and every file takes its place by one rename within its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from anamorph.batch.store import damage
from anamorph.errors import UserError
from anamorph.image.atomic import escaped, remove, write_text
from anamorph.reading import read_json, read_own_record, understood

MARKER, PLAN, INPUTS = "cohort.json", "plan.toml", "inputs.json"
RESULTS, RECORDS, FAILURES = "results", "records", "failures"
FAN_OUT = 2
"""Hexadecimal digits of the folder between, so that no folder holds more than a 256th of all files."""
ABANDONED_S = 3600.0
"""Temporary files are written within seconds; those as old as this belong to a process that was killed."""
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a pair.

    Args:
        key: of the result that there would have been.
        id: of the pair.
        method: label of the method.
        reason: one line.
        log: more lines: the traceback.
        worker: address of the worker.
        host: its machine.
        when: in UTC.
    """

    key: str
    id: str
    method: str
    reason: str
    log: str = ""
    worker: str = ""
    host: str = ""
    when: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of a finished pair.

    Args:
        key: of the result.
        result: pair, method, metrics, warnings, and size and hash of every file: the same whenever it is computed.
        run: seconds, worker, attempt: of this time.
    """

    key: str
    result: dict[str, Any]
    run: dict[str, Any]

    @property
    def id(self) -> str:
        """Of the pair."""
        return str(self.result["pair"])

    @property
    def method(self) -> str:
        """Label of the method."""
        return str(self.result["method"])


class Store:
    """The folder of one run; see the module for what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, int, int], list[Record]] = {}

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / MARKER).is_file()

    def result_folder(self, key: str) -> Path:
        """Where the files of a result are."""
        return self.folder / result_folder(key)

    def begin(self, plan: Path, base: Path) -> None:
        """Make the folder, or go on in it, and keep the plan.

        Raises:
            UserError: the folder holds something else.
        """
        other = self.folder.exists() and not self.exists
        if other and not (self.folder.is_dir() and next(self.folder.iterdir(), None) is None):
            raise UserError(f"{self.folder} is no folder of a cohort run and not empty; choose another")
        content = {"what": "a run of anamorph cohort", "plan_folder": str(base.absolute())}
        write_text(self.folder / MARKER, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        if plan.absolute() != (self.folder / PLAN).absolute():
            write_text(self.folder / PLAN, plan.read_text(encoding="utf-8-sig"))
        self._sweep()

    def plan(self) -> tuple[Path, Path]:
        """The plan of the run, and the folder that its paths start from.

        Raises:
            UserError: this is no folder of a run.
        """
        with understood(self.folder, "is no folder of a cohort run", "name what -o of `anamorph cohort run` named"):
            return self.folder / PLAN, Path(read_json(self.folder / MARKER)["plan_folder"])

    def keep(self, records: Iterable[Record]) -> None:
        """Write the records of a batch into one file.

        Raises:
            RegistrationFailure: the disk is full.
        """
        records = sorted(records, key=lambda record: record.key)
        if records:
            name = _digest("".join(record.key for record in records))[:32]
            lines = (_line(asdict(record)) for record in records)
            write_text(self.room_for(self.folder / RECORDS / name[:FAN_OUT] / f"{name}.jsonl"), "".join(lines))

    def records(self) -> dict[str, list[Record]]:
        """All records by key; a line that is damaged is none. Files that were read before are not read again."""
        for path in sorted((self.folder / RECORDS).glob("*/*.jsonl")):
            status = path.stat()
            version = path.name, status.st_mtime_ns, status.st_size
            if version not in self._read:
                self._read[version] = list(_records_in(path))
        found: dict[str, list[Record]] = {}
        for record in (record for records in self._read.values() for record in records):
            found.setdefault(record.key, []).append(record)
        return found

    def damage(self, record: Record, quick: bool = False) -> str | None:
        """What is wrong with the files of a record; with ``quick`` only their sizes are looked at."""
        return damage(self.result_folder(record.key), record.result["files"], quick)

    def room_for(self, path: Path) -> Path:
        """The path of a file of the run, where nothing but a file lies: a folder in its place is damage, and removed.

        So is a file, or a link, in place of one of the folders that lead there.
        """
        for parent in reversed(path.relative_to(self.folder).parents[:-1]):
            place = self.folder / parent
            # Another worker may make the folder at any moment, which must not be removed then.
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                with suppress(IsADirectoryError, PermissionError):
                    place.unlink(missing_ok=True)
        if path.is_dir():
            remove(path)
        return path

    def note(self, failure: Failure) -> None:
        """Keep a failed attempt.

        Raises:
            RegistrationFailure: the disk is full.
        """
        name = f"{failure.key}-{secrets.token_hex(4)}.json"
        path = self.room_for(self.folder / FAILURES / failure.key[:FAN_OUT] / name)
        write_text(path, json.dumps(asdict(failure), indent=2) + "\n")

    def failures(self) -> dict[str, list[Failure]]:
        """All failed attempts by key, the earliest first."""
        found: dict[str, list[Failure]] = {}
        for path in (self.folder / FAILURES).glob("*/*.json"):
            key = path.name.partition("-")[0]
            found.setdefault(key, []).append(_failure_in(path, key))
        return {key: sorted(attempts, key=lambda one: one.when) for key, attempts in found.items()}

    def forgive(self, keys: Iterable[str]) -> None:
        """Remove the failed attempts at some results, so that they are tried again."""
        for key in keys:
            for path in (self.folder / FAILURES / key[:FAN_OUT]).glob(f"{key}-*.json"):
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        oldest = time.time() - ABANDONED_S
        for part in (RESULTS, RECORDS, FAILURES):
            for path in (self.folder / part).rglob(".tmp-*"):
                try:
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                except OSError:  # its writer was not dead
                    continue


def result_folder(key: str) -> str:
    """Where the files of a result are, below the folder of the run."""
    return f"{RESULTS}/{key[:FAN_OUT]}/{key}"


def _line(content: dict[str, Any]) -> str:
    text = escaped(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    return f"{_digest(text)} {text}\n"


def _records_in(path: Path) -> Iterator[Record]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return
    for line in lines:
        digest, _, text = line.partition(" ")
        if digest and digest == _digest(text):
            # Its check sum is right: what does not fit was written by another version.
            remedy = "go on with that version, or begin anew in another folder"
            with understood(path, "holds a record of another version of anamorph", remedy):
                record = _record_of(json.loads(text))
            if _KEY.fullmatch(record.key) and all(
                "/" not in name and name[:1] != "." for name in record.result["files"]
            ):
                yield record


def _record_of(content: Any) -> Record:
    """The record of the content of a line.

    Raises:
        ValueError: it has other keys or values of another kind.
    """
    record = Record(str(content["key"]), dict(content["result"]), dict(content["run"]))
    if len(content) != len(fields(Record)) or not record.id or not record.method:
        raise ValueError(f"with the keys {', '.join(map(str, content))}")
    for name, told in record.result["files"].items():
        if not isinstance(told["bytes"], int) or not isinstance(told["sha256"], str):
            raise ValueError(f"without size and check sum of {name}")
    return record


def _failure_in(path: Path, key: str) -> Failure:
    content = read_own_record(path)
    told = {name: str(content[name]) for name in Failure.__dataclass_fields__ if name in content}
    return Failure(**{"key": key, "id": "", "method": "", "reason": "the record of the failure is damaged"} | told)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
