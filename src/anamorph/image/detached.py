"""Headers that name the file of the voxels: it must lie beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from anamorph.errors import UserError
from anamorph.image.bounds import check_regular_file, check_values
from anamorph.image.compressed import check_deflated
from anamorph.image.text_header import TextHeader, read_text_header

MOST_FILES = 100_000
_PATTERN = re.compile(
    r"(?P<name>[^%]*%0?[0-9]{0,2}d[^%]*?)\s+(?P<first>-?\d+)\s+(?P<last>-?\d+)\s+(?P<step>-?\d+)(\s.*)?"
)


def refuse_data_elsewhere(path: Path) -> None:
    """See that a MetaImage or NRRD file is what it seems, before a library opens it; other files are not looked at.

    Its header has an end and few axes, it names no file above or beside its own folder (such a header could have any
    file of the machine read as voxels), the voxels are in proportion to the files, and compressed ones are whole.

    Raises:
        UserError: one of these does not hold.
        OSError: a file cannot be read.
    """
    header = read_text_header(path)
    if header is None:
        return
    files = [_beside(path, name) for name in _names(path, header)]
    held = [file for file in files if file.exists()]  # a missing one is the reader's to tell
    for file in held:
        check_regular_file(file)
    packed = sum(file.stat().st_size for file in held) if files else path.stat().st_size - header.end
    check_values(path, header.value_bytes, packed)
    if "compresseddata" in header.fields and header.compressed and header.packed_bytes is None:
        raise UserError(f"{path}: compressed voxels without CompressedDataSize in its header; save it again")
    if header.compressed:
        if files:
            unpacked = [check_deflated(file, 0) for file in held]
        else:
            unpacked = [check_deflated(path, header.end, header.packed_bytes)]
        # ITK leaves voxels it finds no values for as memory happens to be.
        if sum(unpacked) < header.value_bytes and held == files:
            raise UserError(f"{path}: its compressed voxels are fewer than its header announces; export it again")


def _names(path: Path, header: TextHeader) -> Iterator[str]:
    """The files of voxels, patterns such as ``slice%03d.raw 1 40 1`` written out."""
    for text in header.files:
        if "%" not in text or not re.search(r"\s-?\d", text):
            yield text
            continue
        found = _PATTERN.fullmatch(text)
        numbers = range(int(found["first"]), int(found["last"]) + 1, int(found["step"]) or 1) if found else range(0)
        if found is None or not 0 < len(numbers) <= MOST_FILES:
            raise UserError(
                f"{path}: cannot be read as an image (its files of voxels are {text[:60]}); save it as one file"
            )
        yield from (found["name"] % n for n in numbers)


def _beside(path: Path, text: str) -> Path:
    written = PureWindowsPath(text)  # knows both kinds of separators
    place = path.parent / text.replace("\x00", "")
    resolved = place.resolve()
    beside = resolved.is_relative_to(path.parent.resolve())
    if written.anchor or ".." in written.parts or (resolved.exists() and not beside):
        raise UserError(f"{path}: its voxels are in {text}, out of its folder; put the two files side by side")
    return place
