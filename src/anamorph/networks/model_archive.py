"""The files of a model in an archive or a folder: nothing but its parts, no links, and nothing outside of it."""

from __future__ import annotations

import errno
import io
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from anamorph.errors import UserError
from anamorph.image.bounds import BoundedGzip, check_archive
from anamorph.image.gzip_stream import GZIP_MAGIC, deflate
from anamorph.networks.model import LARGEST_WEIGHTS_BYTES
from anamorph.networks.model_folders import CARD, SOURCE, WEIGHTS
from anamorph.reading import reason_of

MOST_FILES = 100
LARGEST_TEXT_BYTES = 1 << 20
_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|ATTRIBUTION|README)\b.*", re.IGNORECASE)
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, deflate.error, EOFError, OSError, ValueError, RuntimeError)
"""What archives raise; RuntimeError: encrypted, or packed in a way that Python does not know."""


def unpack(path: Path, folder: Path, shown: str) -> None:
    """Unpack what belongs to a model; nothing is written outside of the folder, and no more than a model can hold.

    Raises:
        UserError: the archive is damaged, a trap, or holds anything else.
    """
    members: Iterator[tuple[str, bool, int, IO[bytes]]]
    if zipfile.is_zipfile(path):
        members = _zip_members(path)
    elif _starts_as_gzip(path):
        members = _tar_members(path)
    else:
        raise UserError(f"{shown}: neither .zip nor .tar.gz; pack the model folder as one of these")
    count = 0
    try:
        for name, is_file, size, stream in members:
            with stream:
                inside = PurePosixPath(name.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or ":" in name:
                    raise UserError(
                        f"{shown}: holds the path '{name[:80]}', which leads out of its folder; do not use it"
                    )
                if not is_file:
                    raise UserError(
                        f"{shown}: holds '{name[:80]}', which is no file; pack a model folder without links"
                    )
                if _is_clutter(inside):
                    continue
                _check_part(inside, size, shown)
                count += 1
                if count > MOST_FILES:
                    raise UserError(f"{shown}: holds more than {MOST_FILES} files; pack one model folder alone")
                target = folder / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(stream, file)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{shown}: damaged archive ({reason_of(error)}); pack or load it again") from error


def _starts_as_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _zip_members(path: Path) -> Iterator[tuple[str, bool, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        for member in archive.infolist():
            if not member.is_dir():
                kind = stat.S_IFMT(member.external_attr >> 16)
                yield member.filename, kind in (0, stat.S_IFREG), member.file_size, archive.open(member)


def _tar_members(path: Path) -> Iterator[tuple[str, bool, int, IO[bytes]]]:
    with BoundedGzip(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if not member.isdir():
                is_file = member.isreg() and not member.issparse()
                content = archive.extractfile(member) if is_file else None
                yield member.name, is_file, member.size, content or io.BytesIO()


def _is_clutter(inside: PurePosixPath) -> bool:
    """Whether a path is one that systems and `anamorph models get` leave beside the files of a model."""
    return any(part.startswith(".") or part == "__MACOSX" for part in inside.parts) or inside.name == SOURCE


def _check_part(inside: PurePosixPath, size: int, shown: str) -> None:
    is_text = _TEXTS.fullmatch(inside.name) is not None
    if inside.name not in (CARD, WEIGHTS) and not is_text:
        raise UserError(
            f"{shown}: holds '{str(inside)[:80]}', which is no part of a model; take the model folder alone"
        )
    if size > (LARGEST_WEIGHTS_BYTES if inside.name == WEIGHTS else LARGEST_TEXT_BYTES):
        raise UserError(f"{shown}: '{str(inside)[:80]}' is too large for a file of its name; is it genuine?")


def model_in(folder: Path, shown: str) -> Path:
    """The folder of the one model in an unpacked archive, with those of its guides within."""
    cards = sorted(folder.rglob(CARD), key=lambda card: len(card.parts))
    if not cards:
        raise UserError(f"{shown}: holds no {CARD}; pack a model folder")
    if not all(card.is_relative_to(cards[0].parent) for card in cards):
        raise UserError(f"{shown}: holds several models; pack the folder of one")
    return cards[0].parent


def parts_of(folder: Path, shown: str) -> list[Path]:
    """The files of a model folder, relative to it.

    Raises:
        UserError: links, pipes, or files that are no part of a model.
    """
    parts = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if _is_clutter(PurePosixPath(inside.as_posix())) or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{shown}: holds '{inside}', a link or a device; put the file itself in its place")
        _check_part(PurePosixPath(inside.as_posix()), path.stat().st_size, shown)
        parts.append(inside)
        if len(parts) > MOST_FILES:
            raise UserError(f"{shown}: holds more than {MOST_FILES} files; name the folder of one model")
    return parts
