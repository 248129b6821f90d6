"""The time that a session has, where it computes, and the one folder that it writes into as it goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.training.time_budget import TimeBudget

ROOT = Path(__file__).parents[2]
MEASURED, LOG = "measured.jsonl", "log.txt"
NO_GPU = "no GPU"
Program = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Session:
    """One call of ``benchmarks/gpu.sh``.

    Args:
        out: the folder.
        work: where everything goes that nobody reads afterwards.
        device: ``cuda``, or ``cpu`` for a rehearsal.
        tiny: sizes of a rehearsal.
        budget: the clock of the session.
    """

    out: Path
    work: Path
    device: str
    tiny: bool
    budget: TimeBudget

    @property
    def left_s(self) -> float:
        """Until the end of the session."""
        left = self.budget.left_s
        assert left is not None
        return left

    def note(self, part: str, **found: Any) -> None:
        """Add a line to what was measured, and print it."""
        line = json.dumps({"part": part, "at_s": round(self.budget.spent_s, 1), **found}, ensure_ascii=False)
        with (self.out / MEASURED).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    def start(self, command: Sequence[str], log: Path, **environment: str) -> Program:
        """Begin a program whose output is added to a file."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | environment, start_new_session=True,
            )  # fmt: skip


def ended(processes: Sequence[Program], limit_s: float) -> list[bool]:
    """Wait for programs of :meth:`Session.start`; which ended by themselves; the others are stopped."""
    limit = Limit(limit_s)
    _wait(processes, limit)
    alone = [process.poll() is not None for process in processes]
    for which, grace_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 1)):
        left = [process for process in processes if process.poll() is None]
        for process in left:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, which)
        _wait(left, Limit(grace_s))
    return alone


def _wait(processes: Sequence[Program], limit: Limit) -> None:
    while any(process.poll() is None for process in processes) and limit.left_s > 0:
        time.sleep(0.1)


class Limit:
    """The time that one part has."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Until its end."""
        return self.end - time.monotonic()
