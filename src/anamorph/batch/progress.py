"""How far a list of jobs is, and how long the rest will take."""

from __future__ import annotations

import time

from anamorph.types import Progress


class Clock:
    """Tells how far a list of jobs is, and from the jobs that were done how long the others will take.

    Args:
        noun: what one job is about, such as ``scan``.
        total: number of jobs.
        done: jobs that an earlier run finished.
        progress: informed of every job.
    """

    def __init__(self, noun: str, total: int, done: int, progress: Progress | None) -> None:
        self.noun, self.total, self.done, self.progress = noun, total, done, progress
        self._begun, self._before, self._stage = time.perf_counter(), done, ""
        self._tell(f"{noun} {done} of {total} done", 0.0)

    def begin(self, name: str) -> None:
        """A job begins while no other is at work."""
        self._stage = f"{self.noun} {self.done + 1} of {self.total}, {name}{self._remaining()}"
        self._tell(self._stage, 0.0)

    def within(self, stage: str, fraction: float) -> None:
        """The job that began last is so far."""
        self._tell(self._stage, fraction)

    def end(self, alone: bool) -> None:
        """A job ended; ``alone`` says that the next one is announced when it begins."""
        self.done += 1
        if not alone or self.done == self.total:
            self._tell(f"{self.noun} {self.done} of {self.total} done{self._remaining()}", 0.0)

    def _remaining(self) -> str:
        new = self.done - self._before
        if new == 0 or self.done == self.total:
            return ""
        return f", about {remaining_time((time.perf_counter() - self._begun) / new * (self.total - self.done))} left"

    def _tell(self, stage: str, fraction: float) -> None:
        if self.progress is not None:
            self.progress(stage, (self.done + fraction) / max(self.total, 1))


def part(progress: Progress | None, first: float, last: float, name: str = "") -> Progress:
    """Progress of a part, reported as progress of the whole.

    Args:
        progress: of the whole.
        first: fraction of the whole at which the part begins.
        last: fraction at which it ends.
        name: put before each message.
    """

    def tell(text: str, fraction: float) -> None:
        if progress is not None:
            progress(f"{name}, {text}" if name else text, first + (last - first) * fraction)

    return tell


def remaining_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
