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
HARMLESS_STREAM_BYTES, LARGEST_STREAM_RATIO = 1 << 27, 100
"""As above, for compressed voxels, of which several copies are held while they are unpacked."""

GZIP_SHRINKS = 1040
"""Most that gzip can shrink a file by."""


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


def most_unpacked(packed: int) -> int:
    """Bytes that compressed voxels may unpack to: a scan shrinks by less, and a small trap stays small."""
    return max(HARMLESS_STREAM_BYTES, LARGEST_STREAM_RATIO * packed)


def check_unpacked(path: Path, packed: int, needed: int) -> None:
    """See that compressed voxels can be what their header tells of.

    Args:
        path: the file, for the message.
        packed: bytes of the compressed voxels.
        needed: bytes that they are said to unpack to.

    Raises:
        UserError: they swell as only a trap does.
    """
    if needed > most_unpacked(packed):
        raise UserError(
            f"{path}: {packed / 1e6:.1f} MB of compressed voxels would unpack to {needed / 1e9:.1f} GB or more; is it "
            "genuine? Store it without compression first"
        )
