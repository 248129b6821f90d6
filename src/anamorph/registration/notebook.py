"""What a result looks like in a notebook: a few lines with two pictures, and a view to scroll through."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from anamorph.errors import UserError
from anamorph.image.image import Image
from anamorph.registration.figure import Cut
from anamorph.registration.page import title_of
from anamorph.report.pictures import data_uri, fuse

if TYPE_CHECKING:
    from anamorph.registration.result import Result

MOST_REASONS = 5
BADGES = {"PASS": "#1a7f37", "WARN": "#9a6700", "FAIL": "#cf222e"}


def summary_html(result: Result) -> str:
    """Verdict, numbers and one picture, which need nothing else and follow the colours of the notebook."""
    judged = result.verdict
    numbers = [
        (column.heading, result.metrics.before.mean(column.name), result.metrics.after.mean(column.name))
        for column in result.metrics.columns()
        if column.metric.prominence != "file"
    ]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{'' if before is None else f'{before:.3g}'}</td>"
        f"<td>{'' if after is None else f'{after:.3g}'}</td></tr>"
        for name, before, after in numbers
    )
    badge = (
        f'<span style="background:{BADGES[judged.status]};color:#fff;border-radius:4px;padding:1px 7px;'
        f'font-weight:600">{judged.status}</span>'
    )
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in judged.reasons[:MOST_REASONS])
    return (
        f"<div><b>{escape(title_of(result.inputs))}</b><br>{badge} {escape(judged.headline)}"
        f"{f'<ul>{reasons}</ul>' if reasons else '<br>'}{_pictures(result)}"
        f"<table><tr><th></th><th>before</th><th>after</th></tr>{rows}</table>"
        f"<small>{escape(result.plan.name)}, preset {escape(result.plan.preset)}, "
        f"{sum(result.timings.values()):.1f} s. <code>plot()</code> draws a figure for a paper, <code>report()</code> "
        f"the whole page{_scroll_hint()}.</small></div>"
    )


def view(result: Result, height_px: int = 420) -> Any:
    """The scans in NiiVue, to scroll through: a widget; errors as of :meth:`Result.view`."""
    if find_spec("ipyniivue") is None:
        raise UserError("the interactive view needs ipyniivue; install it: pip install 'anamorph[notebook]'")
    from ipyniivue import NiiVue, Volume

    fixed, warped = result.fixed, result.warped
    here, there = Cut.through(result).windows
    shown = [("fixed", fixed, "gray", here, 1.0), ("warped", warped, "gray", there, 0.5)]
    # The patient's right on the left, as in the report and in figures.
    shown_as = {"is_radiological_convention": True, "sagittal_nose_left": True, "crosshair_width": 0.3}
    widget = NiiVue(height=height_px, **shown_as)
    widget.volumes = [
        Volume(
            data=_file_of(image),
            name=f"{name}.nii",
            colormap=colours,
            cal_min=window[0],
            cal_max=window[1],
            opacity=opacity,
        )
        for name, image, colours, window, opacity in shown
    ]
    return widget


def _file_of(image: Image) -> bytes:
    """The first channel as the bytes of a NIfTI file."""
    return Image(image.data[:1], image.grid, image.name).to_nibabel().to_bytes()


def _scroll_hint() -> str:
    return "" if find_spec("ipyniivue") is None else ", <code>view()</code> the scans to scroll through"


def _pictures(result: Result) -> str:
    """Fixed in green and moving in magenta on one slice, before and after."""
    cut = Cut.through(result)
    height_px = round(min(200.0, 330.0 * cut.view.height_mm / cut.view.width_mm))
    width_px = round(height_px * cut.view.width_mm / cut.view.height_mm)
    return "".join(
        f'<figure style="display:inline-block;margin:6px 8px 0 0">'
        f'<img src="{data_uri(fuse(cut.grey["fixed"], cut.grey[side]))}" alt="{cut.view.name} slice, {side}" '
        f'style="width:{width_px}px;height:{height_px}px"><figcaption>{side}</figcaption></figure>'
        for side in ("before", "after")
    )
