"""A scan on another grid."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.averaging import pool_volume
from anamorph.image import Image
from anamorph.image.background import background_value, cast_like
from anamorph.transforms import Transform


def resample(image: Image, to_image: Transform, grid: Grid) -> Image:
    """Read a scan on a grid through a map of the grid's world to the scan's, keeping its dtype.

    A scan of finer voxels is averaged over whole voxels first, so that its noise does not alias. Where it has no voxel
    the result is air for CT, else the minimum.
    """
    factor = np.maximum(np.floor(grid.finest_mm / image.grid.spacing_mm + 1e-6), 1)
    cell = tuple(int(f) for f in np.minimum(factor, image.grid.shape))
    background = background_value(image)
    if max(cell) > 1:
        averaged = pool_volume(image.data, cell)  # type: ignore[arg-type]
        source = Image(averaged, image.grid.pooled(cell), image.name)  # type: ignore[arg-type]
    else:
        source = image
    warped = to_image.warp_image(source, grid, background)
    return Image(cast_like(warped.data, image.data.dtype), grid, image.name)
