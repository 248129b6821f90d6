"""What a running training shows: how far it is, and a line per validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.training.outcome import Status
    from anamorph.types import Progress


def training_display(progress: Progress, quiet: bool) -> Callable[[Status], None]:
    """What is to be called after every step; ``progress`` is that of the command."""

    def show(status: Status) -> None:
        if status.metrics:
            say(_validation(status), quiet)
        else:
            done = (status.epoch - 1) * status.batches + status.batch
            progress(_in_words(status), done / (status.epochs * status.batches))

    return show


def _in_words(status: Status) -> str:
    left = "" if status.remaining_s is None else f", {duration(status.remaining_s)} left"
    if status.stage == "validating":
        before = "before training" if status.step == 0 else f"after epoch {status.epoch}"
        return f"validating {before}, {100 * status.validated:.0f} %{left}"
    place = f"epoch {status.epoch} of {status.epochs}, step {status.batch} of {status.batches}"
    return f"{place}, loss {status.loss:.3g}{left}"


def _validation(status: Status) -> str:
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in status.metrics.items())
    if status.step == 0:
        return f"before training  {numbers}"
    left = "" if status.remaining_s is None else f"  ({duration(status.remaining_s)} left)"
    return f"epoch {status.epoch}/{status.epochs}  training loss {status.loss:.4g}  {numbers}{left}"


def duration(seconds: float) -> str:
    """A length of time as people read it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
