"""What a registration looks like in napari: the warped scan, the deformed grid and the displacement, as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.report.lines import grid_lines_mm, line_distance_mm
from anamorph.report.views import View, orthogonal_views
from napari_anamorph.frames import image_layer, to_napari

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from anamorph import Result

EVERY = 3
"""Every third point of a line is drawn, which shows a smooth map as well, and napari stays quick."""
ARROWS = 20
"""Displacements along the longest side of the scan."""
LayerData = tuple[Any, dict[str, Any], str]


def layers_of(result: Result, moving: ImageLayer) -> list[LayerData]:
    """All layers of a result, in the order to add them.

    Args:
        result: of the registration.
        moving: the layer that was moved, whose name and contrast the warped one takes.
    """
    return [warped_layer(result, moving), grid_layer(result), displacement_layer(result)]


def warped_layer(result: Result, moving: ImageLayer) -> LayerData:
    """The moving scan on the grid of the fixed one, in magenta over it."""
    data, options = image_layer(result.warped)
    shown = {"contrast_limits": moving.contrast_limits, "colormap": "magenta", "blending": "additive"}
    return data, options | shown | {"name": f"{moving.name} warped"}, "image"


def grid_layer(result: Result) -> LayerData:
    """A regular grid drawn on the moving scan, warped with it: short lines in every slice of the fixed scan."""
    views = _slices(result)
    middle = views[len(views) // 2]
    transform = result.fixed_to_moving
    distance_mm = line_distance_mm([(middle, middle.displacement(transform).disp_vox)])
    parts = [_segments(line, view) for view in views for line in _lines(view, transform, distance_mm)]
    segments = np.concatenate(parts) if parts else np.zeros((0, 2, 3))
    options = {"name": f"grid of {distance_mm:g} mm, warped", "vector_style": "line", "edge_color": "gold"}
    return segments, options | {"edge_width": _width_mm(result), "opacity": 0.8, "visible": False}, "vectors"


def displacement_layer(result: Result) -> LayerData:
    """Arrows from places of the fixed scan to where they are found in the moving scan."""
    grid = result.fixed.grid
    step = max(1, round(max(grid.shape) / ARROWS))
    axes = [np.arange((n - 1) % step // 2, n, step) for n in grid.shape]
    places_mm = grid.voxel_to_world(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    moved_mm = result.fixed_to_moving.map_world(places_mm) - places_mm
    vectors = np.stack([to_napari(places_mm), to_napari(moved_mm)], axis=1)
    length_mm = np.linalg.norm(moved_mm, axis=1)
    options = {"name": "displacement", "vector_style": "arrow", "features": {"length_mm": length_mm}}
    colours = {"edge_color": "length_mm", "edge_colormap": "viridis"}
    return vectors, options | colours | {"edge_width": 4 * _width_mm(result), "visible": False}, "vectors"


def _slices(result: Result) -> list[View]:
    """The slices that napari shows first: across the last axis of the grid, the first one of the layer."""
    i, j, k = result.fixed.grid.shape
    return [
        next(view for view in orthogonal_views(result.fixed.grid, (i // 2, j // 2, n)) if view.axis == 2)
        for n in range(k)
    ]


def _lines(view: View, transform: Any, distance_mm: float) -> list[np.ndarray]:
    return grid_lines_mm(view.displacement(transform).disp_vox, view, distance_mm)


def _segments(line_mm: np.ndarray, view: View) -> np.ndarray:
    """A line over a view, in mm from its left and upper edge, as ``(N - 1, 2, 3)`` starts and steps in napari."""
    line_mm = line_mm[sorted({*range(0, len(line_mm), EVERY), len(line_mm) - 1})]
    places = np.empty((len(line_mm), 3))
    places[:, view.axis] = view.index
    for column, (axis, sign), size_mm, count in (
        (0, view.right, view.pixel_mm[1], view.pixels[1]),
        (1, view.down, view.pixel_mm[0], view.pixels[0]),
    ):
        pixel = line_mm[:, column] / size_mm - 0.5
        places[:, axis] = pixel if sign > 0 else count - 1 - pixel
    points = to_napari(view.grid.voxel_to_world(places))
    return np.stack([points[:-1], np.diff(points, axis=0)], axis=1)


def _width_mm(result: Result) -> float:
    return 0.25 * float(result.fixed.grid.finest_mm)
