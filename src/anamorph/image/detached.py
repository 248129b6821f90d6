"""Headers that name the file of the voxels: it must lie beside them."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

from anamorph.errors import UserError

SUFFIXES = (".mhd", ".mha", ".nhdr", ".nrrd")
LONGEST_HEADER = 1 << 16
_FILE = re.compile(
    rb"^\s*(?:ElementDataFile\s*[=:]|data ?file\s*:)[ \t]*(?P<name>[^\r\n]*)(?P<rest>.*)", re.I | re.M | re.S
)
_LIST = b"LIST"


def refuse_data_elsewhere(path: Path) -> None:
    """See that the header of a MetaImage or NRRD names no file above or beside its own folder.

    Such a header could have any file of the machine read as voxels.

    Raises:
        UserError: it does.
    """
    if not path.name.lower().endswith(SUFFIXES):
        return
    with path.open("rb") as stream:
        found = _FILE.search(stream.read(LONGEST_HEADER).split(b"\n\n")[0])  # NRRD: voxels follow an empty line
    if found is None:
        return
    name = found["name"].strip()
    names = found["rest"].splitlines() if name.upper().startswith(_LIST) else [name]
    for one in names:
        text = one.strip().decode("utf-8", "replace")
        written = PureWindowsPath(text)  # knows both kinds of separators
        resolved = (path.parent / text.replace("\x00", "")).resolve()
        beside = resolved.is_relative_to(path.parent.resolve())
        if written.anchor or ".." in written.parts or (resolved.exists() and not beside):
            raise UserError(f"{path}: its voxels are in {text}, out of its folder; put the two files side by side")
