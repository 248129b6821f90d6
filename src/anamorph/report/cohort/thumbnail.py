from __future__ import annotations

import os

import numpy as np

from anamorph.image import Image, Labels
from anamorph.image.atomic import atomic_path
from anamorph.image.background import looks_like_ct
from anamorph.report.cohort.part import Part
from anamorph.report.focus import focus_voxel
from anamorph.report.overlays import fuse
from anamorph.report.views import orthogonal_views
from anamorph.report.window import pair_windows, to_grey
from anamorph.transforms import Affine
from anamorph.transforms.maps import Transform

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
