"""A small picture of a pair."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from anamorph.image.atomic import atomic_path
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.report.colours import label_colour
from anamorph.report.lines import contours_mm
from anamorph.report.pictures import fuse, pair_windows, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views
from anamorph.transforms.maps import Affine, Transform

_DARK = 16  # of 255: air, noise and the edge of the field of view
_FEW = 0.02  # share of a row that may shine without being worth showing


class Part:
    """One view of a thumbnail, cropped to what there is to see.

    Args:
        view: the slice.
        picture: ``(rows, columns, 3)`` 8-bit colours, a pixel per voxel.
    """

    def __init__(self, view: View, picture: np.ndarray) -> None:
        lit = picture.max(axis=-1) > _DARK
        self._view = view
        self._rows, self._columns = _extent(lit.mean(axis=1)), _extent(lit.mean(axis=0))
        self._picture = picture[self._rows, self._columns]
        self._lines: list[tuple[np.ndarray, str, int]] = []

    @property
    def height_mm(self) -> float:
        """From top to bottom."""
        return self._picture.shape[0] * self._view.pixel_mm[0]

    @property
    def width_mm(self) -> float:
        """From left to right."""
        return self._picture.shape[1] * self._view.pixel_mm[1]

    def outline(self, labels: np.ndarray, ranks: Mapping[int, int], width: int) -> None:
        """Add the outlines of ``(rows, columns)`` labels; ``ranks`` names those to show, and gives their colours."""
        corner = np.array([self._columns.start, self._rows.start]) * self._view.pixel_mm[::-1]
        for name in (int(name) for name in np.unique(labels) if int(name) in ranks):
            for line in contours_mm(labels == name, self._view):
                self._lines.append((line - corner, label_colour(ranks[name]), width))

    def draw(self, pixels_per_mm: float) -> np.ndarray:
        """``(rows, columns, 3)`` 8-bit colours with square pixels."""
        from PIL import Image as Picture
        from PIL import ImageDraw

        size = max(1, int(self.width_mm * pixels_per_mm)), max(1, int(self.height_mm * pixels_per_mm))
        image = Picture.fromarray(np.ascontiguousarray(self._picture)).resize(size, Picture.Resampling.BILINEAR)
        pen = ImageDraw.Draw(image)
        for line, colour, width in self._lines:
            pen.line([(x, y) for x, y in line * pixels_per_mm], colour, width)
        return np.asarray(image)


def _extent(share: np.ndarray) -> slice:
    """From the first to the last row that is lit; all of them in the dark."""
    lit = np.flatnonzero(share > _FEW)
    return slice(int(lit[0]), int(lit[-1]) + 1) if lit.size else slice(0, len(share))


HEIGHT, WIDTH = 240, 560  # twice what the page shows, for sharp pictures on dense screens
_GAP = 6


def thumbnail(
    fixed: Image,
    moving: Image,
    fixed_to_moving: Transform | None = None,
    *,
    fixed_labels: Labels | None = None,
    moving_labels: Labels | None = None,
) -> np.ndarray:
    """A small picture of a pair: three views side by side, fixed green, moving magenta, grey where they agree.

    Only the slices that are shown are warped. Labels are drawn as outlines, those of the moving scan thinner.

    Args:
        fixed: the fixed scan.
        moving: the moving scan, on its own grid.
        fixed_to_moving: None shows the pair as the headers place it, or a moving scan that is already warped.
        fixed_labels: where the views are centred; without them, where there is structure.
        moving_labels: on the grid of the moving labels.

    Returns:
        ``(rows, columns, 3)`` 8-bit colours, at most 240 x 560.
    """
    transform = fixed_to_moving or Affine.identity()
    views = orthogonal_views(fixed.grid, focus_voxel(fixed, fixed_labels))
    still = [view.take_image(fixed) for view in views]
    warped = [view.take(transform.warp_image(moving, view.slice_grid).data[0]) for view in views]
    windows = pair_windows(still, warped, looks_like_ct(fixed) and looks_like_ct(moving))
    ranks = {name: rank for rank, name in enumerate(fixed_labels.present())} if fixed_labels is not None else {}
    parts = []
    for view, *slices in zip(views, still, warped, strict=True):
        part = Part(view, fuse(*(to_grey(values, window) for values, window in zip(slices, windows, strict=True))))
        if fixed_labels is not None:
            part.outline(view.take_image(fixed_labels, "nearest"), ranks, 2)
        if moving_labels is not None:
            part.outline(view.take(transform.warp_labels(moving_labels, view.slice_grid).data[0]), ranks, 1)
        parts.append(part)
    pixels_per_mm = min(
        HEIGHT / max(part.height_mm for part in parts),
        (WIDTH - _GAP * (len(parts) - 1)) / sum(part.width_mm for part in parts),
    )
    return _side_by_side([part.draw(pixels_per_mm) for part in parts])


def write_thumbnail(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write a picture of :func:`thumbnail` as a JPEG file (``.jpg``).

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    from PIL import Image as Picture

    with atomic_path(path) as temporary:
        Picture.fromarray(picture).save(temporary, "JPEG", quality=88, subsampling=0)


def _side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    """Pictures in a row on black, centred vertically."""
    height = max(len(part) for part in parts)
    width = sum(part.shape[1] for part in parts) + _GAP * (len(parts) - 1)
    sheet = np.zeros((height, width, 3), np.uint8)
    left = 0
    for part in parts:
        top = (height - len(part)) // 2
        sheet[top : top + len(part), left : left + part.shape[1]] = part
        left += part.shape[1] + _GAP
    return sheet
