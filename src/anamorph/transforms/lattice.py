"""The points where a trilinear map is defined, fine enough for pieces, and the map given anew at some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.transforms.fields import jacobian_determinant
from anamorph.transforms.folding import folded_cells
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

Box = tuple[slice, slice, slice]
ROUNDING_VOX = 1e-3
LEAST_DETERMINANT = 0.1
"""A cell around a piece that shrinks further, and did not before, is too steep a transition."""
REACH = 1.6
"""Of the largest change at a piece: over a shorter way the map would fold."""
WIDENINGS, WIDER = 4, 1.5


@dataclass(frozen=True, eq=False)
class Lattice:
    """A transform as displacements at points of a grid, trilinear between them, and an affine map after that.

    Args:
        grid: the points.
        disp_vox: ``(3, I, J, K)`` float32, in voxels of the grid.
        after: a map of the world.
    """

    grid: Grid
    disp_vox: np.ndarray
    after: Affine

    @classmethod
    def of(cls, transform: Transform, scan: Grid, closest_mm: float) -> Lattice:
        """The points of a transform's own field, and others between them until they are close enough.

        Nothing is lost: a trilinear field read at its own points and between them stays the same. A transform of
        another form than a field with affine maps after it is read at the voxels of the scan.

        Args:
            transform: maps points of the scan.
            scan: the field of view that matters.
            closest_mm: points that are so close are close enough.
        """
        field, after = _split(transform)
        own = _corners(scan)
        if isinstance(field, Displacement):
            outermost = own.voxel_to_world(np.moveaxis(np.indices(own.shape), 0, -1).reshape(-1, 3))
            own = field.grid.extended(outermost, reach_vox=0)
        elif not isinstance(field, Affine):
            own = scan
        grid = own.refined(np.maximum(np.ceil(own.spacing_mm / closest_mm - 0.01), 1).astype(int))
        return cls(grid, field.displacement_on(grid).disp_vox, after)

    def transform(self, disp_vox: np.ndarray) -> Transform:
        """The transform with other displacements."""
        return Composite.of(Displacement(disp_vox, self.grid), self.after)

    def to_voxels(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix that ends in voxels of the grid before ``after``, of one that ends in the world after it."""
        return np.linalg.inv(self.after.matrix @ self.grid.affine) @ matrix

    def touched(self, points_mm: np.ndarray, half_mm: np.ndarray | None = None) -> np.ndarray:
        """``(N,)`` flat indices of the points of the grid that say where some places go, or boxes around them.

        Args:
            points_mm: ``(N, 3)`` RAS.
            half_mm: ``(3, 3)`` half edges of a box around each, as columns; none by default.
        """
        places = self.grid.world_to_voxel(points_mm)
        to_voxels = np.linalg.inv(self.grid.affine[:3, :3])
        half = np.zeros(3) if half_mm is None else abs(to_voxels @ half_mm).sum(axis=1)
        last = np.array(self.grid.shape) - 1
        low = np.clip(np.floor(places - half + ROUNDING_VOX), 0, last).astype(int)
        high = np.clip(np.ceil(places + half - ROUNDING_VOX), 0, last).astype(int)
        inside = np.zeros(self.grid.shape, bool)
        for step in np.ndindex(*(high - low).max(axis=0) + 1):
            at = low + step
            inside[tuple(at[(at <= high).all(axis=1)].T)] = True
        return np.flatnonzero(inside)


def _split(transform: Transform) -> tuple[Transform, Affine]:
    """A field, or the identity where there is none, and the affine map after it; or the whole, and nothing after."""
    first, *others = transform.parts if isinstance(transform, Composite) else (transform,)
    if not isinstance(first, Displacement):
        first, others = Affine.identity(), [first, *others]
    after = Composite.of(Affine.identity(), *others)
    return (first, after) if isinstance(after, Affine) else (transform, Affine.identity())


def _corners(grid: Grid) -> Grid:
    """Two points along each axis of more than one voxel: the outer corners of a grid."""
    several = np.array(grid.shape) > 1
    affine = grid.affine.copy()
    affine[:3, :3] *= np.where(several, grid.shape, 1)
    affine[:3, 3] = grid.voxel_to_world(np.where(several, -0.5, 0.0))
    i, j, k = np.where(several, 2, 1)
    return Grid((int(i), int(j), int(k)), affine)


