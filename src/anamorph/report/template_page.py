"""The page of a template: what it looked like round by round, how far it moved, and the scans it was made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image
from anamorph.report.cohort.tables import href
from anamorph.report.page import fill, save
from anamorph.report.pictures import ct_window, data_uri, enlarged, robust_window, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views


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

    ``headline`` holds both answers of the verdict.
    """

    key: str
    status: str
    dice: float | None
    seconds: float | None
    report: tuple[str, ...]
    headline: str = ""


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


@dataclass(frozen=True)
class _Picture:
    view: View
    source: str


def write_template_page(path: str | os.PathLike[str], report: TemplateReport) -> None:
    """Write the page as one HTML file; all pictures are inside, reports of scans are linked.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(report))


def render(report: TemplateReport) -> str:
    """The page as text."""
    last = report.stages[-1].image
    views = orthogonal_views(last.grid, focus_voxel(last))
    slices = [view.take_image(last) for view in views]
    window = ct_window(slices) if looks_like_ct(last) else robust_window(slices)
    pictures = [
        [_Picture(view, data_uri(enlarged(to_grey(view.take_image(stage.image), window)))) for view in views]
        for stage in report.stages
    ]
    links = {line.key: href(os.path.join(*line.report)) for line in report.scans}
    has_dice = any(line.dice is not None for line in report.scans)
    return fill("template.html.j2", report=report, pictures=pictures, links=links, has_dice=has_dice)
