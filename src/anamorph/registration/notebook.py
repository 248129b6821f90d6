"""What a result looks like in a notebook: a figure, and a few lines."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from anamorph.image.background import background_value, looks_like_ct
from anamorph.registration.folder import title_of
from anamorph.report.pictures import data_uri, fuse, pair_windows, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anamorph.registration.result import Result

FIGURE_WIDTH_IN = 9.0


def plot(result: Result) -> Figure:
    """Before and after registration in three views, with the deformed grid and the labels of the fixed scan."""
    from matplotlib.figure import Figure

    views, overlays = _overlays(result)
    tallest = max(view.height_mm / view.width_mm for view in views)
    width = FIGURE_WIDTH_IN / len(views)
    figure = Figure(figsize=(FIGURE_WIDTH_IN, 2 * width * tallest + 0.6), layout="constrained")
    for row, side in enumerate(("before", "after")):
        for column, view in enumerate(views):
            axes = figure.add_subplot(2, len(views), 1 + column + row * len(views))
            axes.imshow(overlays[side][column], extent=(0, view.width_mm, view.height_mm, 0))
            if result.inputs.fixed_labels is not None:
                shown = view.take_image(result.inputs.fixed_labels, "nearest")
                axes.contour(
                    np.linspace(0, view.width_mm, shown.shape[1]),
                    np.linspace(0, view.height_mm, shown.shape[0]),
                    shown > 0,
                    levels=[0.5],
                    colors="gold",
                    linewidths=0.8,
                )
            axes.set_title(f"{view.name}, {side}", fontsize=9)
            axes.set_axis_off()
    figure.suptitle(f"{title_of(result.inputs)}: fixed green, moving magenta", fontsize=10)
    return figure


def summary_html(result: Result) -> str:
    """A few lines and one picture that need nothing else."""
    views, overlays = _overlays(result)
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
    pictures = "".join(
        f'<figure style="display:inline-block;margin:0 8px 0 0"><img src="{data_uri(overlays[side][0])}" '
        f'style="height:160px" alt="{views[0].name}, {side}"><figcaption>{side}</figcaption></figure>'
        for side in ("before", "after")
    )
    return (
        f"<div><b>{escape(title_of(result.inputs))}</b><br>{judged.status}: {escape(judged.headline)}<br>{pictures}"
        f"<table><tr><th></th><th>before</th><th>after</th></tr>{rows}</table></div>"
    )


def _overlays(result: Result) -> tuple[list[View], dict[str, list[np.ndarray]]]:
    """The views, and both scans on each of them, before and after."""
    fixed, moving, warped = result.fixed, result.moving, result.warped
    points = result.inputs.pair.fixed_points
    focus = focus_voxel(fixed, result.inputs.fixed_labels, points, result.pair.fixed_to_moving)
    views = orthogonal_views(fixed.grid, focus)
    fill = background_value(moving)
    below = [view.take_image(fixed) for view in views]
    above = {
        "before": [view.take_image(moving, fill=fill) for view in views],
        "after": [view.take_image(warped) for view in views],
    }
    windows = pair_windows(below, above["after"], looks_like_ct(fixed) and looks_like_ct(moving))
    return views, {
        side: [fuse(to_grey(a, windows[0]), to_grey(b, windows[1])) for a, b in zip(below, slices, strict=True)]
        for side, slices in above.items()
    }
