from __future__ import annotations

import numpy as np


def tre_mm(
    fixed_vox: np.ndarray, moving_vox: np.ndarray, disp_vox: np.ndarray, moving_spacing_mm: np.ndarray
) -> np.ndarray:
    """Landmark error as the evaluator computes it.

    The field is read by cubic splines and is zero beyond the outermost voxel centres; voxel differences are scaled by
    the spacing of the **moving** image.

    Args:
        fixed_vox: ``(N, 3)`` voxel indices in the fixed image.
        moving_vox: ``(N, 3)`` the same landmarks in the moving image.
        disp_vox: ``(3, I, J, K)``.
        moving_spacing_mm: ``(3,)``.

    Returns:
        ``(N,)`` millimetres.
    """
    from scipy.ndimage import map_coordinates

    moved = np.stack([map_coordinates(part, fixed_vox.T, output=np.float64, order=3) for part in disp_vox], axis=1)
    return np.linalg.norm((fixed_vox + moved - moving_vox) * moving_spacing_mm, axis=1)
