"""A surface along which two velocity fields slide: one leads the tissue inside, the other the tissue outside.

Each field is smooth over all of its grid and follows the images on its own side, so that the tangential part of the
motion may jump at the surface. The normal part may not: there each field follows the images on both sides, and both
have to bring the surface to the same place (the splitting of Delmon et al., Phys. Med. Biol. 2013; direction-dependent
smoothness as in Schmidt-Richberg et al., Med. Image Anal. 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anamorph.geometry.sampling import identity_positions, sample
from anamorph.runtime.device import beside, to_numpy
from anamorph.transforms.folding import TETRAHEDRA

BAND_VOX = 2.0
"""So far from the surface, in control voxels, both fields have to agree on how deep a place is."""
WEIGHT, KNOWN_WEIGHT = 1.0, 2.5
"""Of squared disagreements in control voxels, per control cell: with the mask of one scan, and with those of both."""
WIDEST_VOX, WIDER, WIDENINGS = np.float32(8.0), 1.25, 24
"""The way over which one field becomes the other: at most, how much longer in a step, and how many steps."""
BLOCK, EVENNESS = 4, np.float32(0.85)
"""A width for each block of voxels, none much below that of its neighbours."""
LEAST_DETERMINANT, DOUBTFUL = 0.1, 0.7
"""Where both fields are joined, and below what the change by the joining alone asks for a closer look."""


class Surface:
    """The surface on one control grid, as the depth of its points below it; what one scan lacks comes from the other.

    Args:
        here: ``(I, J, K)`` signed depth in control voxels in the frame of the velocity, positive inside, or None.
        there: likewise in the other frame; one of both is given.
        control: descriptor voxels per control cell and axis.
        shape: of the descriptors.
    """

    def __init__(
        self,
        here: np.ndarray | None,
        there: np.ndarray | None,
        control: tuple[int, int, int],
        shape: tuple[int, int, int],
    ) -> None:
        self._given = here, there
        self._weight = WEIGHT if here is None or there is None else KNOWN_WEIGHT
        self._still = identity_positions(next(depth for depth in (here, there) if depth is not None).shape)
        cell = np.array(control, np.float32).reshape(3, 1, 1, 1)
        self._fine = (identity_positions(shape) + np.float32(0.5)) / cell - np.float32(0.5)

    def depths(self, forwards: Sequence[Any], backwards: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Depth in both frames: as given, or carried over by the mean of what both fields say."""
        here, there = self._given
        if here is not None:
            return here, self._carried(here, backwards) if there is None else there
        assert there is not None
        return self._carried(there, forwards), there

    def inside(self, depth: np.ndarray, like: Any) -> Any:
        """``(I, J, K)``: 1 for descriptor voxels inside the surface, 0 for those outside."""
        return beside(like, (sample(depth[None], self._fine)[0] > 0).astype(np.float32))

    def share(self, depths: tuple[np.ndarray, np.ndarray], gradients: Sequence[Any]) -> None:
        """Let what one side asks for across the surface move the other side too."""
        depth = (depths[0] + depths[1]) / 2
        band = np.flatnonzero(np.abs(depth) < BAND_VOX)
        normal = _slope(depth).reshape(3, -1)[:, band]
        normal /= np.maximum(np.linalg.norm(normal, axis=0), np.float32(1e-6))
        near = 1 - np.abs(depth.flat[band]) / np.float32(BAND_VOX)
        across = [near * (normal * to_numpy(gradient).reshape(3, -1)[:, band]).sum(axis=0) for gradient in gradients]
        for gradient, other in zip(gradients, across[::-1], strict=True):
            added = np.zeros(self._still.shape, np.float32)
            added.reshape(3, -1)[:, band] = other * normal
            gradient += beside(gradient, added)

    def add(
        self,
        depths: tuple[np.ndarray, np.ndarray],
        forwards: Sequence[Any],
        backwards: Sequence[Any],
        gradients: Sequence[Any],
        scale: float,
    ) -> float:
        """The energy of disagreement about the surface; its gradients by both velocities are added in place."""
        energy = 0.0
        for fields, (source, target), sign in ((forwards, depths, 1), (backwards, depths[::-1], -1)):
            slope = _slope(target)
            band = np.flatnonzero(np.abs(source) < BAND_VOX)
            near = 1 - np.abs(source.flat[band]) / np.float32(BAND_VOX)
            for field, gradient in zip(fields, gradients, strict=True):
                places = (self._still + to_numpy(field)).reshape(3, -1)[:, band]
                found = sample(np.concatenate([target[None], slope]), places)
                apart = found[0] - source.flat[band]
                energy += scale * self._weight * float((near * apart**2).sum()) / 2
                added = np.zeros(self._still.shape, np.float32)
                added.reshape(3, -1)[:, band] = np.float32(scale * self._weight * sign) * near * apart * found[1:]
                gradient += beside(gradient, added)
        return energy

    def _carried(self, depth: np.ndarray, fields: Sequence[Any]) -> np.ndarray:
        return np.mean([sample(depth[None], self._still + to_numpy(field))[0] for field in fields], axis=0)


