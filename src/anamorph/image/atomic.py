"""Files and folders that appear complete or not at all, under the very name asked for, and what killed runs left."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, TextIO

from anamorph.errors import RegistrationFailure, UserError

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


_ESCAPES = "backslashreplace"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place at the end of the block.

    The temporary name ends as the name of `path` does, so writers that look at suffixes (`.nii.gz`) choose the same
    format. On any exception, `KeyboardInterrupt` included, it is removed and an existing `path` stays as it was.
    Missing parent folders are made. A link is replaced: what it leads to stays as it was.

    Raises:
        UserError: `path` is a folder or a device, or its parent cannot be written to.
        RegistrationFailure: the disk is full.
    """
    path = _place(path)
    if path.is_dir() and not path.is_symlink():
        raise UserError(f"{path} is a folder; name a file to write")
    if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
        raise UserError(f"{path} is a device or a pipe; name a file to write")
    temporary = sibling(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent)
        temporary.touch(exist_ok=False)  # fails now rather than after minutes of work
        temporary.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with _full_disk_reported(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a stream for text in UTF-8, which becomes the file `path` at the end of the block, see :func:`atomic_path`.

    Bytes of file names that are not UTF-8 are written as in :func:`escaped`.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors=_ESCAPES, newline="") as stream:
        yield stream


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file at once, as :func:`atomic_text` does.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    with atomic_text(path) as stream:
        stream.write(text)


def escaped(text: str) -> str:
    """Text in which bytes of file names that are not UTF-8 are written as escapes, which JSON reads back."""
    return text.encode("utf-8", _ESCAPES).decode("utf-8")


@contextmanager
def atomic_directory(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    marker: str | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which takes its place at the end of the block.

    With `overwrite` an existing folder is replaced only once the new one is complete, and removed as a whole. On any
    exception, `KeyboardInterrupt` included, the temporary folder is removed and an existing `path` stays as it was.
    Missing parent folders are made. `marker` names a file that an existing, non-empty folder must hold to be replaced,
    so that a mistyped path does not cost somebody their data; none of the `inputs` may lie in it. A link to a folder is
    replaced by a folder: what it leads to stays as it was.

    Raises:
        UserError: `path` exists without `overwrite`, is a file, lacks `marker`, holds the working folder or an input,
            or cannot be written to.
        RegistrationFailure: the disk is full.
    """
    path = _place(path)
    sweep(path.parent)
    inputs = [*inputs]
    check_replaceable(path, overwrite, marker, inputs)
    temporary = sibling(path, "tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with _full_disk_reported(path):
            yield temporary
            check_replaceable(path, overwrite, marker, inputs)  # somebody may have made it meanwhile
            _move_into_place(temporary, path)
    finally:
        remove(temporary)


def check_writable_folder(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    marker: str | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """See, before minutes of work, that :func:`atomic_directory` could write a folder; same arguments and errors."""
    path = _place(path)
    check_replaceable(path, overwrite, marker, inputs)
    temporary = sibling(path, "tmp")
    try:
        temporary.mkdir(parents=True)
        temporary.rmdir()
    except OSError as error:
        raise _unwritable(path, error) from error


def check_replaceable(
    path: str | os.PathLike[str],
    overwrite: bool,
    marker: str | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """See that a folder may be written; arguments and errors as of :func:`atomic_directory`."""
    path = _place(path)
    if not os.path.lexists(path):
        return
    if not (path.is_dir() or path.is_symlink()):
        raise UserError(f"{path} is a file; name a folder for the output")
    if not overwrite:
        raise UserError(f"{path} already exists; choose another output folder or pass --overwrite to replace it")
    if path.is_symlink():
        return
    if Path.cwd().resolve().is_relative_to(path):
        raise UserError(f"{path} holds the working folder and is not replaced; choose another output folder")
    if marker is not None and any(path.iterdir()) and not (path / marker).exists():
        raise UserError(f"{path} holds files but no {marker} and is not replaced; choose another output folder")
    for given in map(Path, inputs):
        if _place(given).is_relative_to(path) or given.resolve().is_relative_to(path):
            raise UserError(
                f"{path} holds {given}, which is read, and is not replaced; choose another output folder, or move the "
                "input elsewhere"
            )


def _place(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a name, which may be a link; links on the way to it are followed."""
    path = Path(path)
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _move_into_place(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`; an existing `path` is put back if that fails."""
    old = sibling(path, "old")
    try:
        try:
            if os.path.lexists(path):
                path.rename(old)
            temporary.rename(path)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(path):
                old.rename(path)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    remove(old)


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"cannot write {path} ({reason.lower()}); choose an output in a folder you may write to")


@contextmanager
def _full_disk_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RegistrationFailure(
            f"the disk is full: cannot write {path}; free some space or write elsewhere"
        ) from error
