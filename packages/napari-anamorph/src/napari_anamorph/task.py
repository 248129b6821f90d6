"""A registration in a thread of its own, which says how far it is and can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QObject, Signal


class Stopped(Exception):
    """The user stopped the registration."""


class Task(QObject):
    """One registration of two scans.

    Args:
        fixed: a scan.
        moving: the scan to bring to it.
        options: further arguments of :func:`anamorph.register`.
    """

    progressed = Signal(str, float)

    def __init__(self, fixed: Any, moving: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.fixed, self.moving, self.options = fixed, moving, dict(options)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the registration to end; it does at its next step."""
        self._stop.set()

    def run(self) -> Any:
        """Register, and measure the result.

        Raises:
            Stopped: :meth:`stop` was called.
            UserError: the scans or the options are wrong.
            RegistrationFailure: the registration failed.
        """
        from anamorph import register

        result = register(self.fixed, self.moving, progress=self._tell, **self.options)
        self._tell("evaluation", 1.0)
        result.measure()
        return result

    def _tell(self, stage: str, fraction: float) -> None:
        if self._stop.is_set():
            raise Stopped
        self.progressed.emit(stage, fraction)