@dataclass(eq=False)
class Given:
    """Points of a lattice whose places are given by an affine map.

    Args:
        points: flat indices of the points.
        matrix: ``(4, 4)``, of the point itself or, if ``follows``, of where it went; both in voxels of the grid.
        follows: whether the map so far goes before the matrix.
        share: how much of the way from where the points went to where they are to go they are brought.
        reach_mm: over which distance the map around the points becomes what it was; 0 asks for a first guess.
    """

    points: np.ndarray
    matrix: np.ndarray
    follows: bool = False
    share: float = 1.0
    reach_mm: float = 0.0

    def box(self, grid: Grid, reach_mm: float = 0.0) -> tuple[Box, np.ndarray]:
        """The box of grid points around by no more than a reach, and the flat indices in it of the given points."""
        at = np.array(np.unravel_index(self.points, grid.shape))
        margin = np.ceil(reach_mm / grid.spacing_mm).astype(int) + 1
        low = np.maximum(at.min(axis=1) - margin, 0)
        high = np.minimum(at.max(axis=1) + margin + 1, grid.shape)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return (i, j, k), np.ravel_multi_index(tuple(at - low[:, None]), tuple(high - low))

    def wanted(self, lattice: Lattice, box: Box) -> np.ndarray:
        """``(3, ...)`` float64 displacements of the points of a box."""
        still = np.stack(np.meshgrid(*(np.arange(s.start, s.stop, dtype=np.float64) for s in box), indexing="ij"))
        so_far = lattice.disp_vox[(slice(None), *box)]
        source = still + so_far if self.follows else still
        whole = np.tensordot(self.matrix[:3, :3], source, 1) + self.matrix[:3, 3].reshape(3, 1, 1, 1) - still
        return whole if self.share == 1 else so_far + self.share * (whole - so_far)

    def farthest_mm(self, lattice: Lattice) -> float:
        """The largest distance between where the points are to go and where they went."""
        box, inner = self.box(lattice.grid)
        whole = (slice(None), *box)
        apart = (self.wanted(lattice, box) - lattice.disp_vox[whole]).reshape(3, -1)[:, inner]
        return float(np.linalg.norm(lattice.grid.affine[:3, :3] @ apart, axis=0).max())


def given_anew(lattice: Lattice, all_given: Sequence[Given]) -> tuple[np.ndarray, list[int]]:
    """The displacements of a lattice where some points are given, and a smooth transition around those.

    Around each piece the map fades from the given one into the one that was, over ``reach_mm``: where that would fold
    or squeeze the lattice, over more. Between pieces the nearer one weighs more.

    Args:
        lattice: the map that was.
        all_given: what is given, at points that no two of them share; each ``reach_mm`` is set to what was needed.

    Returns:
        ``(3, I, J, K)`` float32 displacements, and the numbers of those around which the map folds all the same.
    """
    apart_mm = lattice.grid.spacing_mm[np.array(lattice.grid.shape) > 1].max()
    for one in all_given:
        one.reach_mm = one.reach_mm or max(2 * apart_mm, REACH * one.farthest_mm(lattice))
    first_mm = [one.reach_mm for one in all_given]
    for _ in range(WIDENINGS):
        disp_vox = _blended(lattice, all_given)
        steep = [n for n, one in enumerate(all_given) if _is_steep(lattice, disp_vox, one, LEAST_DETERMINANT)]
        if not steep:
            return disp_vox, []
        for n in steep:
            all_given[n].reach_mm *= WIDER
    for n in steep:  # where no way is long enough, as between pieces that collide, a short one spoils less
        all_given[n].reach_mm = first_mm[n]
    disp_vox = _blended(lattice, all_given)
    return disp_vox, [n for n, one in enumerate(all_given) if _is_steep(lattice, disp_vox, one, 0.0)]


def _blended(lattice: Lattice, all_given: Sequence[Given]) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    pull, weight, strength = (np.zeros((n, *lattice.grid.shape), np.float32) for n in (3, 1, 1))
    exact = []
    for one in all_given:
        box, inner = one.box(lattice.grid, one.reach_mm)
        whole = (slice(None), *box)
        wanted = one.wanted(lattice, box)
        outside = np.ones(wanted.shape[1:], bool)
        outside.flat[inner] = False
        distance = distance_transform_edt(outside, sampling=lattice.grid.spacing_mm).astype(np.float32)
        left = np.clip(1 - distance / np.float32(one.reach_mm), 0, 1)
        fading = left * left * (3 - 2 * left)
        share = fading / np.maximum(distance, np.float32(1e-3))
        pull[whole] += share * (wanted - lattice.disp_vox[whole])
        weight[whole] += share
        np.maximum(strength[whole], fading, out=strength[whole])
        exact.append(wanted.reshape(3, -1)[:, inner])
    disp_vox = lattice.disp_vox + strength * pull / np.maximum(weight, np.float32(1e-30))
    for one, values in zip(all_given, exact, strict=True):  # to the last bit, where another piece is near
        disp_vox.reshape(3, -1)[:, one.points] = values
    return disp_vox


def _is_steep(lattice: Lattice, disp_vox: np.ndarray, one: Given, least: float) -> bool:
    """Whether the map around a piece folds, or squeezes below ``least``, where it did not before."""
    box = (slice(None), *one.box(lattice.grid, one.reach_mm)[0])
    before, after = (np.ascontiguousarray(field[box]) for field in (lattice.disp_vox, disp_vox))
    if folded_cells(after) > folded_cells(before) + 1e-6:
        return True
    squeezed = jacobian_determinant(after) < least
    return bool((squeezed & (jacobian_determinant(before) >= least)).any())
