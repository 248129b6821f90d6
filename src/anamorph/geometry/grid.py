"""The sampling grid of a volume in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anamorph.errors import UserError

NEGLIGIBLE_SHEAR_VOX = 0.1
"""A sheared grid whose corners lie closer than this to one at right angles may be written as that one for ITK."""

SAME_GRID_MM = 0.1
"""Grids of one shape whose corners lie closer than this are the same: headers of one scan differ by rounding."""
ORDINARY_VOXELS_MM = (0.5, 5.0)
"""Voxels for which limits and tolerances in mm hold as they are."""


def voxel_scale(voxel_mm: float) -> float:
    """The factor of limits in mm: 1 for voxels of ordinary size, in proportion to the voxels for others."""
    finest, coarsest = ORDINARY_VOXELS_MM
    return min(voxel_mm / finest, 1.0) * max(voxel_mm / coarsest, 1.0)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Grid:
    """A voxel grid placed in the world: shape and the affine from voxel indices to RAS millimetres.

    Args:
        shape: ``(I, J, K)`` in NIfTI index order; a 2D image has ``K = 1``.
        affine: ``(4, 4)`` float64, voxel index (centre) to RAS mm. Shear is allowed.
        spacing_mm: distance between neighbouring voxels along i, j, k, in place of the affine; one number if all are
            alike.
        origin_mm: RAS position of the first voxel, zero by default; with ``spacing_mm`` only.
        directions: ``(3, 3)`` unit vectors of the axes in RAS, as columns; with ``spacing_mm`` only. By default i goes
            to the patient's right, j to the front, k upwards.

    Raises:
        UserError: the affine is not 4x4, not finite or singular, or an axis has no voxels; neither or both of affine
            and spacing.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __init__(
        self,
        shape: tuple[int, int, int],
        affine: np.ndarray | None = None,
        *,
        spacing_mm: float | Sequence[float] | np.ndarray | None = None,
        origin_mm: Sequence[float] | np.ndarray | None = None,
        directions: np.ndarray | None = None,
    ) -> None:
        shape = tuple(int(n) for n in shape)  # type: ignore[assignment]  # the length is checked next
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"a grid needs three axes with at least one voxel each, not shape {shape}")
        if affine is None:
            affine = _placed(spacing_mm, origin_mm, directions)
        elif not (spacing_mm is None and origin_mm is None and directions is None):
            raise UserError("a grid takes an affine, or spacing_mm with origin_mm and directions, not both")
        affine = np.array(affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise UserError("the affine must be a finite 4x4 matrix; repair the header (sform/qform) of the file")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise UserError("the affine is singular (its axes do not span space); repair the header of the file")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    def __repr__(self) -> str:
        return f"Grid({self.description})"

    @property
    def description(self) -> str:
        """Shape, voxel size and orientation in words."""
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        return f"{' x '.join(map(str, self.shape))} voxels of {spacing} mm, {self.orientation}"

    @cached_property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring voxel centres along i, j, k."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        spacing.flags.writeable = False
        return spacing

    @property
    def finest_mm(self) -> float:
        """Smallest spacing among the axes of more than one voxel: a slice's thickness is no resolution."""
        return float(self.spacing_mm[self._resolved].min())

    @property
    def voxel_mm(self) -> float:
        """Size of a voxel: the geometric mean of the spacings, without axes of a single voxel."""
        return float(np.exp(np.log(self.spacing_mm[self._resolved]).mean()))

    @property
    def longest_mm(self) -> float:
        """Longest side of the field of view, without axes of a single voxel."""
        return float((self.spacing_mm * self.shape)[self._resolved].max())

    @property
    def _resolved(self) -> np.ndarray:
        """Which axes have more than one voxel; all of them if none has."""
        several = np.array(self.shape) > 1
        return several if several.any() else ~several

    @property
    def directions(self) -> np.ndarray:
        """``(3, 3)`` unit vectors of the i, j, k axes in RAS, as columns."""
        return self.affine[:3, :3] / self.spacing_mm

    @property
    def origin_mm(self) -> np.ndarray:
        """RAS position of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3].copy()

    @property
    def centre_mm(self) -> np.ndarray:
        """RAS position of the middle of the grid."""
        return self.voxel_to_world((np.array(self.shape) - 1) / 2)

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction of each axis, such as ``RAS`` or ``LPS``."""
        import nibabel

        return "".join(nibabel.aff2axcodes(self.affine))

    @property
    def is_2d(self) -> bool:
        """True when the third axis has a single voxel."""
        return self.shape[2] == 1

    @property
    def obliqueness_deg(self) -> float:
        """Largest angle between a grid axis and its nearest world axis."""
        return float(np.degrees(np.arccos(np.clip(np.abs(self.directions).max(axis=0), 0, 1))).max())

    @property
    def is_sheared(self) -> bool:
        """True when the axes are not orthogonal, which ITK readers refuse."""
        gram = self.directions.T @ self.directions
        return bool(np.abs(gram - np.eye(3)).max() > 1e-4)

    def voxel_to_world(self, points_vox: np.ndarray) -> np.ndarray:
        """Map ``(..., 3)`` voxel indices to RAS mm."""
        return np.asarray(points_vox, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_voxel(self, points_mm: np.ndarray) -> np.ndarray:
        """Map ``(..., 3)`` RAS mm to (fractional) voxel indices."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points_mm, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def voxel_to_voxel(self, other: Grid) -> np.ndarray:
        """4x4 matrix from voxel indices of this grid to voxel indices of ``other`` at the same world position."""
        return np.linalg.inv(other.affine) @ self.affine

    def corners_mm(self) -> np.ndarray:
        """``(8, 3)`` RAS positions of the outer corners of the corner voxels."""
        low, high = np.full(3, -0.5), np.array(self.shape) - 0.5
        return self.voxel_to_world(np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T)

    def sites_mm(self, count: int = 16) -> np.ndarray:
        """``(count**3, 3)`` RAS mm: points spread evenly over the field of view."""
        parts = (np.arange(count) + 0.5) / count
        places = np.stack(np.meshgrid(parts, parts, parts, indexing="ij"), axis=-1).reshape(-1, 3)
        return self.voxel_to_world(places * self.shape - 0.5)

    def contains(self, points_mm: np.ndarray, margin_vox: float = 0.5) -> np.ndarray:
        """Which of the ``(..., 3)`` RAS points lie inside the field of view."""
        vox = self.world_to_voxel(points_mm)
        return np.all((vox >= -margin_vox) & (vox <= np.array(self.shape) - 1 + margin_vox), axis=-1)

    def limit_mm(self, ordinary_mm: float) -> float:
        """A limit of errors in mm: as given for voxels of ordinary size, in proportion to the voxels for others."""
        return ordinary_mm * voxel_scale(self.voxel_mm)

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True when both have one shape and no corner differs by more than the tolerance for voxels of this size."""
        return self.shape == other.shape and self.corner_distance_mm(other) <= self.limit_mm(tolerance_mm)

    def corner_distance_mm(self, other: Grid) -> float:
        """Largest distance between corresponding outer corners of the two grids."""
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def nearest_orthogonal(self) -> Grid:
        """The grid of the same shape, spacing and middle whose axes are the nearest ones at right angles.

        They come from the polar decomposition of the directions: the nearest orthonormal matrix (Frobenius norm).
        """
        left, _, right = np.linalg.svd(self.directions)
        affine = self.affine.copy()
        affine[:3, :3] = left @ right * self.spacing_mm
        affine[:3, 3] = self.centre_mm - affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return Grid(self.shape, affine)

    @property
    def shear_vox(self) -> float:
        """How far the corners are from those of the nearest grid at right angles, in voxels of the finest spacing."""
        return self.corner_distance_mm(self.nearest_orthogonal()) / self.finest_mm

    def pooled(self, factors: tuple[int, int, int]) -> Grid:
        """The grid of cells of ``factors`` voxels, placed at the cell centres; the last cell may hang over the edge."""
        scale = np.array(factors)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        affine[:3, 3] = self.voxel_to_world((scale - 1) / 2)
        return Grid(tuple(-(-np.array(self.shape) // scale)), affine)

    def cropped(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of a box of whole voxels, slices with a start and a stop each."""
        affine = self.affine.copy()
        affine[:3, 3] = self.voxel_to_world(np.array([part.start for part in box]))
        return Grid(tuple(part.stop - part.start for part in box), affine)

    def thinned(self, steps: Sequence[int] | np.ndarray) -> Grid:
        """The grid of every so many-th voxel along each axis, the first one included."""
        scale = np.asarray(steps)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        i, j, k = -(-np.array(self.shape) // scale)
        return Grid((int(i), int(j), int(k)), affine)

    def refined(self, parts: Sequence[int] | np.ndarray) -> Grid:
        """The grid with the way between neighbouring voxels cut into so many parts; a single-voxel axis stays.

        It holds every voxel of this grid, so a trilinear field read on it is the same field.
        """
        scale = np.where(np.array(self.shape) > 1, np.asarray(parts), 1)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] / scale
        i, j, k = (np.array(self.shape) - 1) * scale + 1
        return Grid((int(i), int(j), int(k)), affine)

    def extended(self, points_mm: np.ndarray, reach_vox: float = 0.5) -> Grid:
        """The grid with as many voxels more on each side as it takes to hold points.

        Args:
            points_mm: ``(N, 3)`` RAS.
            reach_vox: how far beyond the centres of the outermost voxels a point may lie.
        """
        points_vox = self.world_to_voxel(points_mm)
        last = np.array(self.shape) - 1
        before = np.ceil(np.maximum(-reach_vox - points_vox.min(axis=0) - 1e-6, 0))
        after = np.ceil(np.maximum(points_vox.max(axis=0) - last - reach_vox - 1e-6, 0))
        affine = self.affine.copy()
        affine[:3, 3] = self.voxel_to_world(-before)
        i, j, k = (np.array(self.shape) + before + after).astype(int)
        return Grid((int(i), int(j), int(k)), affine)

    def resampled(self, spacing_mm: float | np.ndarray) -> Grid:
        """A grid over the same field of view and centre with (about) the given spacing; single-voxel axes stay."""
        wanted = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
        shape = np.where(np.array(self.shape) > 1, np.ceil(np.array(self.shape) * self.spacing_mm / wanted - 1e-6), 1)
        shape = np.maximum(shape, 1).astype(int)
        step = np.where(np.array(self.shape) > 1, wanted / self.spacing_mm, 1.0)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * step
        start_vox = (np.array(self.shape) - 1) / 2 - step * (shape - 1) / 2
        affine[:3, 3] = self.voxel_to_world(start_vox)
        return Grid(tuple(shape), affine)


def _placed(
    spacing_mm: float | Sequence[float] | np.ndarray | None,
    origin_mm: Sequence[float] | np.ndarray | None,
    directions: np.ndarray | None,
) -> np.ndarray:
    """The affine of a spacing, the place of the first voxel and the directions of the axes."""
    if spacing_mm is None:
        raise UserError("a grid needs a place in the world: give affine=, or spacing_mm=")
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape not in ((), (3,)) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UserError(f"spacing_mm must be one or three positive numbers, not {spacing_mm}")
    axes = np.eye(3) if directions is None else np.asarray(directions, np.float64)
    if axes.shape != (3, 3) or not np.allclose(np.linalg.norm(axes, axis=0), 1, atol=1e-4):
        raise UserError("directions must be a 3x3 matrix whose columns are unit vectors")
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    if origin_mm is not None:
        affine[:3, 3] = origin_mm
    return affine
