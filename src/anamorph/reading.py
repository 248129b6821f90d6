"""What readers of text share: whatever a damaged file makes them stumble over becomes one line that names it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anamorph.errors import UserError

LARGEST_TEXT_BYTES = 1 << 30
LONGEST_REASON = 160
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error)
"""What values of another type or size than expected raise."""


def reason_of(error: BaseException) -> str:
    """What an exception says, in one short line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"no {' '.join(map(str, error.args))}"[:LONGEST_REASON]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


@contextmanager
def understood(path: Path | str, wrong: str, remedy: str) -> Iterator[None]:
    """Tell in one line what a file makes the block stumble over: ``PATH: WRONG (reason); REMEDY``.

    Raises:
        UserError: the file cannot be read, or its values are not those that the block expects.
    """
    try:
        yield
    except DAMAGE as error:
        raise UserError(f"{path}: {wrong} ({reason_of(error)}); {remedy}") from error


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8 text, or too large for one.
    """
    if not path.is_file() and path.exists():
        raise ValueError("neither file nor link to one")
    size = path.stat().st_size
    if size > LARGEST_TEXT_BYTES:
        raise ValueError(f"{size / 1e9:.1f} GB are no text that people write")
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> Any:
    """The content of a JSON file; see :func:`understood` for its errors."""
    return json.loads(read_text(path))


def read_own_record(path: Path) -> dict[str, Any]:
    """The object of a JSON file that an earlier run wrote; empty if it is missing or damaged."""
    try:
        content = read_json(path)
    except DAMAGE:
        return {}
    return content if isinstance(content, dict) else {}
