"""Learn2Reg displacement fields as .npz: written as (X, Y, Z, 3); read in this and the older, half-resolution form."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_arrays
from anamorph.transforms.base import Transform
from anamorph.transforms.displacement import Displacement
from anamorph.transforms.files.learn2reg import from_voxels, to_voxels
from anamorph.transforms.files.learn2reg_2020 import enlarged

HEADER_BYTES = 1 << 16


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at full resolution, float32."""
    field = np.moveaxis(to_voxels(transform, fixed_grid, moving_grid), 0, -1)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, np.ascontiguousarray(field))


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read either form, told apart by where the three components are."""
    if grid is None:
        raise UserError("an .npz field says nothing about the world; give the fixed image")
    check_arrays(path, 8 * 3 * int(np.prod(grid.shape)) + HEADER_BYTES)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = list(content.values())
    except MemoryError as error:  # a header that tells of more values than follow
        raise UserError("damaged: its header tells of more values than it holds; is it complete?") from error
    if len(arrays) != 1 or arrays[0].ndim != 4:
        raise UserError("expected one array, (X, Y, Z, 3) or (3, X, Y, Z)")
    field = arrays[0]
    if field.shape == (*grid.shape, 3):
        return from_voxels(np.moveaxis(field, -1, 0).astype(np.float32), grid, moving_grid)
    if field.shape[0] == 3:
        return from_voxels(enlarged(field.astype(np.float32), grid.shape), grid, moving_grid)
    raise UserError(f"a field of shape {field.shape} does not fit the fixed image of {grid.shape} voxels")
