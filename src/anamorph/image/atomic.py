from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anamorph.errors import RegistrationFailure, UserError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place at the end of the block.

    The temporary name ends with the whole name of `path`, so writers that look at suffixes (`.nii.gz`) choose the same
    format. On any exception, `KeyboardInterrupt` included, it is removed and an existing `path` stays as it was.
    Missing parent folders are made.

    Raises:
        UserError: `path` is a folder, or its parent cannot be written to.
        RegistrationFailure: the disk is full.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file to write")
    temporary = _sibling(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
def atomic_directory(
    path: str | os.PathLike[str], overwrite: bool = False, *, marker: str | None = None
) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which takes its place at the end of the block.

    With `overwrite` an existing folder is replaced only once the new one is complete, and removed as a whole. On any
    exception, `KeyboardInterrupt` included, the temporary folder is removed and an existing `path` stays as it was.
    Missing parent folders are made. `marker` names a file that an existing, non-empty folder must hold to be replaced,
    so that a mistyped path does not cost somebody their data.

    Raises:
        UserError: `path` exists without `overwrite`, is a file, lacks `marker`, holds the working folder, or cannot be
            written to.
        RegistrationFailure: the disk is full.
    """
    path = Path(path).resolve()
    _check_replaceable(path, overwrite, marker)
    temporary = _sibling(path, "tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with _full_disk_reported(path):
            yield temporary
            _check_replaceable(path, overwrite, marker)  # somebody may have made it meanwhile
            _move_into_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path: Path, overwrite: bool, marker: str | None) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file; name a folder for the output")
    if not overwrite:
        raise UserError(f"{path} already exists; choose another output folder or pass --overwrite to replace it")
    if Path.cwd().resolve().is_relative_to(path):
        raise UserError(f"{path} holds the working folder and is not replaced; choose another output folder")
    if marker is not None and any(path.iterdir()) and not (path / marker).exists():
        raise UserError(f"{path} holds files but no {marker} and is not replaced; choose another output folder")


def _move_into_place(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`; an existing `path` is put back if that fails."""
    old = _sibling(path, "old")
    try:
        try:
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, purpose: str) -> Path:
    return path.with_name(f".{purpose}-{secrets.token_hex(4)}-{path.name}")


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
