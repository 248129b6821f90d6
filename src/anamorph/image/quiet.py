"""Libraries that read files write to the terminal; what matters in that is checked here and said in one line."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

_LOGGERS = ("nibabel.global", "tifffile", "PIL", "pydicom")
_STDERR = 2


class _Shared:
    """A change to the whole process that lasts while any thread wants it.

    Args:
        change: makes it, and returns what undoes it.
    """

    def __init__(self, change: Callable[[], ExitStack]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._undo = self._change()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._undo.close()


def _silence_python() -> ExitStack:
    """Warnings and log messages of Python packages."""
    undo = ExitStack()
    undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return undo


def _silence_itk() -> ExitStack:
    """Warnings of ITK, and what the C libraries in it write to stderr themselves."""
    import SimpleITK as sitk

    undo = ExitStack()
    undo.callback(sitk.ProcessObject.SetGlobalWarningDisplay, sitk.ProcessObject.GetGlobalWarningDisplay())
    sitk.ProcessObject.GlobalWarningDisplayOff()
    with suppress(OSError):  # a process may have no stderr
        kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        undo.callback(os.close, kept)
        undo.callback(os.dup2, kept, _STDERR)
    return undo


_python, _itk = _Shared(_silence_python), _Shared(_silence_itk)


def quiet_libraries() -> AbstractContextManager[None]:
    """Keep warnings of Python packages from the terminal, for all threads."""
    return _python.entered()


def quiet_itk() -> AbstractContextManager[None]:
    """Keep warnings of ITK and of its C libraries from the terminal, for all threads."""
    return _itk.entered()
