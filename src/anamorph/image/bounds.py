"""Bounds on what a file may be and unpack to, looked at before it is opened, and before memory or disk is asked for."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from anamorph.errors import UserError
from anamorph.image.gzip_stream import CHUNK, GzipReader, deflate

MOST_MEMBERS = 200_000
HARMLESS_BYTES = 1 << 30
"""Up to this any archive may unpack."""
LARGEST_RATIO = 200
"""Images and fields shrink by less, all zeros apart."""

HARMLESS_VALUES = 400_000_000
"""Bytes of values that any file may hold: with a copy of them and the program itself they stay below 1 GB."""

GZIP_SHRINKS = 1040
"""Most that gzip can shrink a file by."""


def check_regular_file(path: str | os.PathLike[str]) -> None:
    """See that a path is an ordinary file, or a link to one: opening a pipe or a device may wait for ever.

    Raises:
        UserError: it is missing, a folder, a pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be opened ({error}); check the path") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: a pipe, socket or device; save its content to a file and name that")


def most_values(packed: int) -> int:
    """Bytes of values that a file of ``packed`` bytes may be read to."""
    return max(HARMLESS_VALUES, LARGEST_RATIO * packed)


def check_values(name: object, needed: int, packed: int, holds: int | None = None) -> None:
    """See that the values a header announces are in proportion to the file that is to hold them.

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
            f"{name}: cannot be read: its {packed} bytes do not hold the {needed} bytes that its header announces; "
            "is it complete?"
        )
    if needed > most_values(packed):
        raise UserError(
            f"{name}: {packed / 1e6:.1f} MB would unpack to {needed / 1e6:.0f} MB; is it genuine? "
            "If so, save it uncompressed (gunzip for .nii.gz) or with a smaller voxel type"
        )


def check_hdf5(path: Path) -> None:
    """See that an HDF5 file brings its values along, and that they are in proportion to its size.

    Every data set counts with the size it is declared with, since chunks that were never written take no room.

    Raises:
        UserError: links or values in other files, or values out of proportion.
        OSError: it is no HDF5 file, or a damaged one.
    """
    import h5py

    needed = 0

    def look(group: h5py.Group) -> None:
        nonlocal needed
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"{path}: links within HDF5 are not followed; save all values in one file")
            entry = group[name]
            if isinstance(entry, h5py.Group):
                if entry.id not in seen:
                    seen.append(entry.id)
                    look(entry)
            elif isinstance(entry, h5py.Dataset):
                if entry.external or entry.is_virtual:
                    raise UserError(f"{path}: values are stored in other files; save all values in one file")
                needed += entry.nbytes

    with h5py.File(path, "r") as file:
        seen = [file.id]
        look(file)
    check_values(path, needed, path.stat().st_size)


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


_GZIP_OR_ZLIB = deflate.MAX_WBITS | 32


class BoundedGzip(GzipReader):
    """A gzip file to read, which gives no more bytes than its size, or ``longest_header`` while it is set, allows."""

    longest_header: int | None = None

    def read(self, size: int | None = -1) -> bytes:
        """Read in pieces, so that a header which asks for too much is found out early."""
        left = most_values(self.packed) + CHUNK if size is None or size < 0 else size
        parts = []
        while left > 0 and (part := self.unpack(min(left, CHUNK))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def unpack(self, most: int) -> bytes:
        part = super().unpack(most)
        if self.longest_header is not None and self.tell() > self.longest_header:
            raise UserError(f"{self.name}: cannot be read as an image (its header has no end); export it again")
        check_values(self.name, self.tell(), self.packed)
        return part

    def check_rest(self) -> None:
        """Read to the end, where the check sum is.

        Raises:
            OSError, EOFError, deflate.error: the content does not fit its check sum, or the file ends before it.
        """
        while self.unpack(CHUNK):
            pass


def check_gzip(path: Path) -> None:
    """Read a whole gzip file and see that its check sum fits.

    Raises:
        UserError: it swells as only a trap does.
        OSError, EOFError, deflate.error: it is damaged or cut off.
    """
    with BoundedGzip(path) as stream:
        stream.check_rest()


def check_deflated(path: Path, start: int, size: int | None = None) -> int:
    """Unpack a stream of gzip or zlib inside a file, to see that it is whole; nothing is kept.

    Args:
        path: the file.
        start: where the stream starts, bytes.
        size: how long it is, bytes; to the end of the file by default.

    Returns:
        Bytes it unpacks to.

    Raises:
        UserError: it swells as only a trap does, is cut off, or does not fit its check sum.
    """
    stream, unpacked = deflate.decompressobj(_GZIP_OR_ZLIB), 0
    left = path.stat().st_size - start if size is None else size
    packed = left
    with path.open("rb") as file:
        file.seek(start)
        try:
            while not stream.eof and (part := file.read(min(CHUNK, left))):
                left -= len(part)
                while part and not stream.eof:
                    unpacked += len(stream.decompress(part, CHUNK))
                    check_values(path, unpacked, packed)
                    part = stream.unconsumed_tail
        except deflate.error as error:
            raise UserError(f"{path}: its compressed voxels are damaged ({error}); copy or export it again") from error
    if not stream.eof:
        raise UserError(f"{path}: its compressed voxels end early; copy or export it again")
    return unpacked
