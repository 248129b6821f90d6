from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anamorph.report.lines import contours_mm
from anamorph.report.palette import label_colour
from anamorph.report.views import View

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
