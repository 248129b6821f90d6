"""The stages of one run: what is going on, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from anamorph.methods.base import Progress


class Stages:
    """Announces stages and adds up their ``seconds``.

    Args:
        progress: called with the stage and the fraction of the run that is done when it starts.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or (lambda stage, fraction: None)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, fraction: float) -> Iterator[None]:
        """Announce a stage and add its time."""
        self.progress(name, fraction)
        with self.timed(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a part that is too short to be announced."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
