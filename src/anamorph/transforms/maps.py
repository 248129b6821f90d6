"""Maps of fixed points to moving points: affine maps, dense fields, chains of them, and a scan read through one."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.averaging import Cell, pool_volume
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import (
    Interpolation,
    advance_affine,
    advance_displacement,
    aligned_positions,
    identity_positions,
    native,
    sample,
    sample_labels,
)
from anamorph.geometry.slabs import over_grid
from anamorph.image.background import background_value, cast_like
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.runtime.compiled import kernels
from anamorph.transforms.fields import jacobian_determinant

ROUNDED_DIGITS = 12
"""Of the matrix between the voxels of two grids."""
LEAST_ACROSS_VOX = 1e-4
"""Axes of two grids that lead less across each other, over all of a grid, are the same."""
PointFrame = Literal["ras", "lps"]
Role = Literal["fixed", "moving"]
Roles = tuple[Role, Role]
AnyTransform = TypeVar("AnyTransform", bound="Transform")


class Transform(ABC):
    """A map of the world that takes **fixed points to moving points** and so pulls moving images to the fixed grid.

    ``a @ b`` applies ``b`` first. Points of the fixed scan go through ``apply_points``; points of the moving scan go
    through the transform of the other direction (``Result.moving_to_fixed``) or ``inverse()``.
    """

    maps: Roles | None = None
    """Whose points go where, as a registration calls its two scans; None where nobody said, such as in most files."""

    def between(self, source: Role, target: Role) -> Self:
        """The same transform, known to map points of one scan of a registration to the other."""
        named = copy.copy(self)
        named.maps = (source, target)
        return named

    @property
    def direction(self) -> str:
        """Words for whose points go where: from the fixed scan to the moving one unless ``maps`` says otherwise."""
        return " -> ".join(self.maps or ("fixed", "moving"))

    def _turned(self, inverse: AnyTransform) -> AnyTransform:
        """The inverse with the two scans exchanged."""
        source, target = self.maps or ("fixed", "moving")
        return inverse.between(target, source)

    @abstractmethod
    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        """Map positions in place: ``(3, N)`` float32, contiguous, voxel coordinates of ``grid`` before and after."""

    @abstractmethod
    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        """Map ``(N, 3)`` RAS mm to ``(N, 3)`` RAS mm in float64."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The map of moving points to fixed points."""

    def __matmul__(self, first: Transform) -> Transform:
        return Composite.of(first, self)

    def apply_points(self, points: Points | np.ndarray, frame: PointFrame = "ras") -> Points | np.ndarray:
        """Map fixed points to moving points.

        Args:
            points: landmarks, or an ``(N, 3)`` array in mm.
            frame: frame of an array, before and after; :class:`Points` are always RAS.

        Returns:
            The same type as given.
        """
        if isinstance(points, Points):
            return Points(self.map_world(points.positions_mm), points.labels)
        positions = np.asarray(points, np.float64)
        if frame == "lps":
            return flip_ras_lps(self.map_world(flip_ras_lps(positions)))
        return self.map_world(positions)

    def positions_on(self, grid: Grid) -> np.ndarray:
        """``(3, I, J, K)`` float32: where each voxel of the grid goes, in voxel coordinates of the same grid."""
        positions = identity_positions(grid.shape)
        self.advance(positions.reshape(3, -1), grid)
        return positions

    def displacement_on(self, grid: Grid) -> Displacement:
        """This transform as a dense field on a grid."""
        positions = self.positions_on(grid)
        positions -= identity_positions(grid.shape)
        field = Displacement(positions, grid)
        field.maps = self.maps
        return field

    def moving_positions(self, fixed_grid: Grid, moving_grid: Grid) -> np.ndarray:
        """``(3, I, J, K)`` float32: the place of each fixed voxel in the moving image, in voxels of the moving grid."""
        positions = self.positions_on(fixed_grid)
        advance_affine(positions.reshape(3, -1), fixed_grid.voxel_to_voxel(moving_grid))
        return positions

    def warp_image(
        self,
        image: Image,
        fixed_grid: Grid,
        background: float | Literal["auto"] = "auto",
        interpolation: Interpolation = "linear",
    ) -> Image:
        """Pull a moving image onto the fixed grid, once, from its original voxels, keeping its dtype.

        Args:
            image: the moving image.
            fixed_grid: grid of the result.
            background: value where the moving scan has no voxel; ``"auto"`` is CT air for CT, else the image's minimum.
            interpolation: trilinear, or nearest.
        """
        wanted = background_value(image) if background == "auto" else float(background)
        fill = float(cast_like(np.asarray(wanted), image.data.dtype))
        volume = native(image.data)
        warped = np.empty((image.channels, *fixed_grid.shape), image.data.dtype)

        def pull(planes: slice, slab: Grid) -> None:
            values = sample(volume, self.moving_positions(slab, image.grid), interpolation, fill)
            warped[:, planes] = cast_like(values, warped.dtype)

        over_grid(fixed_grid, pull)
        return Image(warped, fixed_grid, image.name)

    def warp_labels(self, labels: Labels, fixed_grid: Grid, interpolation: Interpolation = "linear") -> Labels:
        """Pull a moving label map onto the fixed grid.

        Args:
            labels: the moving label map.
            fixed_grid: grid of the result.
            interpolation: ``"linear"`` interpolates one-hot maps, which keeps small labels and smooth outlines;
                ``"nearest"`` copies the nearest voxel.
        """
        volume = native(labels.data)
        warped = np.empty(fixed_grid.shape, volume.dtype)

        def pull(planes: slice, slab: Grid) -> None:
            positions = self.moving_positions(slab, labels.grid)
            if interpolation == "linear":
                warped[planes] = sample_labels(volume[0], positions)
            else:
                warped[planes] = sample(volume, positions, "nearest", 0)[0]

        over_grid(fixed_grid, pull)
        return Labels(warped, fixed_grid, labels.name, structures=labels.structures)

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """``(I, J, K)`` float32: local change of volume; 1 is unchanged, <= 0 is folded.

        The determinant of the map's derivative is the same number in voxels and in millimetres, because the grid's
        affine enters once forward and once backward. Central differences, one-sided at the border.
        """
        return self.displacement_on(grid).jacobian_determinant(grid)


