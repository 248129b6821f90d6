"""What the commands print: progress and news on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from anamorph.cli.logs import plain, say

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.methods.base import Progress


def warn_of_page(reason: str | None) -> None:
    """A line on a page that could not be drawn, if ``reason`` tells why."""
    if reason is not None:
        say(f"warning: the page could not be drawn ({reason}); everything else is complete")


class CompilationNews:
    """Tells once that kernels are being compiled, whoever notices first."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def __call__(self) -> None:
        say("compiling kernels for this machine, once (up to half a minute)", self.quiet)
        self.quiet = True


def show(*things: Any) -> None:
    """Results on stdout."""
    from rich.console import Console

    # Without markup and emoji codes: brackets and colons in names are what they are.
    console = Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120
    )
    for thing in things:
        console.print(plain(thing) if isinstance(thing, str) else thing)


def make_table(*columns: str, title: str | None = None, paths_first: bool = False) -> Table:
    """A plain table for :func:`show`; columns that start with ``>`` hold numbers, the first may hold paths."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for n, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        # The first column is kept whole, unless it holds paths, which would leave the others no place.
        table.add_column(column.lstrip(">"), justify=side, overflow="fold", no_wrap=n == 0 and not paths_first)
    return table


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar with the name of the stage on a terminal; lines now and then where stderr is a file or a pipe."""
    if quiet:
        yield lambda stage, fraction: None
        return
    if not sys.stderr.isatty():
        from anamorph.cli.progress_lines import ProgressLines

        with ProgressLines() as lines:
            yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<32}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)
