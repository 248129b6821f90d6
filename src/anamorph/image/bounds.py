"""Bounds on what a file may unpack to, looked at before memory or disk is asked for."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from anamorph.errors import UserError

MOST_MEMBERS = 200_000
HARMLESS_BYTES = 1 << 30
"""Up to this any archive may unpack."""
LARGEST_RATIO = 200
"""Images and fields shrink by less, all zeros apart."""

HARMLESS_VALUES = 400_000_000
"""Bytes of values that any file may hold: with a copy of them and the program itself they stay below 1 GB."""

GZIP_SHRINKS = 1040
"""Most that gzip can shrink a file by."""


def most_values(packed: int) -> int:
    """Bytes of values that a file of ``packed`` bytes may be read to."""
    return max(HARMLESS_VALUES, LARGEST_RATIO * packed)


def check_values(name: object, needed: int, packed: int, holds: int | None = None) -> None:
    """See that the values a header tells of are in proportion to the file that is to hold them.

    Args:
        name: of the file, for the message.
        needed: bytes of the values in memory, as the header tells.
        packed: bytes of the file, or of all files, that hold them.
        holds: most bytes that the file can unpack to, if that is known.

    Raises:
        UserError: the file cannot hold them, or is as small as only a trap is.
    """
    if holds is not None and needed > holds:
        raise UserError(
            f"{name}: cannot be read: its {packed} bytes do not hold the {needed} bytes that its header tells of; "
            "is it complete?"
        )
    if needed > most_values(packed):
        raise UserError(
            f"{name}: {packed / 1e6:.1f} MB would unpack to {needed / 1e6:.0f} MB; is it genuine? "
            "If so, save it uncompressed (gunzip for .nii.gz) or with a smaller voxel type"
        )


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """See that an archive can be what it seems, before anything is unpacked from it.

    Raises:
        UserError: it holds too many files, swells as only a trap does, or the disk has no room for it.
    """
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if len(members) > MOST_MEMBERS:
        raise UserError(f"{path}: an archive of {len(members)} files; unpack it by hand and name the folder")
    if unpacked > max(HARMLESS_BYTES, LARGEST_RATIO * packed):
        raise UserError(
            f"{path}: {packed / 1e6:.0f} MB would unpack to {unpacked / 1e9:.1f} GB; is it genuine? "
            "Unpack it by hand and name the folder"
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if unpacked > free:
        raise UserError(
            f"{path}: unpacks to {unpacked / 1e9:.1f} GB but {free / 1e9:.1f} GB are free in "
            f"{tempfile.gettempdir()}; set TMPDIR to a larger disk"
        )


def check_arrays(path: Path, most_bytes: int) -> None:
    """See that an ``.npz`` file does not unpack to more than its reader expects.

    Raises:
        UserError: it does.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > most_bytes:
        raise UserError(f"unpacks to {unpacked / 1e6:.0f} MB, more than the {most_bytes / 1e6:.0f} MB it can hold")


def check_volume(image: Any) -> None:
    """See that the file of a nibabel image can hold the voxels that its header tells of.

    Raises:
        UserError: it cannot.
    """
    file = Path(image.file_map["image"].filename)
    size = file.stat().st_size
    needed = math.prod(image.shape) * image.get_data_dtype().itemsize
    if needed > size * (GZIP_SHRINKS if file.suffix.lower() in (".gz", ".mgz") else 1):
        raise UserError(
            f"{file.name}: cannot be read: its {size} bytes do not hold the {needed} bytes that its header tells of; "
            "is it complete?"
        )
