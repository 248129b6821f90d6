"""Temporary siblings of what is written; those of a process that was killed are removed or put back."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

Purpose = Literal["tmp", "old"]
ABANDONED_S = 7 * 24 * 3600.0
"""Of another machine nobody can tell whether a process lives: what it has not touched for so long is abandoned."""
LONGEST_NAME = 200
"""Bytes of a name that a temporary name ends with; file systems take 255 in all."""
_NAME = re.compile(
    r"\.(?P<purpose>tmp|old)-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}-(?P<name>.+)", re.S
)


def sibling(path: Path, purpose: Purpose) -> Path:
    """A new hidden name beside ``path`` that tells which process made it, and ends as the name of ``path`` does."""
    name = path.name
    while purpose == "tmp" and len(os.fsencode(name)) > LONGEST_NAME:
        name = name[1:]
    pid = os.getpid()
    return path.with_name(f".{purpose}-{_machine()}-{pid}-{_started(pid)}-{secrets.token_hex(4)}-{name}")


def sweep(folder: Path) -> None:
    """Remove from a folder what killed processes left, and put back what they had moved out of the way.

    An old result is out of the way between two renames only; one that is found without its successor is put back.
    """
    try:
        names = [name for name in os.listdir(folder) if name.startswith((".tmp-", ".old-"))]
    except OSError:  # no such folder yet, or none that may be listed
        return
    for name in names:
        found = _NAME.fullmatch(name)
        with suppress(OSError):  # somebody else sweeps too, or it belongs to another user
            if found is None or not _abandoned(folder / name, found):
                continue
            target = folder / found["name"]
            if found["purpose"] == "old" and not os.path.lexists(target):
                os.rename(folder / name, target)
            else:
                remove(folder / name)


@lru_cache(4096)
def sweep_once(folder: Path) -> None:
    """As :func:`sweep`, once for a folder that many files are written to one after the other."""
    sweep(folder)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link but not what it leads to; nothing is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _abandoned(path: Path, found: re.Match[str]) -> bool:
    if found["machine"] == _machine() and os.name == "posix":
        return not _alive(int(found["pid"]), int(found["start"]))
    return path.lstat().st_mtime < time.time() - ABANDONED_S


def _alive(pid: int, start: int) -> bool:
    """Whether a process lives; one that got its number later is another."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        pass
    return _started(pid) == start


def _started(pid: int) -> int:
    """When a process began, in ticks since the machine did; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(status.rpartition(b")")[2].split()[19])


@cache
def _machine() -> str:
    """Stands for all processes that this one can see: those of the machine since it booted, or of the container."""
    seen = [platform.node()]
    with suppress(OSError):
        seen += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("".join(seen).encode("utf-8", "surrogatepass")).hexdigest()[:8]
