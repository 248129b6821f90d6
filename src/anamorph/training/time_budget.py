"""How long a training may take, how long it will take, and that it is asked to stop."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from anamorph.errors import RegistrationFailure, UserError

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "": 1}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``25m``, ``1h30m`` or ``2d``; a bare number is seconds.

    Raises:
        UserError: it is none, or not positive.
    """
    parts = re.findall(r"([0-9]*\.?[0-9]+)\s*(min|s|m|h|d|)", text.strip().lower())
    whole = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if whole != re.sub(r"\s", "", text.lower()) or seconds <= 0:
        raise UserError(f"--time-budget wants a duration such as 25m, 90s or 1h30m, not '{text}'")
    return seconds


class TimeIsUp(RegistrationFailure):
    """The time budget ended before a training took a step."""


class TimeBudget:
    """A clock that says whether there is time for something more, and what the time went into.

    Args:
        seconds: from now; None for no end.
        clock: in seconds.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.start = clock()
        self.parts: dict[str, float] = {}
        self._begun: tuple[str, float] | None = None

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Count what passes within the block under a name; blocks do not hold each other."""
        self._begun = part, self.clock()
        try:
            yield
        finally:
            self._count()

    @contextmanager
    def ended_at_once(self, kept: str) -> Iterator[None]:
        """End the block when the time is up, in the midst of whatever it computes.

        For what comes before the first step, of which nothing is worth keeping. It needs a timer of the system, its
        clock and the main thread; elsewhere the block goes on.

        Args:
            kept: what the next session need not do again.

        Raises:
            TimeIsUp: the block did not end in time.
        """
        left_s = self.left_s
        timed = self.clock is time.monotonic and hasattr(signal, "setitimer") and _in_main_thread()
        if left_s is None or not timed:
            yield
            return

        def end(signum: int, frame: FrameType | None) -> None:
            raise self.no_step(kept)

        before = signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, max(left_s, 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _count(self) -> None:
        if self._begun is not None:
            part, start = self._begun
            self.parts[part] = self.parts.get(part, 0.0) + self.clock() - start
            self._begun = None

    def no_step(self, kept: str) -> TimeIsUp:
        """The error of a session without a step: what took the time, and what helps.

        Args:
            kept: what the next session need not do again.
        """
        self._count()
        longest = sorted(self.parts.items(), key=lambda item: -item[1])[:2]
        took = " and ".join(f"{part} {seconds:.0f} s" for part, seconds in longest if seconds >= 0.5)
        budget = f"{self.seconds:.0f}" if self.seconds is not None else "no"
        return TimeIsUp(
            f"no step was taken within the time budget of {budget} s, so there is no model"
            f"{f' ({took})' if took else ''}; {kept}: go on with the same command and --resume, with a larger "
            "--time-budget, or start again with a smaller --preset"
        )

    @property
    def spent_s(self) -> float:
        """Since the start."""
        return self.clock() - self.start

    @property
    def left_s(self) -> float | None:
        """Until the end; None if there is none."""
        return None if self.seconds is None else self.seconds - self.spent_s

    def allows(self, expected_s: float) -> bool:
        """Whether something of this length would end in time."""
        return self.seconds is None or self.spent_s + expected_s <= self.seconds


class Pace:
    """A running mean of how long something takes, the last times counting most.

    Args:
        weight: of the last time in the mean.
        guess_s: what ``longest_s`` is before the first.
    """

    def __init__(self, weight: float = 0.1, guess_s: float = 0.0) -> None:
        self.weight, self.guess_s = weight, guess_s
        self.mean_s: float | None = None
        self.longest_s = guess_s

    def add(self, seconds: float) -> None:
        """Count one."""
        self.longest_s = 0.0 if self.mean_s is None else self.longest_s
        self.mean_s = seconds if self.mean_s is None else (1 - self.weight) * self.mean_s + self.weight * seconds
        self.longest_s = max(self.longest_s, seconds)

    def expected_s(self, count: int) -> float:
        """Of so many more; 0 while nothing is known."""
        return count * (self.mean_s or 0.0)


class Projection:
    """How long something will take as a whole, from the shares that are done.

    The first share tells only when to begin counting: kernels are compiled and files opened within it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.start = clock, clock()
        self._first: tuple[float, float] | None = None

    def whole_s(self, share: float) -> float:
        """From the start to the end, as far as a share from 0 to 1 lets it be seen; at least what has passed."""
        now = self.clock()
        if self._first is None or share <= self._first[1]:
            self._first = self._first or ((now, share) if share > 0 else None)
            return now - self.start
        at, before = self._first
        return now - self.start + (1 - share) * (now - at) / (share - before)


class StopRequest(AbstractContextManager["StopRequest"]):
    """Whether SIGTERM or Ctrl-C came within the block; the first is only noted, a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if _in_main_thread():
            self._before = {which: signal.signal(which, self._note) for which in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signal is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt("interrupted; the training goes on from its last checkpoint with --resume")
        self.signal = signal.Signals(signum).name


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
