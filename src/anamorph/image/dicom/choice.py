"""The selector: which series and which volume of a DICOM folder or file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from anamorph.errors import UserError
from anamorph.image.dicom.frames import TRAITS

SEPARATOR = "::"
KEYS = (*TRAITS, "volume")


@dataclass(frozen=True)
class Choice:
    """What is behind the path in ``PATH::SERIES_UID::echo=2``.

    Args:
        series: UID of the series.
        traits: value by key.
    """

    series: str | None = None
    traits: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.series] if self.series else []
        return SEPARATOR.join(parts + [f"{key}={value}" for key, value in self.traits.items()])

    def __bool__(self) -> bool:
        return bool(self.series or self.traits)


def split_choice(source: str) -> tuple[Path, Choice]:
    """``PATH::SERIES_UID::echo=2`` as path and choice; the path is the longest part that exists.

    Raises:
        UserError: a key is unknown, or a series or key is given twice.
    """
    parts = source.split(SEPARATOR)
    for n in range(len(parts), 0, -1):
        if (path := Path(SEPARATOR.join(parts[:n]))).exists():
            return path, _choice(source, parts[n:])
    return Path(source), Choice()


def _choice(source: str, parts: list[str]) -> Choice:
    series, traits = None, {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals and series is None:
            series = part
        elif equals and key in KEYS and key not in traits and value:
            traits[key] = value
        else:
            raise UserError(
                f"{source}: '{part}' chooses nothing; write PATH::SERIES_UID, or a key and its value as in "
                f"PATH::echo=2 (keys: {', '.join(KEYS)})"
            )
    return Choice(series, traits)
