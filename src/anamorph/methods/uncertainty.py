"""How far the place found for a point may be from the right one: a map in millimetres.

After the refinement, every cell of the leading scan is compared once more with what the field has brought to it, at
every displacement of a small window. Where one displacement fits far better than all others the place is certain; where
many fit about as well, as inside an organ without texture, it is not. Read as energies of a Boltzmann distribution, the
costs give the root mean square of the displacement that may be missing. Constants measured on scans with known answers
(``benchmarks/uncertainty.py``) turn that into the distance within which the right place lies in about two of three
cases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.geometry.averaging import pool_volume
from anamorph.image.image import Image
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.pyramid import Pyramid
from anamorph.runtime.device import to_numpy
from anamorph.transforms.fields import warp_descriptor
from anamorph.transforms.maps import Displacement

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""
CELL = 2
"""Descriptor voxels of a cell along the fine axes."""
REACH = 2
"""Descriptor voxels that are looked at to each side."""
COSTS_BYTES = 64 * 2**20
"""Of costs held at a time."""
SHARPNESS = 2.0
"""A displacement whose costs exceed the least ones by what the cell's mismatch still is, is exp(-2) as likely."""
FACTOR = 0.75
"""From the root mean square of the distribution to the distance of two of three cases."""


def uncertainty_mm(pair: DescribedPair, pyramid: Pyramid, deformation: Displacement) -> Image:
    """The distance in mm within which the right place lies in about two of three cases; NaN where nothing was compared.

    Args:
        pair: both scans, described at the base of the pyramid.
        pyramid: of their grids.
        deformation: of the leading scan, as refined.

    Returns:
        One float32 channel on cells of the base grid.
    """
    level = pyramid.level(1)
    cells = level.cells(CELL)
    disp_vox = deformation.displacement_on(level.grid).disp_vox.astype(np.float32, copy=False)
    if not isinstance(pair.fixed, np.ndarray):
        disp_vox = pair.fixed.new_tensor(disp_vox)
    moving = warp_descriptor(pair.moving, disp_vox)
    window = (cells, (1, 1, 1), level.radius(0, REACH), COSTS_BYTES, level.neighbours)
    costs = CostVolume(pair.fixed, pair.fixed_weight, moving, *window)
    found = FACTOR * spread_mm(costs, level.grid.spacing_mm)
    found[to_numpy(pool_volume(pair.fixed_weight[None], cells)[0]) <= 0] = np.nan
    return Image(found, level.grid.pooled(cells), "uncertainty")


def evidence_bytes(pyramid: Pyramid) -> int:
    """Memory of the costs, beside both descriptors, a warped one and two planar ones."""
    level = pyramid.level(1)
    cells, window = level.cells(CELL), level.radius(0, REACH)
    count = np.prod([-(-n // c) for n, c in zip(level.grid.shape, cells, strict=True)])
    return min(int(count * np.prod([2 * r + 1 for r in window]) * 4), COSTS_BYTES)


def spread_mm(costs: CostVolume[Any], spacing_mm: np.ndarray) -> np.ndarray:
    """Root mean square, in mm, of the displacement of each cell under the distribution that its costs stand for.

    Args:
        costs: of displacements around what was found.
        spacing_mm: of the voxels that displacements count.

    Returns:
        ``(*cells)`` float32.
    """
    sides = (np.arange(-r, r + 1) * s for r, s in zip(costs.radius, spacing_mm, strict=True))
    away_mm = np.stack(np.meshgrid(*sides, indexing="ij"))
    squared_mm = (away_mm**2).sum(axis=0).ravel().astype(np.float32)
    found = np.empty(costs.cells, np.float32)
    for first, chunk in costs.chunks():
        likely = to_numpy(chunk)
        left = np.maximum(likely[..., costs.labels // 2], 1e-12)
        likely -= likely.min(axis=-1, keepdims=True)
        likely *= (-SHARPNESS / left)[..., None]
        np.exp(likely, out=likely)
        mean = np.einsum("ijkl,l->ijk", likely, squared_mm) / likely.sum(axis=-1)
        found[first : first + len(mean)] = np.sqrt(mean)
    return found
