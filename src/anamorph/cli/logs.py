"""What anamorph logs, on the terminal and in a file.

Everything goes through Python's ``logging`` under the name ``anamorph``: the news of the commands under
``anamorph.cli``, what the library notes under the names of its modules.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from anamorph.errors import UserError

LIBRARY, NEWS = logging.getLogger("anamorph"), logging.getLogger("anamorph.cli")
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "?")


def plain(text: str) -> str:
    """Text without control characters, which must not steer the terminal, and with escapes for halves of characters.

    Names of files that are no UTF-8 hold such halves, which no terminal can print.
    """
    return text.translate(_CONTROLS).encode("utf-8", "backslashreplace").decode()


class _Terminal(logging.Handler):
    """Prints on stderr, wherever that leads at the moment: all news, and warnings of the library.

    ``verbose`` prints everything, ``quiet`` only errors of the library, ``spoken`` also the messages of these modules.
    """

    verbose = False
    quiet = False
    spoken: tuple[str, ...] = ()

    def filter(self, record: logging.LogRecord) -> bool:
        if self.verbose:
            return True
        if record.name.startswith(NEWS.name):
            return record.levelno >= logging.INFO
        if self.quiet:
            return record.levelno >= logging.ERROR
        return record.levelno >= (logging.INFO if record.name.startswith(self.spoken or "-") else logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        print(plain(prefix + record.getMessage()), file=sys.stderr, flush=True)


_TERMINAL = _Terminal()
LIBRARY.addHandler(_TERMINAL)
NEWS.setLevel(logging.DEBUG)


def say(text: str, quiet: bool = False) -> None:
    """A line of news on stderr, above a running progress bar; if ``quiet``, in the log alone."""
    NEWS.log(logging.DEBUG if quiet else logging.INFO, "%s", text)


@contextmanager
def logging_as_asked(*, verbose: bool = False, quiet: bool = False, file: Path | None = None) -> Iterator[None]:
    """Log as the options of a command ask, while it runs.

    Args:
        verbose: print everything on stderr.
        quiet: print errors only.
        file: everything goes to the end of this file too, with times.

    Raises:
        UserError: the file cannot be written.
    """
    with ExitStack() as undo:
        undo.callback(vars(_TERMINAL).update, verbose=_TERMINAL.verbose, quiet=_TERMINAL.quiet)
        undo.callback(LIBRARY.setLevel, LIBRARY.level)
        _TERMINAL.verbose, _TERMINAL.quiet = verbose, quiet
        LIBRARY.setLevel(logging.DEBUG if verbose or file else logging.INFO)
        if file is not None:
            try:
                handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise UserError(f"cannot write the log {file} ({reason}); choose another --log") from error
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
            LIBRARY.addHandler(handler)
            undo.callback(handler.close)
            undo.callback(LIBRARY.removeHandler, handler)
        yield


@contextmanager
def spoken(*modules: str) -> Iterator[None]:
    """Print what modules of the library say while they work, as the news of the command."""
    before = _TERMINAL.spoken
    _TERMINAL.spoken = modules
    try:
        yield
    finally:
        _TERMINAL.spoken = before
