"""Pictures of slices: grey values, two scans in one, and the bytes for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage


SOFT_TISSUE_HU = (-160.0, 240.0)
LUNG_HU = (-1000.0, 200.0)

Window = tuple[float, float]
SHOWN = 360
"""Pixels along the longer side of an enlarged view, at the least."""


def robust_window(slices: Iterable[np.ndarray]) -> Window:
    """The range of intensities worth showing: 1st to 98th percentile of what is not background."""
    values = np.concatenate([part[np.isfinite(part)].ravel() for part in slices])
    if values.size == 0:
        return 0.0, 1.0
    inside = values[values > values.min()]
    low, high = np.percentile(inside if inside.size else values, [1, 98])
    return float(low), float(high)


def ct_window(slices: Iterable[np.ndarray]) -> Window:
    """A soft tissue window, or one that reaches down to the lungs when they fill much of what is inside the body."""
    values = np.concatenate([part[np.isfinite(part)].ravel() for part in slices])
    body = max(int(np.count_nonzero(values > -950)), 1)
    return LUNG_HU if np.count_nonzero((values > -950) & (values < -500)) > 0.3 * body else SOFT_TISSUE_HU


def pair_windows(fixed: Sequence[np.ndarray], moving: Sequence[np.ndarray], both_ct: bool) -> tuple[Window, Window]:
    """The windows of a fixed and a moving scan from slices of both: one for both if they are CT."""
    if both_ct:
        return (ct_window([*fixed, *moving]),) * 2
    return robust_window(fixed), robust_window(moving)


def to_grey(values: np.ndarray, window: Window) -> np.ndarray:
    """Intensities as 8-bit grey values; what is not finite becomes black."""
    low, high = window
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0), 0, 255).astype(np.uint8)


def fuse(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Two 8-bit grey slices as ``(rows, columns, 3)`` colours: fixed green, moving magenta, grey where they agree."""
    return np.stack([moving, fixed, moving], axis=-1)


def checkerboard(fixed: np.ndarray, moving: np.ndarray, pixel_mm: tuple[float, float], squares: int = 8) -> np.ndarray:
    """Squares of two grey slices by turns, ``squares`` along the longer side; square in millimetres."""
    side = max(n * size for n, size in zip(fixed.shape, pixel_mm, strict=True)) / squares
    row, column = (
        ((np.arange(n) + 0.5) * size / side).astype(int) for n, size in zip(fixed.shape, pixel_mm, strict=True)
    )
    return np.where((row[:, None] + column[None]) % 2 == 0, fixed, moving)


LONGEST_SIDE = 640


def data_uri(picture: np.ndarray, quality: int = 86) -> str:
    """An 8-bit grey ``(rows, columns)`` or colour ``(rows, columns, 3)`` picture as text that stands for a JPEG file.

    Pictures of more than 640 pixels along a side are reduced, which keeps a report of full CT slices small.
    """
    from PIL import Image as Picture

    image = Picture.fromarray(np.ascontiguousarray(picture))
    return _uri(image, LONGEST_SIDE, "JPEG", quality=quality, subsampling=0, optimize=True)


def exact_uri(picture: np.ndarray) -> str:
    """The same as text that stands for a WebP file without loss, so that colours are those of their legend."""
    from PIL import Image as Picture

    image = Picture.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Picture.Resampling.NEAREST)
    return _uri(image, LONGEST_SIDE, "WEBP", lossless=True)


def film_uri(pictures: Sequence[np.ndarray], frame_ms: int, quality: int = 75) -> str:
    """8-bit grey or colour pictures of one size as text that stands for an animated WebP file, which runs for ever."""
    from PIL import Image as Picture

    images = [Picture.fromarray(np.ascontiguousarray(picture)).convert("RGB") for picture in pictures]
    rest = {"save_all": True, "append_images": images[1:], "duration": frame_ms, "loop": 0}
    return _uri(images[0], max(images[0].size), "WEBP", quality=quality, **rest)


REEL_SIDE = 200
"""Pixels along the longer side of a slice of a reel, at most."""


def reel_uri(slices: Sequence[np.ndarray], quality: int = 70) -> str:
    """8-bit grey slices of one size below each other, as text that stands for one WebP file."""
    from PIL import Image as Picture

    small = []
    for one in slices:
        image = Picture.fromarray(np.ascontiguousarray(one))
        image.thumbnail((REEL_SIDE, REEL_SIDE), Picture.Resampling.BOX)
        small.append(np.asarray(image))
    stacked = Picture.fromarray(np.concatenate(small))
    return _uri(stacked, max(stacked.size), "WEBP", quality=quality)


def file_uri(path: Path, longest_side: int) -> str | None:
    """A JPEG or PNG file in small, as text that stands for a WebP file, half as long as a JPEG; None if unreadable.

    The picture is drawn anew, so nothing but pixels gets into a page.
    """
    from PIL import Image as Picture

    try:
        with Picture.open(path, formats=("JPEG", "PNG")) as image:
            return _uri(image.convert("RGB"), longest_side, "WEBP", quality=75)
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return None


def _uri(image: PilImage, longest_side: int, kind: str, **options: Any) -> str:
    from PIL import Image as Picture

    image.thumbnail((longest_side, longest_side), Picture.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A small picture with every pixel repeated, so that its voxels stay sharp on a page."""
    factor = max(SHOWN // max(picture.shape), 1)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
