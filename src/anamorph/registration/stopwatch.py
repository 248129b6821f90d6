"""Seconds per stage, and the progress of parts of a whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from anamorph.types import Progress

log = logging.getLogger(__name__)


def part_of(progress: Progress | None, begin: float, end: float) -> Progress:
    """The progress of a part of something that is done from ``begin`` to ``end``."""

    def tell(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(stage, begin + (end - begin) * fraction)

    return tell


@dataclass
class Stopwatch:
    """Seconds per stage, in order, telling a progress callback what comes next."""

    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, fraction: float) -> Iterator[None]:
        """Time a block; ``fraction`` of the whole is done when it starts."""
        if self.progress is not None:
            self.progress(name, fraction)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start
            log.debug("%s: %.3f s", name, self.seconds[name])
