"""Compressed files, read to their end: damage shows only in the check sum there."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.image.bounds import check_values, most_values

GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class BoundedGzip(gzip.GzipFile):
    """A gzip file to read, which gives no more bytes than its size, or ``longest_header`` while it is set, allows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.packed = path.stat().st_size
        self.longest_header: int | None = None

    def read(self, size: int | None = -1) -> bytes:
        """Read in pieces, so that a header which asks for too much is found out early."""
        left = most_values(self.packed) + _CHUNK if size is None or size < 0 else size
        parts = []
        while left > 0 and (part := super().read(min(left, _CHUNK))):
            self._check()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer without the copy that the base class makes."""
        with memoryview(buffer) as view, view.cast("B") as target:
            count = 0
            while count < len(target) and (got := self._buffer.readinto(target[count : count + _CHUNK])):  # type: ignore[attr-defined]
                self._check()
                count += got
            return count

    def check_rest(self) -> None:
        """Read to the end, where the check sum is.

        Raises:
            OSError, EOFError: the content does not fit its check sum, or the file ends before it.
        """
        try:
            while self.read(_CHUNK):
                pass
        except gzip.BadGzipFile as error:
            if "Not a gzipped file" not in str(error):  # bytes after a sound stream do no harm
                raise

    def _check(self) -> None:
        if self.longest_header is not None and self.tell() > self.longest_header:
            raise UserError(f"{self.name}: cannot be read as an image (its header has no end); export it again")
        check_values(self.name, self.tell(), self.packed)


def check_gzip(path: Path) -> None:
    """Read a whole gzip file and see that its check sum fits.

    Raises:
        UserError: it swells as only a trap does.
        OSError, EOFError, zlib.error: it is damaged or cut off.
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
    stream, unpacked = zlib.decompressobj(_GZIP_OR_ZLIB), 0
    left = path.stat().st_size - start if size is None else size
    packed = left
    with path.open("rb") as file:
        file.seek(start)
        try:
            while not stream.eof and (part := file.read(min(_CHUNK, left))):
                left -= len(part)
                while part and not stream.eof:
                    unpacked += len(stream.decompress(part, _CHUNK))
                    check_values(path, unpacked, packed)
                    part = stream.unconsumed_tail
        except zlib.error as error:
            raise UserError(f"{path}: its compressed voxels are damaged ({error}); copy or export it again") from error
    if not stream.eof:
        raise UserError(f"{path}: its compressed voxels end early; copy or export it again")
    return unpacked
