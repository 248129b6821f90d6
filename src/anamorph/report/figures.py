"""What a page shows of a view: pictures, lines over them, and views side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from anamorph.image.image import Labels
from anamorph.report.colours import ColourScale
from anamorph.report.lines import outline
from anamorph.report.views import View


@dataclass(frozen=True)
class Layer:
    """One picture of a view; ``mode`` and ``side`` say when the page shows it."""

    source: str
    mode: str = ""
    side: str = ""


@dataclass(frozen=True)
class Line:
    """One SVG path over a view, in mm."""

    path: str
    kind: str
    colour: str = ""


@dataclass
class Figure:
    """One view with everything that is drawn on it."""

    view: View
    layers: list[Layer] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """The same kind of picture in all views; ``columns`` is how they are arranged."""

    title: str
    caption: str
    columns: list[list[Figure]]
    scale: ColourScale | None = None
    unit: str = ""


Grey = Mapping[str, np.ndarray]
"""8-bit grey slices of one view: ``fixed``, and the moving scan ``before`` and ``after``."""


def label_outlines(labels: Labels, view: View, kind: str, painted: Mapping[int, str]) -> list[Line]:
    """Outlines of the labels that have a colour.

    Args:
        labels: on any grid.
        view: over which they are drawn.
        kind: of the lines.
        painted: CSS colours by label.
    """
    shown = view.take_image(labels, "nearest")
    values = [int(value) for value in np.unique(shown) if int(value) in painted]
    return [Line(outline(shown == value, view), kind, painted[value]) for value in values]
