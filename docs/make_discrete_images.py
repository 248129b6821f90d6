"""The pictures of docs/concepts/discrete-registration.md: two phantom slices with a known deformation, seen by deeds.

Usage: python docs/make_discrete_images.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from make_images import BACKGROUND, TARGET, TEXT
from sliced_search import CONFIG, GRID, LABELS, PAIR, Search, borders, centres, error_mm, inside, organs, truth

from anamorph.discrete.tree_inference import min_convolve
from anamorph.methods.base import Pair, Run
from anamorph.methods.deeds import Deeds
from anamorph.report.pictures import SOFT_TISSUE_HU, fuse, to_grey
from anamorph.transforms import Affine

FIXED, MOVING = (to_grey(image.data[0, :, :, 0].T, SOFT_TISSUE_HU) for image in (Pair(PAIR.fixed, PAIR.moving), Run()))
COLOURS = 256
"""Of a picture: hardly a difference to be seen, and a third of the size."""
MUTED, LINE = "#9aa7b4", "#30363d"
YELLOW, BLUE, PINK, GREEN = "#ffd166", "#56b4e9", "#ff7ab6", "#3ddc97"
MARK = "#00d0ff"
CELLS = {"A": ((8, 9), YELLOW), "B": ((12, 3), BLUE), "C": ((5, 8), PINK)}


def draw_window(plt: Any) -> Any:
    """Three cells, the window that one of them searches, and the cost of every displacement for each."""
    search = Search(CONFIG.levels(GRID)[0])
    level = search.level
    step, radius = level.step[0], level.radius[0]
    reach = (radius + 0.5) * step
    offsets = np.arange(-radius, radius + 1) * step
    true, middle = (part.reshape(2, *level.cells[:2]) for part in (truth(level.control), centres(level.control)))
    figure = plt.figure(figsize=(9.6, 7.1), facecolor=BACKGROUND)
    here, there = (figure.add_axes((left, 0.53, 0.485, 0.425)) for left in (0.01, 0.505))
    show(here, FIXED, "fixed: three cells")
    show(there, (MOVING * 0.8).astype(np.uint8), "moving: where A may go, and where it fits best")
    for n, (name, (cell, colour)) in enumerate(CELLS.items()):
        (x, y), (u, v) = middle[(slice(None), *cell)], true[(slice(None), *cell)]
        costs = search.window(cell)
        row, column = np.unravel_index(costs.argmin(), costs.shape)
        box(here, x, y, level.cell[0] / 2, colour, 1.8)
        here.text(x + 6, y - 6, name, color=colour, fontsize=13, weight="bold")
        axis = figure.add_axes((0.02 + n * 0.325, 0.065, 0.31, 0.4))
        axis.imshow(costs, cmap="inferno_r", extent=(-reach, reach, reach, -reach))
        axis.plot(0, 0, "s", color=MARK, markersize=12, markeredgewidth=2, markerfacecolor="none")
        axis.plot(
            offsets[column], offsets[row], "o", color=MARK, markersize=14, markeredgewidth=2.2, markerfacecolor="none"
        )
        axis.plot(u, v, "x", color=MARK, markersize=10, markeredgewidth=2.2)
        axis.set_title(f"cost of every displacement of {name}", color=colour, fontsize=11, pad=5)
        axis.set_axis_off()
        if name == "A":
            box(there, x, y, reach, colour, 1.4)
            across, down = np.meshgrid(x + offsets, y + offsets)
            there.scatter(across, down, 8, costs, cmap="inferno_r", linewidths=0)
            end = (x + offsets[column], y + offsets[row])
            for spot, shade in (((x, y), colour), (end, TEXT)):
                box(there, *spot, level.cell[0] / 2, shade, 1.8)
            there.annotate("", end, (x, y), arrowprops={"arrowstyle": "->", "color": TEXT, "linewidth": 1.8})
    note(figure, 0.5, 0.03, "bright: few bits differ     □ no displacement     ○ cheapest     × true")
    return figure


def draw_field(plt: Any) -> Any:
    """The displacements that the cells choose for themselves, and those that they choose together."""
    from matplotlib.colors import LinearSegmentedColormap

    search = Search(CONFIG.levels(GRID)[0])
    x, y = centres(search.level.control)
    true, body = truth(search.level.control), inside(search.level)
    colours = LinearSegmentedColormap.from_list("error", [GREEN, YELLOW, "#ff5d5d"])
    figure, axes = plt.subplots(1, 3, figsize=(11.8, 3.35), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.9, bottom=0.085, wspace=0.02)
    fields = {"each cell for itself": search.cheapest(), "on the tree": search.smooth(), "truth": true}
    for axis, (name, field) in zip(axes, fields.items(), strict=True):
        error = np.linalg.norm(field - true, axis=0)[body] * GRID.finest_mm
        title = name if field is true else f"{name}: {error.mean():.0f} mm off on average"
        show(axis, (FIXED * 0.55).astype(np.uint8), title)
        u, v = field[:, body]
        axis.quiver(x[body], y[body], u, v, error, cmap=colours, clim=(0, 30), angles="xy", scale_units="xy",
                    scale=1, width=0.0042, headwidth=3.6, headlength=4.2, headaxislength=3.8)  # fmt: skip
    bar = figure.add_axes((0.44, 0.035, 0.12, 0.028))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=colours, aspect="auto")
    bar.set_axis_off()
    note(figure, 0.43, 0.046, "error 0 mm", "right")
    note(figure, 0.57, 0.046, "30 mm and more", "left")
    return figure


def draw_tree(plt: Any) -> Any:
    """The minimum spanning tree over the slice, and how it treats the borders of organs."""
    from matplotlib.collections import LineCollection

    search = Search(CONFIG.levels(GRID)[-1])
    level, tree = search.level, search.tree
    spots, body, organ = centres(level.control).T, inside(level), organs(level)
    edges = np.stack([tree.cells[1:], tree.cells[tree.parents[1:]]], axis=1)
    number = np.arange(len(spots)).reshape(level.cells)
    neighbours = np.concatenate(
        [np.stack([np.delete(number, end, axis).ravel() for end in (-1, 0)], axis=1) for axis in (0, 1)]
    )
    kept, possible = ([at[body[at].all(axis=1) & one] for one in borders(at, organ)] for at in (edges, neighbours))
    shares = [100 * len(some) / len(every) for some, every in zip(kept, possible, strict=True)]
    figure, axes = plt.subplots(1, 2, figsize=(11.8, 4.75), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.985, bottom=0.075, wspace=0.01)
    for axis, width in zip(axes, (1.0, 2.0), strict=True):
        show(axis, (FIXED * 0.8).astype(np.uint8), "")
        for name in np.unique(LABELS[LABELS > 0]):
            axis.contour((name == LABELS).T, [0.5], colors=[BLUE], linewidths=width)
        for at, colour in zip(kept, (YELLOW, PINK), strict=True):
            axis.add_collection(
                LineCollection(list(spots[at]), colors=colour, linewidths=width * (1 if colour == YELLOW else 1.8))
            )
    axes[1].plot(*spots[body].T, "o", color=YELLOW, markersize=3.5)
    left, top, wide = 112, 72, 62
    axes[1].set(xlim=(left, left + wide), ylim=(top + wide * GRID.shape[1] / GRID.shape[0], top))
    inner, crossing = shares
    note(figure, 0.25, 0.035, f"joined within a tissue: {inner:.0f} % of neighbouring cells", colour=YELLOW)
    note(figure, 0.75, 0.035, f"joined across the outline of an organ: {crossing:.0f} %", colour=PINK)
    return figure


def draw_message(plt: Any) -> Any:
    """A cost along one axis and its min-convolution: what a cell tells its parent."""
    search = Search(CONFIG.levels(GRID)[0])
    level = search.level
    costs = search.costs.reshape(*level.cells[:2], *level.labels[:2])[CELLS["A"][0]]
    row = costs[:, costs.min(axis=0).argmin()]
    row = row - row.min()
    labels = np.arange(len(row)) - level.radius[0]
    figure, axes = plt.subplots(1, 2, figsize=(11.8, 3.5), facecolor=BACKGROUND, sharey=True)
    figure.subplots_adjust(left=0.05, right=0.985, top=0.9, bottom=0.15, wspace=0.06)
    fine = np.linspace(labels[0] - 0.5, labels[-1] + 0.5, 400)
    titles = ("parent and child had moved alike before this level", "the parent had moved 2.5 steps further")
    for axis, offset, title in zip(axes, (0.0, 2.5), titles, strict=True):
        shift = np.array([[offset, 0, 0]], np.float32)
        message = min_convolve(row.reshape(1, -1, 1, 1).astype(np.float32), (1.0, 1.0, 1.0), shift).ravel()
        for b, cost in zip(labels, row, strict=True):
            axis.plot(fine, cost + (fine - b + offset) ** 2, color="#4b5866", linewidth=0.9)
        axis.bar(labels, row, width=0.5, color=BLUE, alpha=0.5)
        axis.plot(labels, row, "s", color=BLUE, markersize=6, label="cost of the child")
        axis.plot(labels, message, "o-", color=YELLOW, linewidth=2, markersize=5, label="message to the parent")
        axis.set(ylim=(0, row.max() * 1.4), xlim=(labels[0] - 0.6, labels[-1] + 0.6), facecolor=BACKGROUND)
        axis.set_title(title, color=TEXT, fontsize=11, pad=6)
        axis.set_xlabel("displacement (steps of 5 voxels)", color=MUTED, fontsize=9.5)
        axis.tick_params(colors=MUTED, labelsize=8.5)
        for side in axis.spines.values():
            side.set_color(LINE)
    axes[0].set_ylabel("cost", color=MUTED, fontsize=9.5)
    axes[0].legend(frameon=False, labelcolor=TEXT, fontsize=9.5, loc="upper left")
    return figure


def draw_levels(plt: Any) -> Any:
    """Cells and reach of every level, and both slices after it."""
    levels = CONFIG.levels(GRID)
    figure, axes = plt.subplots(2, len(levels) + 1, figsize=(14.0, 4.05), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.004, right=0.996, top=0.93, bottom=0.012, wspace=0.02, hspace=0.14)
    width, height = GRID.shape[:2]
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, "cells and reach,\nin voxels of 2 mm", color=TEXT, fontsize=12, ha="center", va="center")
    show(axes[1, 0], fuse(FIXED, MOVING), f"before: {error_mm(Affine.identity()):.1f} mm off")
    names = ("grid_spacing", "search_radius", "quantisation")
    for n, (level, above, below) in enumerate(zip(levels, *axes[:, 1:], strict=True), 1):
        reach = level.radius[0] * level.step[0]
        show(above, (FIXED * 0.6).astype(np.uint8), f"{n}: cells of {level.cell[0]}, reach {reach}")
        lines = {"color": BLUE, "linewidth": 0.5, "alpha": 0.4}
        above.hlines(np.arange(0, height, level.cell[1]) - 0.5, -0.5, width - 0.5, **lines)
        above.vlines(np.arange(0, width, level.cell[0]) - 0.5, -0.5, height - 0.5, **lines)
        box(above, width / 2, height / 2, reach, YELLOW, 1.6)
        first = {name: getattr(CONFIG, name)[:n] for name in names}
        found = Deeds(replace(CONFIG, **first))(Pair(PAIR.fixed, PAIR.moving), Run()).fixed_to_moving
        warped = to_grey(found.warp_image(PAIR.moving, GRID).data[0, :, :, 0].T, SOFT_TISSUE_HU)
        show(below, fuse(FIXED, warped), f"after level {n}: {error_mm(found):.1f} mm")
    return figure


def show(axis: Any, picture: np.ndarray, title: str) -> None:
    """Draw a slice."""
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    axis.set_title(title, color=TEXT, fontsize=11, pad=5)
    axis.set_axis_off()


def box(axis: Any, x: float, y: float, half: float, colour: str, width: float) -> None:
    """Draw a square around a point."""
    axis.plot(x + half * np.array([-1, 1, 1, -1, -1]), y + half * np.array([-1, -1, 1, 1, -1]), color=colour,
              linewidth=width, scalex=False, scaley=False)  # fmt: skip


def note(figure: Any, x: float, y: float, text: str, align: str = "center", colour: str = TEXT) -> None:
    """Write under the pictures."""
    figure.text(x, y, text, color=colour, fontsize=9.5, va="center", ha=align)


def main() -> None:
    """Write all pictures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image as Picture

    pictures = {"window": draw_window, "field": draw_field, "tree": draw_tree, "message": draw_message,
                "levels": draw_levels}  # fmt: skip
    TARGET.parent.mkdir(exist_ok=True)
    for name, draw in pictures.items():
        path = TARGET.with_name(f"discrete-{name}.png")
        draw(plt).savefig(path, dpi=110, facecolor=BACKGROUND)
        with Picture.open(path) as picture:
            small = picture.convert("RGB").quantize(
                COLOURS, Picture.Quantize.MAXCOVERAGE, kmeans=4, dither=Picture.Dither.NONE
            )
        small.save(path, optimize=True)
        plt.close("all")


if __name__ == "__main__":
    main()
