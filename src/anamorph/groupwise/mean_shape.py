"""The mean of the shapes, and the way from it to the template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from anamorph.groupwise.pose import pose_of, world_positions
from anamorph.transforms import Displacement, Transform
from anamorph.transforms.inversion import invert


@dataclass(frozen=True)
class MeanShape:
    """Where the mean of the scans has the anatomy of a template.

    Args:
        field: the mean of the maps to the scans, each without its pose.
        rms_mm: its length, root mean square: how far the template is from the mean.
        spread_mm: the length of the maps themselves: how far the scans are from the template.
    """

    field: Displacement
    rms_mm: float
    spread_mm: float

    def to_template(self) -> Transform:
        """The inverse of the field: pulls what lies on the template to the mean shape."""
        return invert(self.field, self.field.grid).transform


def mean_shape(fields: Iterable[Displacement], weight: np.ndarray) -> MeanShape:
    """Average the maps of the template to the scans, each without its pose.

    Affine and deformation are averaged together, as one field (Guimond et al., CVIU 2000).

    Args:
        fields: all on one grid, that of the template; at least one.
        weight: ``(I, J, K)`` how much a voxel counts for poses and lengths.
    """
    total: np.ndarray | None = None
    squares, count = 0.0, 0
    for field in fields:
        if total is None:
            grid, positions = field.grid, world_positions(field.grid)
            total = np.zeros_like(positions)
        there = (positions + field.vectors_mm()).reshape(3, -1)
        vectors = pose_of(field, weight).inverse().map_world(there.T).T.reshape(total.shape) - positions
        total += vectors
        squares += rms(vectors, weight) ** 2
        count += 1
    if total is None:
        raise ValueError("no field to average")
    mean = Displacement.from_world(total / count, grid)
    return MeanShape(mean, rms(total / count, weight), (squares / count) ** 0.5)


def rms(vectors: np.ndarray, weight: np.ndarray) -> float:
    """Root of the weighted mean square length of ``(3, I, J, K)`` vectors."""
    squares = (vectors.astype(np.float64) ** 2).sum(axis=0)
    return float(np.sqrt((squares * weight).sum() / max(float(weight.sum()), 1e-12)))
