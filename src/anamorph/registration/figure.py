"""A figure of a result that is fit for a paper: one slice in several panels, with axes in mm and sharp lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from matplotlib.figure import Figure

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.background import background_value, looks_like_ct
from anamorph.image.image import Labels
from anamorph.registry import closest
from anamorph.report.colours import FOLD_COLOUR, ColourScale, jacobian_scale, label_colour, magnitude_scale
from anamorph.report.lines import contours_mm, grid_lines_mm, line_distance_mm
from anamorph.report.pictures import Window, checkerboard, fuse, pair_windows, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anamorph.registration.result import Result

PRINT_DPI, SCREEN_DPI = 300, 100
WIDTH_IN = 7.2
"""The width of a page of two columns: 183 mm."""
IN_A_ROW = 3
BESIDE_IN, MOST_ASPECT = 0.55, 2.0
"""What title, numbers and colour bar take beside a picture, and how many times as high as wide it may be."""
OBLIQUE = 0.02
"""Sine of the angle from which on a row of voxels no longer follows an axis of the world."""

Plane = Literal["axial", "coronal", "sagittal"]
Panel = Literal["fixed", "moving", "warped", "before", "after", "checkerboard", "grid", "jacobian", "displacement"]


class PaperFigure(Figure):
    """A figure that is saved at 300 dots per inch, its text as text, and that a notebook shows by itself."""

    def savefig(self, fname: Any, **options: Any) -> None:
        from matplotlib import rc_context

        with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):
            super().savefig(fname, **({"dpi": PRINT_DPI} | options))

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=SCREEN_DPI)
        return buffer.getvalue()


def plot(
    result: Result, plane: Plane | None, slice_mm: float | None, panels: Sequence[Panel], labels: bool
) -> PaperFigure:
    """One slice of a result in several panels; arguments and errors as of :meth:`Result.plot`."""
    _refuse_unknown("panel", panels, get_args(Panel))
    if not panels:
        raise UserError(f"there is no panel to draw; give some of: {', '.join(get_args(Panel))}")
    cut = Cut.through(result, plane, slice_mm, labels)
    columns = min(len(panels), IN_A_ROW)
    rows = math.ceil(len(panels) / columns)
    shown = {cut.moving_view if name == "moving" else cut.view for name in panels}
    tallest = min(max(view.height_mm / view.width_mm for view in shown), MOST_ASPECT)
    height_in = rows * ((WIDTH_IN / columns - BESIDE_IN) * tallest + BESIDE_IN)
    figure = PaperFigure(figsize=(WIDTH_IN, height_in), dpi=SCREEN_DPI, layout="compressed")
    for number, name in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, number)
        DRAWN[name](axes, cut)
    return figure


def _refuse_unknown(what: str, given: Sequence[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"there is no {what} '{name}'{closest(name, known)}; choose of: {', '.join(known)}")


def _view(result: Result, plane: Plane | None, slice_mm: float | None) -> View:
    """The slice of the fixed scan: through what matters, or at a place along the normal of the plane."""
    _refuse_unknown("plane", [plane or "axial"], get_args(Plane))
    grid = result.fixed.grid
    focus = focus_voxel(
        result.fixed, result.inputs.fixed_labels, result.inputs.pair.fixed_points, result.pair.fixed_to_moving
    )
    views = {view.name: view for view in orthogonal_views(grid, focus)}
    view = next(iter(views.values())) if plane is None else views.get(plane)
    if view is None:
        raise UserError(f"the fixed scan has no {plane} slices, being a single slice; choose: {', '.join(views)}")
    if slice_mm is None:
        return view
    along = grid.affine[:3, view.axis]
    world = int(np.abs(along).argmax())
    place = grid.voxel_to_world(np.array(focus, float))
    index = focus[view.axis] + round(float((slice_mm - place[world]) / along[world]))
    if not 0 <= index < grid.shape[view.axis]:
        ends = sorted(place[world] + (end - focus[view.axis]) * along[world] for end in (0, grid.shape[view.axis] - 1))
        raise UserError(
            f"the fixed scan has no {view.name} slice at {slice_mm:g} mm, only from {ends[0]:.1f} to {ends[1]:.1f} mm"
        )
    centre = list(focus)
    centre[view.axis] = index
    return next(one for one in orthogonal_views(grid, (centre[0], centre[1], centre[2])) if one.name == view.name)


@dataclass(frozen=True)
class Cut:
    """A slice of a result: the view, and what several panels show."""

    result: Result
    view: View
    with_labels: bool = False

    @classmethod
    def through(
        cls, result: Result, plane: Plane | None = None, slice_mm: float | None = None, with_labels: bool = False
    ) -> Cut:
        """A slice by its plane and place; by default axial, through what matters."""
        return cls(result, _view(result, plane, slice_mm), with_labels)

    @cached_property
    def moving_view(self) -> View:
        """The slice of the moving scan through the place where the middle of the fixed slice is found."""
        grid = self.view.grid
        middle = np.array([(n - 1) / 2 for n in grid.shape])
        middle[self.view.axis] = self.view.index
        place = self.result.fixed_to_moving.map_world(grid.voxel_to_world(middle[None]))
        moving = self.result.moving.grid
        i, j, k = np.clip(np.rint(moving.world_to_voxel(place)[0]), 0, np.array(moving.shape) - 1).astype(int)
        views = orthogonal_views(moving, (int(i), int(j), int(k)))
        return next((view for view in views if view.name == self.view.name), views[0])

    @cached_property
    def slices(self) -> dict[str, np.ndarray]:
        """The fixed scan, the moving scan on its own grid, before and after."""
        moving = self.result.moving
        return {
            "fixed": self.view.take_image(self.result.fixed),
            "moving": self.moving_view.take_image(moving),
            "before": self.view.take_image(moving, fill=background_value(moving)),
            "after": self.view.take_image(self.result.warped),
        }

    @cached_property
    def windows(self) -> tuple[Window, Window]:
        """The intensities to show of the fixed and of the moving scan."""
        both_ct = looks_like_ct(self.result.fixed) and looks_like_ct(self.result.moving)
        return pair_windows([self.slices["fixed"]], [self.slices["moving"], self.slices["after"]], both_ct)

    @cached_property
    def grey(self) -> dict[str, np.ndarray]:
        """Those slices as 8-bit grey values."""
        here, there = self.windows
        return {name: to_grey(values, here if name == "fixed" else there) for name, values in self.slices.items()}

    @cached_property
    def disp_vox(self) -> np.ndarray:
        """``(3, I, J, K)`` displacement on the slice, in voxels of the fixed grid."""
        return self.view.displacement(self.result.pair.fixed_to_moving).disp_vox

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Which colour each label has."""
        found = self.result.inputs.fixed_labels or self.result.inputs.moving_labels
        return {} if found is None else {name: rank for rank, name in enumerate(found.present())}


