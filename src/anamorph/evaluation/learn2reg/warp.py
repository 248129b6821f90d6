from __future__ import annotations

import numpy as np

from anamorph.geometry.sampling import native


def warp_labels(moving: np.ndarray, disp_vox: np.ndarray) -> np.ndarray:
    """Pull a label map through a field as the evaluator does: nearest neighbour, 0 outside.

    Equal to ``scipy.ndimage.map_coordinates(moving, id + u, order=0)``: a half is rounded up, and beyond the centres of
    the outermost voxels, not half a voxel later, there is background.

    Args:
        moving: ``(I', J', K')`` integers; may differ in shape from the fixed image.
        disp_vox: ``(3, I, J, K)``.

    Returns:
        ``(I, J, K)`` of the same type.
    """
    from anamorph.evaluation.learn2reg import _labels_numba

    moving = native(moving)
    out = np.empty(disp_vox.shape[1:], moving.dtype)
    _labels_numba.warp_nearest(moving, disp_vox, out)
    return out
