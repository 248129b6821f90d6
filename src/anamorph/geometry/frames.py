"""The coordinate frames and the only functions that flip, reverse or rescale between them.

World coordinates are RAS millimetres inside the package. ITK files are LPS. Voxel coordinates are NIfTI indices
(i, j, k), integers at voxel centres. ``grid_sample`` wants (x, y, z) = (k, j, i) order, scaled so that -1 and +1 are
the centres of the first and the last voxel (``align_corners=True``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def flip_ras_lps(vectors: np.ndarray) -> np.ndarray:
    """Turn RAS points or vectors into LPS ones, or back: the flip is its own inverse.

    Args:
        vectors: ``(..., 3)``, millimetres.
    """
    return vectors * RAS_TO_LPS.diagonal()[:3].astype(vectors.dtype)


def flip_affine_ras_lps(affine: np.ndarray) -> np.ndarray:
    """Turn a 4x4 voxel-to-RAS affine into voxel-to-LPS, or back."""
    return RAS_TO_LPS @ affine


def flip_map_ras_lps(matrix: np.ndarray) -> np.ndarray:
    """Turn a 4x4 map of RAS points to RAS points into the same map of LPS points, or back."""
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def to_grid_sample_order(vectors: Array) -> Array:
    """Reverse the last axis from (i, j, k) to the (x, y, z) order of ``torch.nn.functional.grid_sample``, or back."""
    return vectors[..., ::-1] if isinstance(vectors, np.ndarray) else vectors.flip(-1)


def voxel_to_normalised(points_vox: Array, shape: tuple[int, ...]) -> Array:
    """Scale voxel coordinates so that the centres of the first and last voxel become -1 and +1.

    Args:
        points_vox: ``(..., 3)``, voxels, order (i, j, k).
        shape: ``(I, J, K)``; an axis of one voxel maps to 0 at its centre.
    """
    half = [max(n - 1, 1) / 2 for n in shape]
    start = [1.0 if n > 1 else 0.0 for n in shape]
    if isinstance(points_vox, np.ndarray):
        return points_vox / np.asarray(half, points_vox.dtype) - np.asarray(start, points_vox.dtype)
    return points_vox / points_vox.new_tensor(half) - points_vox.new_tensor(start)
