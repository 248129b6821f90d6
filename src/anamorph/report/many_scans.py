"""Pages of what is made of many scans: a template, round by round, and the supervoxel layers that it is cut into."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image
from anamorph.report.charts import Chart, Curve, Drawing, drawn
from anamorph.report.cohort.tables import href
from anamorph.report.page import fill, inline_script, save
from anamorph.report.pictures import Window, ct_window, data_uri, enlarged, file_uri, reel_uri, robust_window, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views
from anamorph.supervoxels.layers import Layers

_TINT = 0.55  # share of the colour over the anatomy
_LINE = 0.35  # brightness of a border
_THUMBNAIL = 420
_REEL_SLICES = 64  # shown of each axis of a template
_GOLDEN = 0.618033988749895  # neighbouring numbers get hues far apart


@dataclass(frozen=True)
class Stage:
    """A template on its way; lengths in mm and changes are None at the start. All stages are on one grid."""

    name: str
    image: Image
    mean_field_rms_mm: float | None
    spread_mm: float | None
    change: float | None


@dataclass(frozen=True)
class ScanLine:
    """A scan registered to the final template: verdict, Dice with its labels, seconds, path parts of its report.

    ``headline`` holds both answers of the verdict, ``reasons`` says why it is not PASS.
    """

    key: str
    status: str
    dice: float | None
    seconds: float | None
    report: tuple[str, ...]
    headline: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class TemplateReport:
    """What the page shows.

    Args:
        title: of the page.
        stages: the start and every round.
        tolerance_mm: at which the mean field counts as zero.
        converged: whether it became so small.
        residual_rms_mm: mean field of the scans registered to the final template.
        scans: a line each.
        failed: why scans were left out.
    """

    title: str
    stages: Sequence[Stage]
    tolerance_mm: float
    converged: bool
    residual_rms_mm: float
    scans: Sequence[ScanLine]
    failed: Mapping[str, str] = field(default_factory=dict)


def write_template_page(path: str | os.PathLike[str], report: TemplateReport) -> None:
    """Write the page as one HTML file; all pictures are inside, reports of scans are linked.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, template_page(report))


def template_page(report: TemplateReport) -> str:
    """The page as text."""
    last = report.stages[-1].image
    views = orthogonal_views(last.grid, focus_voxel(last))
    slices = [view.take_image(last) for view in views]
    window = ct_window(slices) if looks_like_ct(last) else robust_window(slices)
    pictures = [
        [_Picture(view, data_uri(enlarged(to_grey(view.take_image(stage.image), window)))) for view in views]
        for stage in report.stages
    ]
    return fill(
        "template.html.j2",
        report=report,
        pictures=pictures,
        reels=[_reel(view, last, window) for view in views if view.grid.shape[view.axis] > 1],
        convergence=_convergence(report),
        links={line.key: href(os.path.join(*line.report)) for line in report.scans},
        has_dice=any(line.dice is not None for line in report.scans),
        **inline_script("reel.js"),
    )


@dataclass(frozen=True)
class _Reel:
    """Slices along one axis below each other in one picture, which a page shows one at a time."""

    view: View
    source: str
    numbers: list[int]
    """Of the slices, counted from 1."""
    first: int
    """Place of the slice that is seen first."""


def _reel(view: View, image: Image, window: Window) -> _Reel:
    count = image.grid.shape[view.axis]
    chosen = sorted({round(n) for n in np.linspace(0, count - 1, min(count, _REEL_SLICES))})
    slices = [to_grey(replace(view, index=index).take_image(image), window) for index in chosen]
    first = int(np.argmin([abs(index - view.index) for index in chosen]))
    return _Reel(view, reel_uri(slices), [index + 1 for index in chosen], first)


def _convergence(report: TemplateReport) -> Drawing | None:
    """The lengths of the mean and of the single fields in every iteration; None before the second iteration."""
    rounds = [stage for stage in report.stages if stage.mean_field_rms_mm is not None]
    if len(rounds) < 2:
        return None
    courses = [
        Curve("mean field", [stage.mean_field_rms_mm or 0.0 for stage in rounds]),
        Curve("single fields", [stage.spread_mm or 0.0 for stage in rounds]),
        Curve("limit of the mean field", [report.tolerance_mm] * len(rounds), dashed=True),
    ]
    return drawn(Chart("Convergence", "mm", courses), range(1, len(rounds) + 1), "iteration")


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
    save(path, layers_page(report))


def layers_page(report: LayersReport) -> str:
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