def _slope(depth: np.ndarray) -> np.ndarray:
    """``(3, I, J, K)`` derivatives along the axes."""
    return np.stack([np.gradient(depth, axis=a) if depth.shape[a] > 1 else 0 * depth for a in range(3)])


def join(inside: np.ndarray, outside: np.ndarray, depth_vox: np.ndarray) -> np.ndarray:
    """Two fields joined at a surface, each place as steeply as a trilinear field can be without a fold.

    A change along the surface is a shear, which folds nothing, however steep; but the points of a grid do not lie along
    the surface, and a shear that is too steep for them folds between them. The map changes as ``J g`` there, with J the
    jump and g the slope of the share of the field inside, so its determinant is ``1 + J . g``, in each tetrahedron,
    beside what both fields do themselves.

    Args:
        inside: ``(3, I, J, K)``, voxels.
        outside: field of the tissue outside, in the same voxels.
        depth_vox: ``(I, J, K)`` signed depth below the surface, positive inside.
    """
    from scipy.ndimage import maximum_filter

    flat = [axis for axis, n in enumerate(depth_vox.shape) if n == 1]
    if flat:  # a slice is joined as if it were two
        twice = join(*(np.repeat(array, 2, axis=flat[0] - 3) for array in (inside, outside, depth_vox)))
        return np.take(twice, [0], axis=flat[0] + 1)
    jump, shape = inside - outside, np.array(depth_vox.shape)
    share = (depth_vox > 0).astype(np.float32)
    near = np.flatnonzero(abs(depth_vox) < WIDEST_VOX / 2 + 1)
    at = np.stack(np.unravel_index(near, shape))
    depth, whole = depth_vox.ravel()[near], np.all(at < shape[:, None] - 1, axis=0)
    places = (at.astype(np.float32) + np.float32(0.5)) / BLOCK - np.float32(0.5)
    flat_jump, flat_outside = jump.reshape(3, -1), outside.reshape(3, -1)
    width = np.ones(-(-shape // BLOCK), np.float32)
    block, changed = np.ravel_multi_index(tuple(at // BLOCK), width.shape), np.ones(width.shape, bool)
    for _ in range(WIDENINGS):
        asked = np.flatnonzero(changed.ravel()[block])
        share.flat[near[asked]] = _ramp(depth[asked] / sample(width[None], places[:, asked])[0])
        asked = asked[whole[asked] & (abs(depth[asked]) < width.ravel()[block[asked]] / (2 * EVENNESS) + 2)]
        corners = near[asked] + _corner_offsets(shape)[:, None]
        slopes = np.tensordot(_SLOPES, share.ravel()[corners], 1)
        least = 1 + (slopes * flat_jump[:, None, near[asked]]).sum(axis=0).min(axis=0)
        doubtful = np.flatnonzero(least < DOUBTFUL)
        those = corners[:, doubtful]
        exact = _least_determinants(flat_outside[:, those] + share.ravel()[those] * flat_jump[:, those])
        steep = asked[doubtful[np.minimum(exact, least[doubtful]) < LEAST_DETERMINANT]]
        before = width.copy()
        width.flat[np.unique(block[steep])] *= np.float32(WIDER)
        width = np.minimum(np.maximum(width, EVENNESS * maximum_filter(width, 3)), WIDEST_VOX)
        changed = maximum_filter(width > before, 3)
        if not changed.any():
            break
    return outside + share * jump


def _least_determinants(corners_vox: np.ndarray) -> np.ndarray:
    """``(N,)``: the least determinant in the tetrahedra of cells whose eight corners move by ``(3, 8, N)`` voxels."""
    change = np.moveaxis(np.tensordot(_SLOPES, corners_vox, ((2,), (1,))), 2, 0)
    i, j, k = (change[:, axis] + np.eye(3, dtype=np.float32)[axis].reshape(3, 1, 1) for axis in range(3))
    return (i * np.cross(j, k, axis=0)).sum(axis=0).min(axis=0)


def _ramp(relative: np.ndarray) -> np.ndarray:
    """From 0 to 1 between -0.5 and 0.5."""
    left = np.clip(relative + np.float32(0.5), 0, 1)
    return left * left * (3 - 2 * left)


def _corner_offsets(shape: np.ndarray) -> np.ndarray:
    """``(8,)``: how far the corners of a cell lie behind the first one in a flat array, numbered as in TETRAHEDRA."""
    return np.array([(n >> 2) * shape[1] * shape[2] + (n >> 1 & 1) * shape[2] + (n & 1) for n in range(8)])


def _slopes_of_tetrahedra() -> np.ndarray:
    """``(3, 10, 8)``: the slopes along each axis in each tetrahedron of a cell from the values at the eight corners."""
    slopes = np.zeros((3, len(TETRAHEDRA), 8), np.float32)
    at = np.array([[n >> 2, n >> 1 & 1, n & 1] for n in range(8)], np.float64)
    for number, (first, *others) in enumerate(TETRAHEDRA):
        inverse = np.linalg.inv(at[others] - at[first])
        slopes[:, number, others] = inverse
        slopes[:, number, first] = -inverse.sum(axis=1)
    return slopes


_SLOPES = _slopes_of_tetrahedra()
