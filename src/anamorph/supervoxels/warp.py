from __future__ import annotations

from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.supervoxels.layers import Layers
from anamorph.transforms import Transform


def warp_layers(layers: Layers, scan_to_template: Transform, grid: Grid) -> Layers:
    """Bring the layers of a template to a scan: each voxel has the labels of the nearest voxel of the template.

    Args:
        layers: of the template.
        scan_to_template: maps points of the scan to points of the template, as a registration with the scan fixed and
            the template moving gives it.
        grid: of the result, in the scan.

    Returns:
        Layers on ``grid``; background where the template has no voxel.
    """
    positions = scan_to_template.moving_positions(grid, layers.grid)
    return Layers(sample(layers.labels, positions, "nearest", 0), grid, layers.provenance)
