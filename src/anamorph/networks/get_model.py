"""Bring a model into the user's folder, from a folder, an archive or a URL: whole and sound, or not at all."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from anamorph.errors import RegistrationFailure, UserError
from anamorph.image.atomic import atomic_directory, write_text
from anamorph.image.bounds import check_regular_file
from anamorph.networks.model import LARGEST_WEIGHTS_BYTES, read_card
from anamorph.networks.model_archive import model_in, parts_of, unpack
from anamorph.networks.model_folders import CARD, SOURCE, YOURS, find_model, known_models, own_folder
from anamorph.networks.trained import check_model
from anamorph.reading import reason_of
from anamorph.runtime.machine import file_hash
from anamorph.types import Progress

TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def get_model(
    source: str,
    name: str | None = None,
    sha256: str | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, fraction: None,
) -> Path:
    """Put a model among the user's own, where its name finds it.

    Args:
        source: a model folder or a run, a ``.zip`` or ``.tar.gz`` of a model folder, or the URL of such an archive.
        name: under which it is found; by default the name on its card.
        sha256: hash that the archive must have; a URL needs one.
        overwrite: replace an earlier model of the user with this name.
        progress: called while a URL is loaded.

    Returns:
        its folder.

    Raises:
        UserError: there is no such source, another hash, damage, files that are no part of a model, paths or links
            that lead out of it, or a name that is taken.
        RegistrationFailure: the disk is full.
    """
    if name is not None:
        _free_place(name, overwrite)
    expected = _hash_of(sha256)
    with tempfile.TemporaryDirectory(prefix="anamorph-") as scratch, _full_disk_reported():
        archive = _archive(source, expected, Path(scratch), progress)
        shown = _without_secrets(source)
        if archive is None:
            folder = find_model(Path(source))
        else:
            folder = Path(scratch) / "unpacked"
            with _named(archive, shown):
                unpack(archive, folder, shown)
            folder = model_in(folder, shown)
        parts = parts_of(folder, shown)
        with _named(folder, shown):
            target = _free_place(name or read_card(folder).name, overwrite)
        with atomic_directory(target, overwrite, marker=CARD, inputs=[folder]) as made, _named(made, shown):
            for part in parts:
                (made / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / part, made / part)
            for card in sorted(made.rglob(CARD)):
                check_model(card.parent)
            record = {"source": shown, "sha256": expected, "date": datetime.now(UTC).isoformat(timespec="seconds")}
            write_text(made / SOURCE, json.dumps(record, indent=2) + "\n")
    return target


def _free_place(name: str, overwrite: bool) -> Path:
    """The folder of a new model of the user.

    Raises:
        UserError: the name can be none of a folder, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"'{name[:60]}' cannot be the name of a model folder; give --name with letters, digits, '.', '_' and '-'"
        )
    taken = known_models().get(name)
    if taken is not None and taken.origin != YOURS:
        raise UserError(f"{taken.origin} brings a model '{name}' already; give this one another name with --name")
    target = own_folder() / name
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; give this model another name with --name, or pass --overwrite")
    return target


def _hash_of(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    text = sha256.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(text):
        raise UserError(f"'{sha256[:80]}' is no SHA-256; give its 64 hexadecimal digits")
    return text


def _archive(source: str, expected: str | None, scratch: Path, progress: Progress) -> Path | None:
    """The archive on this machine, with the hash that is expected; None if the source is a folder."""
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
    shown = _without_secrets(url)
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


def _without_secrets(source: str) -> str:
    """A source to show and to keep: a URL without user, password and query."""
    if not _URL.match(source):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return source.partition("://")[0] + "://"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def _named(folder: Path, shown: str) -> Iterator[None]:
    """Say of a temporary folder what it was made from."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), shown)) from error


@contextmanager
def _full_disk_reported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RegistrationFailure(f"the disk is full: no room for the model in {tempfile.gettempdir()}") from error
