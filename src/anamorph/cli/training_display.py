"""What a running training shows: a bar with the remaining time on a terminal, a line per validation elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anamorph.cli.console import say

if TYPE_CHECKING:
    from anamorph.training.outcome import Status


@contextmanager
def training_display(quiet: bool) -> Iterator[Callable[[Status], None]]:
    """Give what is to be called after every step."""
    if quiet:
        yield lambda status: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _line


def _line(status: Status) -> None:
    if status.metrics:
        say(_validation(status))


def _validation(status: Status) -> str:
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in status.metrics.items())
    if status.step == 0:
        return f"before training  {numbers}"
    left = "" if status.remaining_s is None else f"  ({duration(status.remaining_s)} left)"
    return f"epoch {status.epoch}/{status.epochs}  training loss {status.loss:.4g}  {numbers}{left}"


@contextmanager
def _bar() -> Iterator[Callable[[Status], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.fields[stage]}  loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, epoch="1", stage="starting", loss="-", left="", visible=False)

        def show(status: Status) -> None:
            left = "" if status.remaining_s is None else f"{duration(status.remaining_s)} left"
            bar.update(
                task,
                visible=True,
                total=status.epochs * status.batches,
                completed=(status.epoch - 1) * status.batches + status.batch,
                epoch=f"{status.epoch}/{status.epochs}",
                stage=status.stage,
                loss=f"{status.loss:.4g}",
                left=left,
            )
            if status.metrics:
                bar.console.print(_validation(status), highlight=False)

        yield show


def duration(seconds: float) -> str:
    """A length of time as people read it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
