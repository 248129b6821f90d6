"""Lines of a report as paths of an SVG, sharp at any size: over a view in millimetres, and curves of objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.report.views import View

GRID_LINES = 24
MOST_POINTS = 40_000
"""Of all lines of one grid: ten times as many as a smooth deformation needs, and as many as a picture can show."""
FARTHEST = 10
"""Times the longest side of a view that lines are drawn beyond its middle."""
_GRID_SAMPLES = 128
_FEWEST_CORNERS = 24
"""Of a line of the anatomy; shorter ones are specks."""


def outline(mask: np.ndarray, view: View) -> str:
    """Outline of a ``(rows, columns)`` mask."""
    return "".join(_path(_corners(line), closed=True) for line in contours_mm(mask, view))


def anatomy(grey: np.ndarray, view: View) -> str:
    """Lines between dark and bright of an 8-bit grey slice ``(rows, columns)``, smoothed so that few are left."""
    from PIL import Image as Picture
    from PIL import ImageFilter

    smooth = np.asarray(Picture.fromarray(np.ascontiguousarray(grey)).filter(ImageFilter.GaussianBlur(1.5)))
    mask = smooth > _between(smooth)
    lines = [line for line in contours_mm(mask, view) if len(line) >= _FEWEST_CORNERS]
    return "".join(_path(_corners(line), closed=True) for line in lines)


def _between(grey: np.ndarray) -> int:
    """The 8-bit value that parts dark from bright best (Otsu, IEEE Trans. SMC 1979)."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (sums[-1] * below - below[-1] * sums) ** 2 / (below * (below[-1] - below))
    return int(np.argmax(np.nan_to_num(apart)))


def contours_mm(mask: np.ndarray, view: View) -> list[np.ndarray]:
    """Closed lines around a ``(rows, columns)`` mask as ``(N, 2)`` distances from its left and its upper edge."""
    import contourpy

    padded = np.pad(mask, 1).astype(np.float32)
    height, width = view.pixel_mm
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    return [(np.asarray(line) - 0.5) * (width, height) for line in lines]


def line_distance_mm(views: list[tuple[View, np.ndarray]]) -> float:
    """A round distance that puts about 24 grid lines across the longest side of the views.

    It is larger where the field is so wild that the lines would have more than :data:`MOST_POINTS`: lines of a distance
    meet the samples as often as the positions of neighbours differ by it.

    Args:
        views: each with the ``(3, I, J, K)`` displacement in voxels on it.
    """
    distance_mm = max(max(view.height_mm, view.width_mm) for view, _ in views) / GRID_LINES
    for view, disp_vox in views:
        steps_mm = (
            np.abs(np.ma.diff(place, axis=axis)).sum() for place in _positions(disp_vox, view)[2] for axis in (0, 1)
        )
        distance_mm = max(distance_mm, sum(float(step) for step in steps_mm if step is not np.ma.masked) / MOST_POINTS)
    power = 10.0 ** np.floor(np.log10(distance_mm))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= distance_mm))


def deformed_grid(disp_vox: np.ndarray, view: View, distance_mm: float) -> str:
    """How a regular grid drawn on the moving scan looks once it is warped: :func:`grid_lines_mm` as a path."""
    return "".join(_path(line, closed=False) for line in grid_lines_mm(disp_vox, view, distance_mm))


def grid_lines_mm(disp_vox: np.ndarray, view: View, distance_mm: float) -> list[np.ndarray]:
    """Lines of equal moving position as ``(N, 2)`` distances from the left and the upper edge of a view.

    Args:
        disp_vox: ``(3, I, J, K)`` fixed-to-moving displacement on the view's slice, in voxels of its grid.
        view: the slice.
        distance_mm: between the lines, on the moving scan.
    """
    import contourpy

    x, y, positions = _positions(disp_vox, view)
    found = []
    for position in positions:
        if not position.count():
            continue
        generator = contourpy.contour_generator(x, y, position)
        levels = np.arange(np.ceil(position.min() / distance_mm), np.floor(position.max() / distance_mm) + 1)
        for level in levels:
            found += [np.asarray(line) for line in generator.lines(level * distance_mm)]
    return found


def _positions(disp_vox: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray, list[np.ma.MaskedArray]]:
    """Samples of a view to the right and down in mm, and how far to the right and down each lies on the moving scan.

    What is not finite, or :data:`FARTHEST` times the view away from the middle one, is masked.
    """
    rows, columns = view.pixels
    height, width = view.pixel_mm
    step = max(1, round(rows / _GRID_SAMPLES)), max(1, round(columns / _GRID_SAMPLES))
    y, x = ((np.arange(0, n, s) + 0.5) * mm for n, s, mm in zip(view.pixels, step, (height, width), strict=True))
    right, down = (u[:: step[0], :: step[1]].astype(np.float64) for u in view.screen_displacement_mm(disp_vox))
    farthest_mm = FARTHEST * max(view.height_mm, view.width_mm)
    moved = [np.ma.fix_invalid(place, fill_value=0) for place in (x[None] + right, y[:, None] + down)]
    return x, y, [np.ma.masked_where(np.abs(place - np.ma.median(place)) > farthest_mm, place) for place in moved]


def _corners(line: np.ndarray) -> np.ndarray:
    """A closed line without the points on its straight runs."""
    points = line[:-1]
    ahead, behind = np.roll(points, -1, axis=0) - points, points - np.roll(points, 1, axis=0)
    return points[np.abs(ahead[:, 0] * behind[:, 1] - ahead[:, 1] * behind[:, 0]) > 1e-9]


def _path(points_mm: np.ndarray, closed: bool) -> str:
    if len(points_mm) < 2:
        return ""
    return "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in points_mm) + ("Z" if closed else "")


WIDTH, HEIGHT = 300.0, 90.0
CURVE_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """An objective over its iterations, ready to draw in a box of 300 x 90, and the ends of both its axes."""

    name: str
    path: str
    first: str
    last: str
    low: str
    high: str
    iterations: int


def curve(name: str, values: Sequence[float]) -> Curve | None:
    """The line through a series; None without two finite values. Values that are not finite leave a gap."""
    finite = [float(v) for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return None
    low, high = min(finite), max(finite)
    height = (high - low) or 1.0
    step = max(1, len(values) // CURVE_POINTS)
    kept = sorted({*range(0, len(values), step), len(values) - 1})
    path, pen_down = "", False
    for index in kept:
        value = float(values[index])
        if math.isfinite(value):
            x, y = WIDTH * index / (len(values) - 1), HEIGHT * (high - value) / height
            path += f"{'L' if pen_down else 'M'}{x:.1f},{y:.1f}"
        pen_down = math.isfinite(value)
    first, last, lowest, highest = (f"{value:.4g}" for value in (finite[0], finite[-1], low, high))
    return Curve(name, path, first, last, lowest, highest, len(values))
