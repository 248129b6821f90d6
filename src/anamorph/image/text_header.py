"""The text headers of NRRD and MetaImage, read as text before a library opens the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from anamorph.errors import UserError

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
LONGEST_HEADER = 1 << 24
MOST_AXES = 5
_CHUNK = 1 << 16
_BYTES = {
    "char": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 8, "ulong": 8, "float": 4, "double": 8,
    "uchar": 1, "schar": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "uint64": 8, "longlong": 8, "ulonglong": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TextHeader:
    """Fields of a header by their lower-case names, key/value pairs of NRRD, and where the voxels start."""

    fields: dict[str, str]
    pairs: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """What the header names as files of voxels; none if they follow the header."""
    end: int = 0
    """Bytes of the header."""
    sizes: tuple[int, ...] = ()
    voxel_bytes: int = 1

    @property
    def value_bytes(self) -> int:
        """What all voxels take."""
        return math.prod(self.sizes) * self.voxel_bytes

    @property
    def compressed(self) -> bool:
        """True for streams of gzip or zlib."""
        return self.fields.get("encoding", "") in ("gz", "gzip") or self.fields.get("compresseddata", "").lower() in (
            "true",
            "1",
        )

    @property
    def packed_bytes(self) -> int | None:
        """Length of the compressed voxels, where the header says it."""
        given = self.fields.get("compresseddatasize", "")
        return int(given) if re.fullmatch(r"[0-9]{1,15}", given) and int(given) else None


def read_text_header(path: Path) -> TextHeader | None:
    """The header of a NRRD or MetaImage file; None for other suffixes.

    Raises:
        UserError: it has no end, or announces axes that cannot be.
        OSError: it cannot be read.
    """
    name = path.name.lower()
    if name.endswith(NRRD_SUFFIXES):
        return _nrrd(path)
    return _meta(path) if name.endswith(META_SUFFIXES) else None


def _head(path: Path, end: re.Pattern[bytes]) -> tuple[bytes, re.Match[bytes] | None]:
    """The start of a file up to its first match, or up to the longest header."""
    content = b""
    with path.open("rb") as stream:
        while len(content) < LONGEST_HEADER and (part := stream.read(_CHUNK)):
            content += part
            if found := end.search(content, max(len(content) - len(part) - _CHUNK, 0)):
                return content, found
    return content, end.search(content)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()


def _nrrd(path: Path) -> TextHeader:
    content, found = _head(path, re.compile(rb"\r?\n\r?\n"))
    if not content.startswith(b"NRRD"):
        raise UserError(f"{path}: cannot be read as an image (it does not start with NRRD); is it of a known format?")
    head = content[: found.start() if found else len(content)]
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    files: list[str] = []
    listing = False
    for raw in head.split(b"\n")[1:]:
        line = _text(raw)
        if b"\r" in raw[:-1] or (not line and raw.strip(b"\r")):  # readers differ on where such lines end
            raise UserError(f"{path}: cannot be read as an image (an odd line in its header); save it again")
        pair, one = line.partition(":="), line.partition(":")
        if listing:
            files.append(line)
        elif line.startswith("#"):
            continue
        elif pair[1]:
            pairs[pair[0]] = pair[2]
        elif one[1]:
            key = " ".join(one[0].lower().split())
            fields[key] = one[2].strip()
            if key in ("data file", "datafile"):
                listing = one[2].strip().upper().startswith("LIST")
                files += [] if listing else [one[2].strip()]
    if not found and not files and not listing:
        raise _endless(path)
    sizes = _counts(path, fields.get("sizes", ""), fields.get("dimension", ""))
    kind = _BYTES.get(_type(fields.get("type", "")), 8)
    return TextHeader(fields, pairs, tuple(filter(None, files)), found.end() if found else len(content), sizes, kind)


def _meta(path: Path) -> TextHeader:
    content, found = _head(path, re.compile(rb"elementdatafile[^\r\n]*(?:\r?\n|\r)", re.I))
    found = found or re.search(rb"elementdatafile[^\r\n]*$", content, re.I)
    if found is None:
        raise _endless(path)
    *lines, last = content[: found.end()].splitlines()
    exact = re.fullmatch(rb"[ \t]*ElementDataFile[ \t]*[=:][ \t]*(\S.*)", last)
    if not exact:  # readers differ on what such a line says
        raise UserError(f"{path}: cannot be read as an image (an odd ElementDataFile in its header); save it again")
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = re.sub(r"[=:]", "=", _text(line), count=1).partition("=")
        fields[key.strip().lower()] = value.strip()
    given = _text(exact[1])
    files: tuple[str, ...] = () if given.upper() in ("LOCAL", "LOCAL_ZLIB") else (given,)
    if given.upper().startswith("LIST"):
        files = tuple(_text(line) for line in content[found.end() :].splitlines() if line.strip())
    sizes = _counts(path, fields.get("dimsize", ""), fields.get("ndims", ""))
    channels = fields.get("elementnumberofchannels", "1")
    number = int(channels) if re.fullmatch(r"[0-9]{1,9}", channels) else 1
    kind = _BYTES.get(_type(fields.get("elementtype", "").lower().removeprefix("met_").removesuffix("_array")), 8)
    return TextHeader(fields, {}, files, found.end(), sizes, kind * number)


def _type(name: str) -> str:
    """A voxel type without the words that do not change its size: 'unsigned short int' as 'short'."""
    words = [
        word for word in name.lower().removesuffix("_t").replace("_", " ").split() if word not in ("signed", "unsigned")
    ]
    if words[:2] == ["long", "long"]:
        return "longlong"
    return "".join(words[:1]) or "int"


def _counts(path: Path, sizes: str, axes: str) -> tuple[int, ...]:
    """Numbers of voxels along each axis.

    Raises:
        UserError: they are no numbers, out of range, or do not fit the number of axes.
    """
    try:
        counts, number = tuple(int(word) for word in sizes.split()), int(axes)
    except ValueError:
        counts, number = (), 0
    if not 1 <= number <= MOST_AXES or len(counts) != number or not all(0 < n < 1 << 31 for n in counts):
        raise UserError(
            f"{path}: cannot be read as an image (its header announces {axes[:20] or 'no'} axes of "
            f"{sizes[:60] or 'no'} voxels); export it again"
        )
    return counts


def _endless(path: Path) -> UserError:
    return UserError(f"{path}: cannot be read as an image (its header has no end); is it complete?")
