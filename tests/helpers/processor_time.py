"""The clock of tests about speed: other work on the machine does not make it run faster."""

from __future__ import annotations

import psutil


def processor_seconds() -> float:
    """Processor time of this process and of its children so far, those that have ended and those that live."""
    me = psutil.Process()
    own = me.cpu_times()
    living = [child.cpu_times() for child in me.children(recursive=True)]
    return sum(
        t.user + t.system + getattr(t, "children_user", 0.0) + getattr(t, "children_system", 0.0)
        for t in (own, *living)
    )