def _picture(axes: Axes, cut: Cut, title: str, picture: np.ndarray, view: View | None = None, **shown: Any) -> Any:
    """A slice with its axes: millimetres of the world, and the letters of its edges."""
    view = view or cut.view
    left, right = _edges_mm(view.grid, view.right, view.index, view.axis)
    top, bottom = _edges_mm(view.grid, view.down, view.index, view.axis)
    if picture.ndim == 2 and "cmap" not in shown:
        shown |= {"cmap": "gray", "vmin": 0, "vmax": 255}
    image = axes.imshow(picture, extent=(left, right, bottom, top), interpolation="none", aspect="auto", **shown)
    axes.set_box_aspect(view.height_mm / view.width_mm)
    axes.set_title(title, fontsize=7.5)
    axes.tick_params(labelsize=6, length=2)
    axes.set_xlabel("mm", fontsize=6, labelpad=1)
    axes.set_ylabel("mm", fontsize=6, labelpad=1)
    places = ((0.02, 0.5, "left"), (0.98, 0.5, "right"), (0.5, 0.98, "center"), (0.5, 0.02, "center"))
    vertical = ("center", "center", "top", "bottom")
    for letter, (x, y, side), height in zip(view.letters, places, vertical, strict=True):
        style: dict[str, Any] = {"color": "white", "fontsize": 7, "fontweight": "bold", "ha": side, "va": height}
        text = axes.text(x, y, letter, transform=axes.transAxes, **style)
        text.set_path_effects(_outlined())
    return image


def _outlined() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.5, foreground="black")]


def _edges_mm(grid: Grid, along: tuple[int, int], index: int, normal: int) -> tuple[float, float]:
    """World coordinates of the first and the last edge of a slice along one of its axes; from 0 on an oblique grid."""
    axis, sign = along
    step = grid.affine[:3, axis]
    world = int(np.abs(step).argmax())
    length_mm = grid.shape[axis] * float(grid.spacing_mm[axis])
    if np.abs(np.delete(step, world)).max() > OBLIQUE * float(grid.spacing_mm[axis]):
        return 0.0, length_mm
    place = np.zeros(3)
    place[normal] = index
    ends = []
    for end in (-0.5, grid.shape[axis] - 0.5):
        place[axis] = end
        ends.append(float(grid.voxel_to_world(place[None])[0, world]))
    return (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])


