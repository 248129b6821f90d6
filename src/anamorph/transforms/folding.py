"""Where a map turns space inside out, by tetrahedra between voxels, which miss no fold of a single voxel."""

from __future__ import annotations

import numpy as np

from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs

# Corner n of a cell lies at (n >> 2, n >> 1 & 1, n & 1). A cube is cut into a middle tetrahedron and four at its
# corners, in two ways, one the mirror image of the other. Each row is ordered so that its volume is positive at rest.
TETRAHEDRA = np.array(
    [
        *((0, 4, 2, 1), (6, 2, 4, 7), (5, 1, 7, 4), (3, 7, 1, 2), (1, 4, 2, 7)),
        *((4, 0, 5, 6), (2, 0, 6, 3), (1, 0, 3, 5), (7, 3, 6, 5), (0, 3, 5, 6)),
    ],
    np.int64,
)


def folded_cells(disp_vox: np.ndarray) -> float:
    """The volume that a map turns inside out, in cells between eight voxels.

    Each cell is cut into five tetrahedra in both possible ways; see Liu et al. 2024, "On finite difference Jacobian
    computation in deformable image registration".

    Args:
        disp_vox: ``(3, I, J, K)``, voxels of its own grid.
    """
    if min(disp_vox.shape[1:]) < 2 or not disp_vox.any():
        return 0.0
    given = np.ascontiguousarray(disp_vox, np.float32), TETRAHEDRA
    six_volumes = sum(over_slabs(kernels.folded_volume if kernels else folded_volume, disp_vox.shape[1] - 1, *given))
    return float(six_volumes / 12)


def folded_volume(begin: int, end: int, disp_vox: np.ndarray, tetrahedra: np.ndarray) -> float:
    """The readable twin of the kernel: six times the volume turned inside out, in the cells begin..end - 1 along i."""
    total = 0.0
    inner = [n - 1 for n in disp_vox.shape[2:]]
    for i in range(begin, end):
        corners = []
        for a, b, c in np.ndindex(2, 2, 2):
            plane = disp_vox[:, i + a, b : b + inner[0], c : c + inner[1]]
            corners.append(plane + np.array([a, b, c]).reshape(3, 1, 1))
        for first, *others in tetrahedra:
            x, y, z = (corners[n] - corners[first] for n in others)
            total -= np.minimum((x * np.cross(y, z, axis=0)).sum(axis=0), 0).sum()
    return total
