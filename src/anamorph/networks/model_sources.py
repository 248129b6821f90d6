"""The files of a model from elsewhere: of a folder, an archive or a URL; its parts alone, and no links."""

from __future__ import annotations

import errno
import io
import logging
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from anamorph.errors import UserError
from anamorph.image.bounds import BoundedGzip, check_archive, check_regular_file
from anamorph.image.gzip_stream import GZIP_MAGIC, deflate
from anamorph.networks.model import LARGEST_WEIGHTS_BYTES
from anamorph.networks.model_folders import CARD, WEIGHTS
from anamorph.reading import read_own_record, reason_of
from anamorph.runtime.machine import file_hash
from anamorph.types import Progress

SOURCE = "source.json"
"""What is kept beside a card: where the model came from."""
MOST_FILES = 100
LARGEST_TEXT_BYTES = 1 << 20
TIMEOUT_S = 30.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|ATTRIBUTION|README)\b.*", re.IGNORECASE)
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, deflate.error, EOFError, OSError, ValueError, RuntimeError)
"""What archives raise; RuntimeError: encrypted, or packed in a way that Python does not know."""


def hash_of(sha256: str | None) -> str | None:
    """A SHA-256 as the user gave it, in lower case.

    Raises:
        UserError: it is none.
    """
    if sha256 is None:
        return None
    text = sha256.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(text):
        raise UserError(f"'{sha256[:80]}' is no SHA-256; give its 64 hexadecimal digits")
    return text


def archive_of(source: str, expected: str | None, scratch: Path, progress: Progress) -> Path | None:
    """The archive on this machine, with the hash that is expected; None if the source is a folder.

    Raises:
        UserError: there is no such file or address, a URL without a hash, or another hash than that.
    """
    if _URL.match(source):
        return _download(source, expected, scratch, progress)
    path = Path(source)
    if path.is_dir():
        if expected is not None:
            raise UserError(
                "--sha256 is the hash of an archive, and a folder has none; its card has that of the weights"
            )
        return None
    check_regular_file(path)
    if expected is not None and file_hash(path) != expected:
        raise UserError(f"{path}: its SHA-256 is not {expected}; get the file again from whoever offers it")
    return path


def _download(url: str, expected: str | None, folder: Path, progress: Progress) -> Path:
    shown = without_secrets(url)
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(f"{shown}: neither http nor https; load it by other means and name the file")
    if expected is None:
        raise UserError(f"{shown}: a URL needs --sha256, the hash that whoever offers the model states beside it")
    try:
        import pooch
    except ImportError as error:
        raise UserError("URLs are loaded by the package pooch; run: pip install 'anamorph[download]'") from error
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(
        progressbar=_Loaded(shown, progress),
        chunk_size=1 << 16,
        timeout=TIMEOUT_S,
        headers={"Accept-Encoding": "identity"},  # the bytes of the file, which the hash is of
    )
    try:
        return Path(pooch.retrieve(url, f"sha256:{expected}", fname="archive", path=folder, downloader=downloader))
    except OSError as error:  # all that requests raises
        raise UserError(f"{shown}: cannot be loaded ({_network_reason(error)}); check the address") from error
    except ValueError as error:
        raise UserError(f"{shown}: its SHA-256 is not {expected}; ask whoever offers the model") from error


class _Loaded:
    """What pooch counts bytes with, so that they are shown and stay within bounds."""

    total = 0

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress, self._count = name, progress, 0

    def update(self, count: int) -> None:
        self._count += count
        if max(self._count, self.total) > LARGEST_WEIGHTS_BYTES:
            raise UserError(f"{self._name}: larger than {LARGEST_WEIGHTS_BYTES >> 30} GB, too large for a model")
        self._progress("loading", min(self._count / self.total, 1.0) if self.total else 0.0)

    def reset(self) -> None:
        self._count = 0

    def close(self) -> None:
        pass


def _network_reason(error: BaseException) -> str:
    """Why a server gave nothing: its answer, else what lies below all that libraries wrapped it in."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return reason_of(error)


def without_secrets(source: str) -> str:
    """A source to show and to keep: of a URL neither user nor password nor query."""
    if not _URL.match(source):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return source.partition("://")[0] + "://"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


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


def source_of(folder: Path) -> str | None:
    """Where a model came from, if `anamorph models get` brought it."""
    source = read_own_record(folder / SOURCE).get("source")
    return source if isinstance(source, str) else None
