"""The mean of the shapes, and the way from it to the template."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from anamorph.groupwise.pose import pose_of, world_positions
from anamorph.transforms import Displacement, Transform
from anamorph.transforms.inversion import invert


def mean_field(fields: Iterable[Displacement], weight: np.ndarray) -> Displacement:
    """The mean of the maps of the template to the scans, each without its pose.

    It takes the template's anatomy from where it is to where the mean of the scans has it: affine and deformation
    together, since what is left without the pose is averaged as one field (Guimond et al., CVIU 2000).

    Args:
        fields: all on one grid, that of the template; at least one.
        weight: ``(I, J, K)`` how much a voxel counts for the poses.
    """
    total: np.ndarray | None = None
    count = 0
    for field in fields:
        if total is None:
            grid, positions = field.grid, world_positions(field.grid)
            total = np.zeros_like(positions)
        back = pose_of(field, weight).inverse()
        there = (positions + field.vectors_mm()).reshape(3, -1)
        total += back.map_world(there.T).T.reshape(total.shape) - positions
        count += 1
    if total is None:
        raise ValueError("no field to average")
    return Displacement.from_world(total / count, grid)


def to_template(mean: Displacement) -> Transform:
    """The inverse of the mean field: pulls what lies on the template to the mean shape."""
    return invert(mean, mean.grid).transform


def rms_mm(field: Displacement, weight: np.ndarray) -> float:
    """Root of the weighted mean square length of a field, mm."""
    squares = (field.vectors_mm().astype(np.float64) ** 2).sum(axis=0)
    return float(np.sqrt((squares * weight).sum() / max(float(weight.sum()), 1e-12)))