class Affine(Transform):
    """An affine map of fixed points to moving points, RAS mm.

    Args:
        matrix: ``(4, 4)``; ``moving = matrix @ [fixed, 1]``.

    Raises:
        UserError: the matrix is not a finite, invertible 4x4.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        matrix = np.array(matrix, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise UserError("an affine transform must be a finite, invertible 4x4 matrix")
        if (abs(matrix[3] - (0, 0, 0, 1)) > (1e-8, 1e-8, 1e-8, 1e-5)).any():
            raise UserError("the last row of an affine transform must be 0 0 0 1")
        matrix.flags.writeable = False
        self.matrix = matrix

    @classmethod
    def identity(cls) -> Affine:
        """The map that leaves every point where it is."""
        return cls(np.eye(4))

    @classmethod
    def about(cls, linear: np.ndarray, point_mm: np.ndarray) -> Affine:
        """A ``(3, 3)`` linear map that leaves a point ``(3,)`` where it is."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = linear, point_mm - linear @ point_mm
        return cls(matrix)

    @classmethod
    def translation(cls, offset_mm: np.ndarray) -> Affine:
        """A shift in RAS mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = offset_mm
        return cls(matrix)

    def __repr__(self) -> str:
        return f"Affine({self.direction}, RAS mm, {np.round(self.matrix[:3], 3).tolist()})"

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        matrix = np.linalg.inv(grid.affine) @ self.matrix @ grid.affine
        advance_affine(positions_vox, matrix)

    def moving_positions(self, fixed_grid: Grid, moving_grid: Grid) -> np.ndarray:
        positions = identity_positions(fixed_grid.shape)
        matrix = np.linalg.inv(moving_grid.affine) @ self.matrix @ fixed_grid.affine
        # Voxels that lie upon each other but for rounding are copied, not interpolated.
        advance_affine(positions.reshape(3, -1), matrix.round(ROUNDED_DIGITS))
        return positions

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        return np.asarray(points_mm, np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self) -> Affine:
        return self._turned(Affine(np.linalg.inv(self.matrix)))


class Composite(Transform):
    """Transforms applied in the order given: the first one sees the fixed points."""

    def __init__(self, parts: tuple[Transform, ...]) -> None:
        self.parts = tuple(parts)

    @classmethod
    def of(cls, *parts: Transform) -> Transform:
        """Chain transforms, first applied first: nested chains are flattened and neighbouring affines multiplied."""
        flat: list[Transform] = []
        for part in parts:
            for one in part.parts if isinstance(part, Composite) else (part,):
                if flat and isinstance(one, Affine) and isinstance(flat[-1], Affine):
                    flat[-1] = Affine(one.matrix @ flat[-1].matrix)
                else:
                    flat.append(one)
        return flat[0] if len(flat) == 1 else cls(tuple(flat))

    def __repr__(self) -> str:
        return f"Composite({self.direction}: {', then '.join(map(repr, self.parts))})"

    def positions_on(self, grid: Grid) -> np.ndarray:
        first, *others = self.parts
        positions = first.positions_on(grid)
        for part in others:
            part.advance(positions.reshape(3, -1), grid)
        return positions

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        for part in self.parts:
            part.advance(positions_vox, grid)

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        for part in self.parts:
            points_mm = part.map_world(points_mm)
        return points_mm

    def inverse(self) -> Transform:
        return self._turned(Composite.of(*(part.inverse() for part in reversed(self.parts))))


class Displacement(Transform):
    """A dense map of fixed points to moving points: ``moving = fixed + u(fixed)``.

    Outside its grid the field continues with the value at the border.

    Args:
        disp_vox: ``(3, I, J, K)`` float32, voxels of ``grid``, channel order i, j, k.
        grid: where the vectors sit.

    ``scan_grid`` is the grid of the scan whose points are mapped, where that is known and the vectors sit on another.

    Raises:
        UserError: the shape does not fit the grid or there are values that are not finite.
    """

    def __init__(self, disp_vox: np.ndarray, grid: Grid) -> None:
        disp_vox = np.ascontiguousarray(disp_vox, np.float32)
        if disp_vox.shape != (3, *grid.shape):
            raise UserError(f"a displacement field of shape {disp_vox.shape} does not fit {grid!r}")
        if not np.isfinite(disp_vox).all():
            raise UserError("the displacement field holds values that are not finite")
        self.disp_vox = disp_vox
        self.grid = grid
        self.scan_grid: Grid | None = None

    def __repr__(self) -> str:
        return f"Displacement({self.direction}, voxels of {self.grid!r})"

    @classmethod
    def from_world(cls, vectors_mm: np.ndarray, grid: Grid) -> Displacement:
        """A field given as ``(3, I, J, K)`` RAS millimetre vectors."""
        inverse = np.linalg.inv(grid.affine[:3, :3]).astype(np.float32)
        vectors = np.asarray(vectors_mm, np.float32).reshape(3, -1)
        return cls((inverse @ vectors).reshape(3, *grid.shape), grid)

    def vectors_mm(self) -> np.ndarray:
        """``(3, I, J, K)`` float32 RAS millimetre vectors."""
        linear = self.grid.affine[:3, :3].astype(np.float32)
        return (linear @ self.disp_vox.reshape(3, -1)).reshape(self.disp_vox.shape)

    def positions_on(self, grid: Grid) -> np.ndarray:
        return self._all_positions(grid, np.eye(4))

    def moving_positions(self, fixed_grid: Grid, moving_grid: Grid) -> np.ndarray:
        return self._all_positions(fixed_grid, fixed_grid.voxel_to_voxel(moving_grid))

    def _all_positions(self, grid: Grid, matrix: np.ndarray) -> np.ndarray:
        """Where all voxels of a grid go, and a matrix after it; faster where the field's grid has the same axes."""
        to_field = grid.voxel_to_voxel(self.grid)
        scale = np.diagonal(to_field)[:3]
        across = abs(to_field[:3, :3] - np.diag(scale)) @ np.array(grid.shape)
        if kernels is None or across.max() > LEAST_ACROSS_VOX or abs(scale).min() < LEAST_ACROSS_VOX:
            positions = super().positions_on(grid)
            advance_affine(positions.reshape(3, -1), matrix)
            return positions
        return aligned_positions(grid.shape, self.disp_vox, scale, to_field[:3, 3], matrix)

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        to_field = grid.voxel_to_voxel(self.grid)
        advance_displacement(positions_vox, self.disp_vox, to_field, np.linalg.inv(to_field[:3, :3]))

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        points_mm = np.asarray(points_mm, np.float64)
        vectors = sample(self.disp_vox, self.grid.world_to_voxel(points_mm).T.astype(np.float32))
        return points_mm + vectors.T.astype(np.float64) @ self.grid.affine[:3, :3].T

    def displacement_on(self, grid: Grid) -> Displacement:
        return self if grid == self.grid else super().displacement_on(grid)

    def jacobian_determinant(self, grid: Grid | None = None) -> np.ndarray:
        """``(I, J, K)`` float32 local change of volume on a grid, its own by default."""
        field = self if grid is None else self.displacement_on(grid)
        return jacobian_determinant(field.disp_vox)

    def inverse(self) -> Transform:
        from anamorph.transforms.inversion import invert

        return self._turned(invert(self, self.grid).transform)


