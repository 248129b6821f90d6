"""Names of files in the Brain Imaging Data Structure: ``sub-01_ses-2_T1w.nii.gz`` is entities, a suffix, an extension.

https://bids-specification.readthedocs.io, version 1.10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError

ORDER = (
    *("tpl", "sub", "ses", "sample", "task", "tracksys", "acq", "ce", "trc", "stain", "rec", "dir", "run", "mod"),
    *("echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "seg", "res", "den"),
    *("label", "from", "to", "mode", "desc"),
)
"""Of the entities in a name."""
DERIVED = ("space", "res", "den", "label", "from", "to", "mode", "desc")
"""Entities that say how a file was made of another one."""
_PART = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")


@dataclass(frozen=True)
class BidsName:
    """The name of a file.

    Args:
        entities: such as ``{"sub": "01"}``.
        suffix: what the file holds, such as ``T1w``.
        extension: such as ``.nii.gz``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    @classmethod
    def of(cls, path: Path) -> BidsName | None:
        """The parts of a name; None if it is no name of BIDS."""
        stem, dot, extension = path.name.partition(".")
        *parts, suffix = stem.split("_")
        found = [_PART.fullmatch(part) for part in parts]
        if not parts or not suffix.isalnum() or any(match is None for match in found):
            return None
        return cls({match[1]: match[2] for match in found if match}, suffix, dot + extension)

    @property
    def text(self) -> str:
        """The name, its entities in the order that BIDS asks for."""
        known = [key for key in ORDER if key in self.entities]
        others = [key for key in self.entities if key not in ORDER]
        parts = [f"{key}-{self.entities[key]}" for key in (*known, *others)]
        return "_".join([*parts, self.suffix]) + self.extension

    def changed(self, suffix: str, extension: str, **entities: str) -> BidsName:
        """The name of what is made of the file; entities that say how the file itself was made are left out."""
        kept = {key: value for key, value in self.entities.items() if key not in DERIVED}
        return BidsName(kept | entities, suffix, extension)


def entity_in(path: Path, key: str) -> str:
    """The last value of an entity in a path, folders included; empty if there is none."""
    values = re.findall(rf"(?:^|[/_]){key}-([A-Za-z0-9]+)", path.as_posix())
    return values[-1] if values else ""


def label(text: str) -> str:
    """Letters and digits alone, as values of entities are.

    Raises:
        UserError: nothing is left.
    """
    left = re.sub(r"[^a-zA-Z0-9]", "", text)
    if not left:
        raise UserError(f"'{text}' has neither letters nor digits for a name of BIDS")
    return left


def space_labels(fixed: Path, moving: BidsName) -> tuple[str, str]:
    """What the spaces of the moving and of the fixed scan are called: by what their names differ in.

    Raises:
        UserError: the names do not differ.
    """
    other = BidsName.of(fixed)
    if other is None:
        return label(moving.suffix), label(fixed.name.partition(".")[0])
    if "tpl" in other.entities:
        return label(moving.suffix), label(other.entities["tpl"])
    if other.entities.get("sub") != moving.entities.get("sub"):
        return label(moving.suffix), label(f"sub{other.entities.get('sub', fixed.name.partition('.')[0])}")
    if other.suffix != moving.suffix and other.entities.get("ses") == moving.entities.get("ses"):
        return label(moving.suffix), label(other.suffix)
    for key in ORDER:
        mine, theirs = moving.entities.get(key), other.entities.get(key)
        if mine != theirs:
            return label(f"{key}{mine or 'none'}"), label(f"{key}{theirs or 'none'}")
    raise UserError(f"{fixed.name}: the fixed and the moving scan have one name; name two scans")
