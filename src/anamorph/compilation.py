"""Notice when numba compiles, which it does once per machine and keeps on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Compilation:
    """Seconds spent compiling kernels; loading them from the cache does not count."""

    seconds: float = 0.0


@contextmanager
def watch_compilation(announce: Callable[[], None] | None = None) -> Iterator[Compilation]:
    """Measure compilation inside the block, and call ``announce`` when the first kernel is compiled."""
    from numba.core import event

    total = Compilation()

    class Watch(event.Listener):
        def __init__(self) -> None:
            self.starts: list[float] = []  # compilations nest: the outermost counts
            self.announced = False

        def on_start(self, _: Any) -> None:
            self.starts.append(time.perf_counter())
            if announce is not None and not self.announced:
                self.announced = True
                announce()

        def on_end(self, _: Any) -> None:
            start = self.starts.pop()
            if not self.starts:
                total.seconds += time.perf_counter() - start

    with event.install_listener("numba:compile", Watch()):
        yield total
