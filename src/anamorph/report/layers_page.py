"""The page of supervoxel layers: how the template is cut, and how the scans were registered to it."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image
from anamorph.report.page import fill, save
from anamorph.report.pictures import ct_window, data_uri, enlarged, file_uri, robust_window, to_grey
from anamorph.report.views import View, orthogonal_views
from anamorph.supervoxels.layers import Layers

_TINT = 0.55  # share of the colour over the anatomy
_LINE = 0.35  # brightness of a border
_THUMBNAIL = 420
_GOLDEN = 0.618033988749895  # neighbouring numbers get hues far apart


@dataclass(frozen=True)
class ScanRow:
    """A scan that was registered to the template: a cell per column of the table, and a picture of the two."""

    key: str
    cells: tuple[str, ...]
    picture: Path | None = None


@dataclass(frozen=True)
class LayersReport:
    """What the page shows.

    Args:
        title: of the page.
        image: the template.
        layers: of the template.
        facts: names and values of how it was made.
        columns: of the table of scans, without the key.
        scans: its rows.
        notes: below the heading.
    """

    title: str
    image: Image
    layers: Layers
    facts: Sequence[tuple[str, str]] = ()
    columns: tuple[str, ...] = ()
    scans: Sequence[ScanRow] = ()
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class _Picture:
    view: View
    source: str


@dataclass(frozen=True)
class _Card:
    title: str
    pictures: list[_Picture]
    caption: str


def write_layers_page(path: str | os.PathLike[str], report: LayersReport) -> None:
    """Write the page as one HTML file; all pictures are inside.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(report))


def render(report: LayersReport) -> str:
    """The page as text."""
    layers = report.layers
    views = orthogonal_views(layers.grid, _middle(layers))
    grey = [_grey(report.image, views)[view.name] for view in views]
    voxel_ml = float(abs(np.linalg.det(layers.grid.affine[:3, :3]))) / 1000
    cards = [_Card("Template", [_Picture(v, data_uri(enlarged(g))) for v, g in zip(views, grey, strict=True)], "")]
    for number, labels in enumerate(layers.labels, 1):
        painted = [_Picture(v, data_uri(paint(v.take(labels), g))) for v, g in zip(views, grey, strict=True)]
        cards.append(_Card(f"Layer {number}", painted, _sizes(labels, voxel_ml)))
    facts = [*report.facts, ("distinct places", _uniqueness(layers))]
    pictures = {row.key: file_uri(row.picture, _THUMBNAIL) for row in report.scans if row.picture is not None}
    return fill("layers.html.j2", report=report, cards=cards, facts=facts, pictures=pictures)


def paint(labels: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Supervoxels of a ``(rows, columns)`` slice in colour over the anatomy, with dark borders, enlarged."""
    labels, shade = enlarged(labels), enlarged(grey)[..., None].astype(np.float32)
    colours = _colours()[labels]
    mixed = np.where(labels[..., None] > 0, (1 - _TINT) * shade + _TINT * colours, shade)
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return (mixed * np.where(border, _LINE, 1)[..., None]).astype(np.uint8)


@cache
def _colours() -> np.ndarray:
    """``(256, 3)`` colours by label, bright enough to differ from each other on grey."""
    rows = [colorsys.hsv_to_rgb((n * _GOLDEN) % 1, 0.55 + 0.15 * (n % 4), 0.75 + 0.25 * (n % 2)) for n in range(256)]
    return (np.array(rows) * 255).astype(np.float32)


def _grey(image: Image, views: list[View]) -> dict[str, np.ndarray]:
    slices = {view.name: view.take_image(image) for view in views}
    window = ct_window(slices.values()) if looks_like_ct(image) else robust_window(slices.values())
    return {name: to_grey(values, window) for name, values in slices.items()}


def _middle(layers: Layers) -> tuple[int, int, int]:
    """The voxel amid the supervoxels."""
    inside = layers.labels[0] > 0
    middle = []
    for axis in range(3):
        share = np.cumsum(inside.sum(axis=tuple(a for a in range(3) if a != axis)))
        middle.append(int(np.searchsorted(share, share[-1] / 2)))
    return middle[0], middle[1], middle[2]


def _sizes(labels: np.ndarray, voxel_ml: float) -> str:
    counts = np.bincount(labels.ravel())[1:]
    counts = counts[counts > 0]
    if not counts.size:
        return "no supervoxels"
    low, middle, high = np.percentile(counts * voxel_ml, (0, 50, 100))
    return f"{counts.size} supervoxels of {low:.3g} to {high:.3g} ml, median {middle:.3g}"


def _uniqueness(layers: Layers) -> str:
    """How many voxels share all their numbers: what is left undecided once every layer is known."""
    inside = layers.labels[:, layers.labels[0] > 0]
    if not inside.size:
        return "none"
    rows = np.ascontiguousarray(inside.T).view(f"V{layers.count}").ravel()
    counts = np.unique(rows, return_inverse=True, return_counts=True)
    return f"{np.median(counts[2][counts[1]]):.0f} voxels (median) share their numbers in all {layers.count} layers"
