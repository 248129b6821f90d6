"""Whose points a file of anamorph maps where: a line that other tools pass over."""

from __future__ import annotations

from anamorph.transforms.base import Roles, Transform

_TEXTS: dict[str, Roles] = {
    "anamorph: maps fixed points to moving points": ("fixed", "moving"),
    "anamorph: maps moving points to fixed points": ("moving", "fixed"),
}


def direction_text(transform: Transform) -> str:
    """The line of a transform; empty if it is not known to be of a registration."""
    return next((text for text, maps in _TEXTS.items() if maps == transform.maps), "")


def direction_in(text: str) -> Roles | None:
    """What such a line says; None if it is another one."""
    return _TEXTS.get(text)
