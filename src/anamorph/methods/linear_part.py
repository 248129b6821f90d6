"""The linear part of a field: a scan read through it is seen where it belongs, and turned as it should be."""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm, logm

from anamorph.geometry.sampling import identity_positions
from anamorph.methods.working_frame import Scan, body_weight
from anamorph.transforms import Affine
from anamorph.transforms.affine import fit_least_trimmed_squares, is_plausible

FITTED_VOXELS = 3.0e4
"""More say nothing new of twelve numbers."""
FEWEST = 16


def split_linear(
    forward: np.ndarray, backward: np.ndarray, fixed: Scan, moving: Scan, is_ct: bool, reach_mm: float = 0.0
) -> tuple[np.ndarray, Affine]:
    """Split a field into a deformation and the linear map after it, which both directions have a say in.

    Descriptors do not turn with a field, and what a field brings into view from outside is not described: so the linear
    part of a network's field goes into the start of a refinement.

    Args:
        forward: ``(3, I, J, K)`` voxels of the grid on which both scans are given.
        backward: the other direction.
        fixed: whose body the forward map is fitted to, by least squares.
        moving: likewise, of the backward map.
        is_ct: whether air differs from the body.
        reach_mm: a linear part that moves no corner of the grid farther is left in the field: the descriptors of a scan
            that lies nearly right are as good, and it is not interpolated.

    Returns:
        the rest of the forward field ``(3, I, J, K)`` in voxels, and the map that follows it in the world; nothing is
        split off a field whose linear part would be no map of a body.
    """
    onward, back = _fit(forward, fixed, is_ct), _fit(backward, moving, is_ct)
    if not (is_plausible(onward) and is_plausible(back)):
        return forward, Affine.identity()
    between = np.real(expm((logm(onward) - logm(back)) / 2))
    # Beside the identity, so that an axis along which nothing moves stays as it is to the last bit.
    affine = fixed.grid.affine
    linear = Affine(np.eye(4) + affine @ (between - np.eye(4)) @ np.linalg.inv(affine))
    corners = fixed.grid.corners_mm()
    if np.linalg.norm(linear.map_world(corners) - corners, axis=1).max() <= reach_mm:
        return forward, Affine.identity()
    places = identity_positions(fixed.grid.shape).reshape(3, -1)
    undone = np.linalg.inv(between)
    rest = undone[:3, :3] @ (places + forward.reshape(3, -1)) + undone[:3, 3:] - places
    return rest.reshape(forward.shape).astype(np.float32), linear


def _fit(disp_vox: np.ndarray, scan: Scan, is_ct: bool) -> np.ndarray:
    """The 4x4 map of voxels nearest to a field, over the body on a coarse lattice."""
    shape = scan.grid.shape
    stride = max(int(np.ceil((np.prod(shape) / FITTED_VOXELS) ** (1 / 3))), 1)
    lattice = np.zeros(shape, bool)
    lattice[::stride, ::stride, ::stride] = True
    body = lattice & (body_weight(scan, is_ct, reach_mm=0.0, background=0.0) > 0.5)
    here = np.argwhere(body if body.sum() >= FEWEST else lattice)
    there = here + disp_vox[:, here[:, 0], here[:, 1], here[:, 2]].T
    return fit_least_trimmed_squares(here.astype(np.float64), there, "affine", iterations=0)
