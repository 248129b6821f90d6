"""Types that all layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[str, float], None]
"""Called as ``progress(stage, fraction)`` with the fraction of the whole run that is done."""


class GraveWarning(str):
    """A warning that says that a result must not be used: with it a verdict is FAIL."""

    __slots__ = ()