def _lines(axes: Axes, lines_mm: list[np.ndarray], view: View, **style: Any) -> None:
    """Lines in distances from the left and the upper edge, kept inside the slice."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for line in lines_mm:
        x = left + line[:, 0] / view.width_mm * (right - left)
        y = top + line[:, 1] / view.height_mm * (bottom - top)
        axes.plot(x, y, scalex=False, scaley=False, **style)


def _outlines(axes: Axes, cut: Cut, labels: Labels | None, view: View | None = None, dotted: bool = False) -> None:
    if labels is None or not cut.with_labels:
        return
    view = view or cut.view
    shown = view.take_image(labels, "nearest")
    for name, rank in cut.ranks.items():
        if (shown == name).any():
            style: dict[str, Any] = {"color": label_colour(rank), "linewidth": 0.8, "linestyle": ":" if dotted else "-"}
            _lines(axes, contours_mm(shown == name, view), view, **style)


def _fixed(axes: Axes, cut: Cut) -> None:
    _picture(axes, cut, "fixed", cut.grey["fixed"])
    _outlines(axes, cut, cut.result.inputs.fixed_labels)


def _moving(axes: Axes, cut: Cut) -> None:
    _picture(axes, cut, "moving", cut.grey["moving"], cut.moving_view)
    _outlines(axes, cut, cut.result.inputs.moving_labels, cut.moving_view)


def _warped(axes: Axes, cut: Cut) -> None:
    _picture(axes, cut, "moving, warped", cut.grey["after"])
    _outlines(axes, cut, _warped_labels(cut))


def _before(axes: Axes, cut: Cut) -> None:
    _picture(axes, cut, "before (fixed green, moving magenta)", fuse(cut.grey["fixed"], cut.grey["before"]))
    _outlines(axes, cut, cut.result.inputs.fixed_labels)
    _outlines(axes, cut, cut.result.inputs.moving_labels, dotted=True)


def _after(axes: Axes, cut: Cut) -> None:
    _picture(axes, cut, "after (grey where they agree)", fuse(cut.grey["fixed"], cut.grey["after"]))
    _outlines(axes, cut, cut.result.inputs.fixed_labels)
    _outlines(axes, cut, _warped_labels(cut), dotted=True)


def _checkerboard(axes: Axes, cut: Cut) -> None:
    squares = checkerboard(cut.grey["fixed"], cut.grey["after"], cut.view.pixel_mm)
    _picture(axes, cut, "fixed and warped by turns", squares)


def _grid(axes: Axes, cut: Cut) -> None:
    distance_mm = line_distance_mm([(cut.view, cut.disp_vox)])
    _picture(axes, cut, f"grid of {distance_mm:g} mm, warped", (cut.grey["after"] * 0.6).astype(np.uint8))
    lines = grid_lines_mm(cut.disp_vox, cut.view, distance_mm)
    _lines(axes, lines, cut.view, color="#ffd166", linewidth=0.5)


def _jacobian(axes: Axes, cut: Cut) -> None:
    found = cut.view.take(cut.view.determinants(cut.result.pair.fixed_to_moving))
    _painted(axes, cut, "change of volume (det J)", found, jacobian_scale([found]))
    if (found <= 0).any():
        folds = np.zeros((*found.shape, 4))
        folds[found <= 0] = (*(part / 255 for part in FOLD_COLOUR), 1)
        extent = (*axes.get_xlim(), *axes.get_ylim())
        axes.imshow(folds, extent=extent, interpolation="none", aspect="auto")


def _displacement(axes: Axes, cut: Cut) -> None:
    parts = np.stack([cut.view.take(part) for part in cut.disp_vox], axis=-1)
    size_mm = np.linalg.norm(parts @ cut.view.grid.affine[:3, :3].T, axis=-1)
    _painted(axes, cut, "displacement (mm)", size_mm, magnitude_scale([size_mm], "viridis", 1.0))


def _painted(axes: Axes, cut: Cut, title: str, values: np.ndarray, scale: ColourScale) -> None:
    """Numbers in colours that nothing is mixed into, with their bar."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import StrMethodFormatter

    norm = (LogNorm if scale.logarithmic else Normalize)(scale.low, scale.high, clip=True)
    image = _picture(axes, cut, title, np.where(values > 0, values, scale.low), cmap=scale.name, norm=norm)
    middle = math.sqrt(scale.low * scale.high) if scale.logarithmic else (scale.low + scale.high) / 2
    figure = axes.get_figure(root=True)
    assert figure is not None
    place = axes.inset_axes((1.03, 0, 0.045, 1))
    bar = figure.colorbar(image, cax=place, ticks=[scale.low, middle, scale.high])
    place.tick_params(labelsize=6, length=2)
    place.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    bar.minorticks_off()


def _warped_labels(cut: Cut) -> Labels | None:
    return None if cut.result.inputs.moving_labels is None else cut.result.pair.warped_labels


DRAWN: dict[Panel, Callable[[Axes, Cut], None]] = {
    "fixed": _fixed,
    "moving": _moving,
    "warped": _warped,
    "before": _before,
    "after": _after,
    "checkerboard": _checkerboard,
    "grid": _grid,
    "jacobian": _jacobian,
    "displacement": _displacement,
}
