"""What a map does to the volume of the voxels of a scan, looked at in parts: its dense field is never held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.evaluation.learn2reg.measures import inner_box
from anamorph.evaluation.metrics.jacobian import Sums, summary_of, sums_of
from anamorph.evaluation.metrics.non_diffeomorphic import folded_cells
from anamorph.geometry.grid import Grid
from anamorph.geometry.slabs import over_grid, planes_of
from anamorph.transforms.maps import Transform


@dataclass(frozen=True)
class Deformation:
    """What is known of a map at the voxels of a scan.

    Args:
        summary: the numbers of :func:`~anamorph.evaluation.metrics.jacobian.jacobian_summary`.
        non_diffeomorphic_percent: of the volume, by
            :func:`~anamorph.evaluation.metrics.non_diffeomorphic.non_diffeomorphic_volume_percent`.
        determinants: ``(I, J, K)`` float32 of every so many-th voxel.
    """

    summary: dict[str, float]
    non_diffeomorphic_percent: float
    determinants: np.ndarray


def deformation_of(transform: Transform, grid: Grid, steps: tuple[int, int, int] = (1, 1, 1)) -> Deformation:
    """Take the determinants of a map by central differences between the voxels of a grid.

    Args:
        transform: a map of points of the scan.
        grid: of the scan.
        steps: which voxels' determinants are kept.
    """
    length = grid.shape[0]
    inner_planes, *inner_rest = inner_box(grid.shape)

    def part(planes: slice, slab: Grid) -> tuple[Sums, float, np.ndarray]:
        first, end = max(planes.start - 1, 0), min(planes.stop + 1, length)  # differences need a neighbour on each side
        field = transform.displacement_on(planes_of(grid, slice(first, end)))
        determinants = field.jacobian_determinant()[planes.start - first : planes.stop - first]
        low, high = (min(max(n, planes.start), planes.stop) for n in (inner_planes.start, inner_planes.stop))
        inside = determinants[(slice(low - planes.start, high - planes.start), *inner_rest)]
        cells = field.disp_vox[:, planes.start - first : min(planes.stop + 1, length) - first]
        kept = determinants[-planes.start % steps[0] :: steps[0], :: steps[1], :: steps[2]]
        return sums_of(determinants, inside), folded_cells(cells), kept.copy()

    sums, folded, kept = zip(*over_grid(grid, part), strict=True)
    cells = float(np.prod(np.array(grid.shape) - 1))
    return Deformation(summary_of(sums), 100 * sum(folded) / cells if cells else 0.0, np.concatenate(kept))
