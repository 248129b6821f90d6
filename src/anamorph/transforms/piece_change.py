"""What a map does to a piece: its volume afterwards, and how far it is from a rigid motion."""

from __future__ import annotations

import numpy as np

from anamorph.image.pieces import Piece
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.maps import Transform


def moved_volume_mm3(piece: Piece, transform: Transform) -> float:
    """The volume of a piece after a map, by the divergence theorem on the outside of its voxels.

    A square becomes a bilinear patch, below which the volume is the mean of those of both its triangulations; so for a
    map that is trilinear in each voxel the result is exact.

    Args:
        piece: its voxels.
        transform: a map of points of its scan.
    """
    corners, faces = piece.faces
    moved = transform.map_world(piece.grid.voxel_to_world(corners))
    a, b, c, d = (moved - moved.mean(axis=0))[faces].transpose(1, 0, 2)
    first = _signed(a, b, c) + _signed(a, c, d)
    second = _signed(a, b, d) + _signed(b, c, d)
    return float((first + second) / 2 * np.sign(np.linalg.det(piece.grid.affine[:3, :3])))


def _signed(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Sum of the signed volumes of tetrahedra of triangles ``(F, 3)`` and the origin."""
    return float(np.einsum("fx,fx->", a, np.cross(b, c)) / 6)


def volume_change_percent(piece: Piece, transform: Transform) -> float:
    """By how many per cent the volume of a piece grows, negative where it shrinks."""
    return 100 * (moved_volume_mm3(piece, transform) / piece.volume_mm3 - 1)


def rigid_deviation_mm(piece: Piece, transform: Transform) -> float:
    """The largest distance between where a map takes the voxel centres of a piece and the best rigid motion of them."""
    moved = transform.map_world(piece.centres_mm)
    rigid = fit_linear(piece.centres_mm, moved, "rigid")
    apart = piece.centres_mm @ rigid[:3, :3].T + rigid[:3, 3] - moved
    return float(np.sqrt((apart**2).sum(axis=1).max()))
