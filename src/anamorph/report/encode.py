from __future__ import annotations

import base64
import io

import numpy as np

LONGEST_SIDE = 480


def data_uri(picture: np.ndarray, quality: int = 86) -> str:
    """An 8-bit grey ``(rows, columns)`` or colour ``(rows, columns, 3)`` picture as text that stands for a JPEG file.

    Pictures of more than 480 pixels along a side are reduced, which keeps a report of full CT slices small.
    """
    from PIL import Image as Picture

    image = Picture.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Picture.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
