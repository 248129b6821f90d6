"""What a pipe or a file is told while a command runs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from anamorph.cli import console
from anamorph.cli.console import ProgressLines


class Told:
    """Progress lines by a clock that the test sets."""

    def __init__(self) -> None:
        self.now, self.lines = 0.0, []
        self.progress = ProgressLines(self.lines.append, lambda: self.now)

    def at(self, seconds: float, stage: str, fraction: float) -> None:
        self.now = seconds
        self.progress(stage, fraction)

    def wait(self, seconds: float) -> None:
        self.now = seconds
        self.progress.beat()


@pytest.fixture
def told():
    return Told()


def test_a_stage_is_told_at_once_and_then_every_tenth_of_the_work(told):
    for n in range(101):
        told.at(2.0 * n, "fitting summaries", 0.2 + 0.8 * n / 100)
    fractions = [int(line[1:4]) for line in told.lines]
    assert told.lines[0] == "[ 20 %] fitting summaries"
    assert fractions[-1] == 100
    assert len(fractions) == 14, "200 s: the first, one every 16 s, and the end"
    assert max(b - a for a, b in pairwise(fractions)) <= 10


def test_slow_work_is_told_every_fifteen_seconds_however_little_it_got_on(told):
    for n in range(61):
        told.at(float(n), f"scan {n} of 1000", n / 1000)
    assert told.lines == [f"[{n / 10:3.0f} %] scan {n} of 1000" for n in (0, 15, 30, 45, 60)]


def test_thousands_of_fast_calls_are_no_flood(told):
    for n in range(10_001):
        told.at(n / 1000, f"evaluating patient{chr(97 + n % 26)}", n / 10_000)
    assert 10 <= len(told.lines) <= 20 + 10 + 2
    assert told.lines[-1].startswith("[100 %]")


def test_work_that_tells_nothing_is_seen_to_go_on(told):
    told.wait(29)
    assert told.lines == []
    told.wait(30)
    told.at(31, "registering", 0.5)
    for second in range(32, 123):
        told.wait(second)
    assert told.lines == ["[  0 %] starting (for 30 s)", "[ 50 %] registering"] + [
        f"[ 50 %] registering (for {n} s)" for n in (30, 60, 90)
    ]


def test_the_adapter_of_the_commands_beats_by_itself_and_stops(capsys, monkeypatch):
    from anamorph.cli.console import progress_bar

    monkeypatch.setattr(console, "BEAT_EVERY_S", 0.0)
    monkeypatch.setattr(console, "LOOK_EVERY_S", 0.01)
    with progress_bar(quiet=False) as progress:
        progress("thinking", 0.25)
        import time

        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[ 25 %] thinking"
    assert lines[1].startswith("[ 25 %] thinking (for ")
    with progress_bar(quiet=True) as progress:
        progress("thinking", 0.25)
    assert capsys.readouterr().err == ""
