"""Progress as lines in a file or a pipe: often enough to see that the work goes on, never a flood."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from anamorph.cli.logs import say

STEP, APART_S = 0.1, 1.0
"""Share of the whole after which a stage is printed again, and the least time between two such lines."""
LINE_EVERY_S = 15.0
"""Time after which a call prints a line, however little was done since the last one."""
BEAT_EVERY_S = 30.0
"""Time after which a line appears even if the work reported nothing meanwhile."""
LOOK_EVERY_S = 1.0
"""Time between two looks at whether that is so."""
AT_ONCE = 20
"""Changes of stage that are printed at once; later ones wait as steps do."""


class ProgressLines(AbstractContextManager["ProgressLines"]):
    """A progress function that prints when the stage changes, and inside a stage every 10 % or 15 seconds.

    Stages that differ in their numbers only (``scan 3 of 200``) count as one. While nothing is reported for 30 seconds
    the last line is repeated with the time for which it has been so.

    Args:
        write: is given each line.
        clock: in seconds.
    """

    def __init__(self, write: Callable[[str], None] = say, clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self._stage, self._fraction, self._since = "starting", 0.0, clock()
        self._told_stage: str | None = None
        self._told_fraction, self._told_at = 0.0, clock()
        self._changes = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beats, daemon=True)

    def __enter__(self) -> ProgressLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def __call__(self, stage: str, fraction: float) -> None:
        with self._lock:
            now = self.clock()
            self._stage, self._fraction, self._since = stage, fraction, now
            waited = now - self._told_at
            changed = re.sub(r"\d+", "#", stage) != self._told_stage
            self._changes += changed
            further = abs(fraction - self._told_fraction) >= STEP - 1e-9
            if (
                (changed and self._changes <= AT_ONCE)
                or ((changed or further) and waited >= APART_S)
                or fraction >= 1 > self._told_fraction
                or waited >= LINE_EVERY_S
            ):
                self._tell("")

    def beat(self) -> None:
        """Tell that the work goes on, if no line did for long."""
        with self._lock:
            now = self.clock()
            if now - self._told_at >= BEAT_EVERY_S:
                self._tell(f" (for {now - self._since:.0f} s)")

    def _tell(self, more: str) -> None:
        self._told_stage = re.sub(r"\d+", "#", self._stage)
        self._told_fraction, self._told_at = self._fraction, self.clock()
        self.write(f"[{100 * self._fraction:3.0f} %] {self._stage}{more}")

    def _beats(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            self.beat()