@dataclass(frozen=True, eq=False)
class Reading:
    """The one reading of a scan on another grid: averaged first where that grid is coarser, then interpolated.

    Interpolation at single points of a fine scan would keep its noise and alias what is finer than the grid.

    Args:
        cell: voxels of the scan that are averaged along each axis.
        positions: ``(3, I, J, K)``: where the voxels of the grid lie among the averages.
    """

    cell: Cell
    positions: np.ndarray

    @classmethod
    def of(cls, scan: Grid, grid: Grid, transform: Transform | None = None, *, averaged: bool = True) -> Reading:
        """The reading of a scan.

        Args:
            scan: the voxels of the scan.
            grid: where the scan is read.
            transform: from points of the grid to those of the scan; the identity by default.
            averaged: whether to average at all.
        """
        factor = np.maximum(np.floor(grid.finest_mm / scan.spacing_mm + 1e-6), 1) if averaged else np.ones(3)
        i, j, k = (int(f) for f in np.minimum(factor, scan.shape))
        source = scan if max(i, j, k) == 1 else scan.pooled((i, j, k))
        return cls((i, j, k), (transform or Affine.identity()).moving_positions(grid, source))

    def read(self, volume: np.ndarray, fill: float | None = None) -> np.ndarray:
        """Channels ``(C, I, J, K)`` float32 on the grid.

        Args:
            volume: ``(C, I, J, K)`` on the voxels of the scan.
            fill: value outside the scan; the nearest one inside by default.
        """
        return sample(pool_volume(volume, self.cell), self.positions, fill=fill)
