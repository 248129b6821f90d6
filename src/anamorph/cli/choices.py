"""The names that options take, looked up when ``--help`` shows them or the shell completes them."""

from __future__ import annotations

from collections.abc import Callable


def _methods() -> list[str]:
    from anamorph.methods import METHODS

    return [*METHODS]


def _presets() -> list[str]:
    from anamorph.methods.presets import SHARED

    return ["auto", "default", *SHARED]


def _formats() -> list[str]:
    from anamorph.transforms.files import FORMATS

    return [*FORMATS]


def _importers() -> list[str]:
    from anamorph.data.importers import IMPORTERS

    return [*IMPORTERS]


CHOICES: dict[str, Callable[[], list[str]]] = {
    "method": _methods,
    "preset": _presets,
    "transform_format": _formats,
    "layout": _importers,
    "device": lambda: ["auto", "cpu", "cuda"],
    "fail_on": lambda: ["warn", "fail"],
}
"""By the names of the parameters of the commands."""
