"""What the commands print: progress and news on stderr, results on stdout."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from anamorph.cli.logs import plain, say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from anamorph.types import Progress


def warn_of_page(reason: str | None) -> None:
    """A line on a page that could not be drawn, if ``reason`` tells why."""
    if reason is not None:
        say(f"warning: the page could not be drawn ({reason}); everything else is complete")


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Says of interrupted work in a folder how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what is finished is kept in {out}, the same command with --resume goes on from there"
        ) from None


def line_width() -> int | None:
    """How many characters a line on stdout may have; None for a file or a pipe.

    ``COLUMNS`` says nothing of those: children of a process that has loaded readline inherit the width of its terminal.
    """
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_lines(*lines: str) -> None:
    """Sentences on stdout, broken between words where a line ends; words longer than a line, such as paths, stay whole.

    Further lines of a sentence are set in by two characters more than its first.
    """
    width = line_width()
    for line in lines:
        if width is None:
            show(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()))
        wrapper = textwrap.TextWrapper(width, indent, f"{indent}  ", break_long_words=False, break_on_hyphens=False)
        show(*wrapper.wrap(line.strip()))


def show(*things: Any) -> None:
    """Results on stdout."""
    from rich.console import Console

    # Without markup and emoji codes: brackets and colons in names are what they are.
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=line_width() or 120)
    for thing in things:
        console.print(plain(thing) if isinstance(thing, str) else thing)


def make_table(*columns: str, title: str | None = None, paths_first: bool = False) -> Table:
    """A plain table for :func:`show`; columns that start with ``>`` hold numbers, the first may hold paths."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    width = line_width() or WIDE
    numbers = sum(column.startswith(">") for column in columns)
    kept = min(NUMBER_WIDTH, (width - FIRST_WIDTH) // max(numbers, 1) - GAP) if width < WIDE else None
    for n, column in enumerate(columns):
        is_number = column.startswith(">")
        side: Literal["left", "right"] = "right" if is_number else "left"
        # The first column is kept whole, unless it would leave the others no place: then numbers are kept whole.
        whole = n == 0 and not paths_first and kept is None
        least = kept if is_number else None
        table.add_column(column.lstrip(">"), justify=side, overflow="fold", no_wrap=whole, min_width=least)
    return table


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar with the name of the stage on a terminal; lines now and then where stderr is a file or a pipe."""
    if quiet:
        yield lambda stage, fraction: None
        return
    if not sys.stderr.isatty():
        from anamorph.cli.console import ProgressLines

        with ProgressLines() as lines:
            yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    stage = TextColumn("{task.description:<24}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    parts = stage, BarColumn(bar_width=20), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


WIDE = 80
"""Characters of a line that has room for every table."""
FIRST_WIDTH, NUMBER_WIDTH, GAP = 8, 7, 3
"""Least characters of the first column and of a number in narrower ones, and what is between columns."""
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


def duration(seconds: float) -> str:
    """A length of time as people read it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
