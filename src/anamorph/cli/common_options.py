"""What several commands ask for in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

RUN = "Run"
DataSet = Annotated[Path, typer.Option(help="The data set: its *_dataset.json, or the folder that holds it.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Scans at a time; by default one per core as far as memory goes.", rich_help_panel=RUN),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", rich_help_panel=RUN)]
Number = TypeVar("Number", int, float)


def worker_count(workers: int | None) -> int:
    """As many as asked for, or one per core.

    Raises:
        UserError: fewer than one.
    """
    from anamorph.errors import UserError
    from anamorph.registration.provenance import usable_cores

    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")
    return workers or usable_cores()


def say_failure(name: str, reason: str) -> None:
    """Print the line of a scan or pair that failed."""
    from anamorph.cli.logs import say

    say(f"failed: {name}: {reason}")


def three_whole_numbers(option: str, text: str) -> tuple[int, int, int]:
    """``192,160,256`` or ``192x160x256``.

    Raises:
        UserError: the text is something else.
    """
    i, j, k = _numbers(option, text, int, 3, "three whole numbers such as 192,160,256")
    return i, j, k


def two_numbers(option: str, text: str) -> tuple[float, float]:
    """``-160,240``; errors as of :func:`three_whole_numbers`."""
    low, high = _numbers(option, text, float, 2, "two numbers such as -160,240")
    return low, high


def _numbers(option: str, text: str, kind: type[Number], count: int, what: str) -> list[Number]:
    from anamorph.errors import UserError

    try:
        numbers = [kind(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UserError(f"{option} wants {what}, not '{text}'")
    return numbers
