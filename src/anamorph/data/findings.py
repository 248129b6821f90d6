"""What a check of a data set finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from anamorph.data.dataset import Case
from anamorph.geometry import Grid

_MOST_NAMED = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: the key of a scan or pair, or the file itself."""

    severity: Literal["error", "warning"]
    place: str
    message: str


@dataclass(frozen=True)
class CaseFacts:
    """What one scan turned out to be.

    Args:
        case: the entry.
        grid: None if the scan cannot be read.
        dtype: of the voxels.
        volumes_ml: by label.
        points: number by kind.
        problems: of this scan.
    """

    case: Case
    grid: Grid | None
    dtype: str
    volumes_ml: dict[int, float]
    points: dict[str, int]
    problems: tuple[Problem, ...]


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
