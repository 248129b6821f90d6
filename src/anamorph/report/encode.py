from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

LONGEST_SIDE = 480


def data_uri(picture: np.ndarray, quality: int = 86) -> str:
    """An 8-bit grey ``(rows, columns)`` or colour ``(rows, columns, 3)`` picture as text that stands for a JPEG file.

    Pictures of more than 480 pixels along a side are reduced, which keeps a report of full CT slices small.
    """
    from PIL import Image as Picture

    image = Picture.fromarray(np.ascontiguousarray(picture))
    return _uri(image, LONGEST_SIDE, "JPEG", quality=quality, subsampling=0, optimize=True)


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


def _uri(image: PilImage, longest_side: int, kind: str, **options: int) -> str:
    from PIL import Image as Picture

    image.thumbnail((longest_side, longest_side), Picture.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
