"""The series of a DICOM folder: what is there, and which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError
from anamorph.image.dicom.frames import text
from anamorph.image.dicom.headers import SEPARATOR, Header, is_dicom

BESIDE = ("RTDOSE", "RTIMAGE")
"""Modalities of images that are no scan where one lies beside them."""
_MOST_LISTED = 12


@dataclass(frozen=True)
class Series:
    """The files of one series, with its UID."""

    uid: str
    headers: tuple[Header, ...]

    @property
    def modality(self) -> str:
        """Such as CT, MR or RTSTRUCT."""
        return text(self.headers[0].dataset, "Modality")

    @property
    def number(self) -> str:
        """Of the series in its study, as text."""
        return text(self.headers[0].dataset, "SeriesNumber")

    @property
    def description(self) -> str:
        """What the scanner calls it."""
        return text(self.headers[0].dataset, "SeriesDescription")

    @property
    def line(self) -> str:
        """UID, then in brackets everything else that it can be chosen by."""
        number = f"{self.number} " if self.number else ""
        files = f"{len(self.headers)} file{'s' if len(self.headers) > 1 else ''}"
        return f"{self.uid} ({number}{self.modality} {self.description or 'no description'}, {files})"


def dicom_files(path: Path) -> list[Path]:
    """The DICOM files of a folder, or the file.

    Every entry must be a file of this folder before any is opened: a copied folder may hold links to anything.

    Raises:
        UserError: a link leads out of the folder, an entry is a pipe or device, which would be waited for, or there
            are no DICOM files.
    """
    if not path.is_dir():
        return [path]
    root = path.resolve()
    entries = sorted(path.iterdir())
    for entry in entries:
        if entry.is_symlink() and not entry.resolve().is_relative_to(root):
            raise UserError(f"{entry}: a link out of the folder is not followed; copy the slices into one folder")
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry}: neither file nor folder; leave only the slices in the folder")
    found = [entry for entry in entries if is_dicom(entry)]
    if not found:
        raise UserError(f"{path}: no DICOM files in this folder; name the folder that holds the slices, or a file")
    return found


def series_uid(header: Header) -> str:
    """UID of the series of a file."""
    return text(header.dataset, "SeriesInstanceUID") or "none"


def grouped(headers: Sequence[Header]) -> list[Series]:
    """Files by their series, in the order of UIDs."""
    found: dict[str, list[Header]] = {}
    for header in headers:
        found.setdefault(series_uid(header), []).append(header)
    return [Series(uid, tuple(found[uid])) for uid in sorted(found)]


def matching(series: Sequence[Series], wanted: str) -> list[Series]:
    """The series that a user's words may mean: a UID, else a number, a modality, a description, or a part of one."""
    word = wanted.casefold()
    ways: tuple[Callable[[Series], bool], ...] = (
        lambda one: one.uid == wanted,
        lambda one: one.number == wanted,
        lambda one: one.modality.casefold() == word,
        lambda one: one.description.casefold() == word,
        lambda one: word in one.description.casefold(),
    )
    for means in ways:
        if found := [one for one in series if means(one)]:
            return found
    return []


def choose_series(series: Sequence[Series], wanted: str | None, path: Path, what: str = "DICOM series") -> Series:
    """The one series that is meant; without words that of a scan, beside which doses and portal images do not count.

    Raises:
        UserError: there are several, or none that the words mean.
    """
    if wanted is None:
        scans = [one for one in series if one.modality not in BESIDE]
        found = scans or [*series]
    else:
        found = matching(series, wanted)
    if not found:
        raise UserError(f"{path}: no {what} {wanted}; there is {_listed(series, ', ')}")
    if len(found) > 1:
        raise UserError(
            f"{path}: {len(found)} {what}: {_listed(found, '; ')}; choose one as '{path}{SEPARATOR}{found[0].uid}', or "
            "by its number, modality or description"
        )
    return found[0]


def _listed(series: Sequence[Series], between: str) -> str:
    lines = [one.line for one in series[:_MOST_LISTED]]
    return between.join([*lines, *([f"and {len(series) - _MOST_LISTED} more"] if len(series) > _MOST_LISTED else [])])
