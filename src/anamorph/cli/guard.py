"""Every way a command can end badly, as one line and an exit code; notes of the error follow."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import typer

from anamorph.cli.console import plain
from anamorph.errors import AnamorphError
from anamorph.image.quiet import quiet_libraries

INTERRUPTED = 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn exceptions of a command into ``error: ...`` on stderr: exit code 2 the user's mistake, 1 a failure."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with nullcontext() if debugging() else quiet_libraries():
                command(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            _stop(str(interrupt) or "interrupted; nothing was written", INTERRUPTED)
        except AnamorphError as error:
            _stop(f"error: {error}", error.exit_code, error)
        except MemoryError as error:
            _stop("error: memory ran out; lower --max-memory, or crop the scans", 1, error)
        except OSError as error:
            reason = error.strerror or str(error)
            place = f" ({error.filename})" if error.filename else ""
            _stop(f"error: {reason.lower()}{place}", 1, error)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            hint = "this is a fault of anamorph; run again with ANAMORPH_DEBUG=1 for the traceback"
            _stop(f"error: {type(error).__name__}: {text}; {hint}", 1, error)

    return run


def debugging() -> bool:
    """Whether the user asked for tracebacks and for what libraries say."""
    return os.environ.get("ANAMORPH_DEBUG", "0") not in ("", "0")


def _stop(line: str, exit_code: int, error: Exception | None = None) -> None:
    if error is not None and debugging():
        raise error
    print(*map(plain, (" ".join(line.splitlines()), *getattr(error, "__notes__", ()))), sep="\n", file=sys.stderr)
    raise typer.Exit(exit_code)
