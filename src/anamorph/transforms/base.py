"""What every transform can do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.sampling import Interpolation, advance_affine, identity_positions, sample, sample_labels
from anamorph.image import Image, Labels, Points
from anamorph.image.background import background_value, cast_like

if TYPE_CHECKING:
    from anamorph.transforms.displacement import Displacement

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
        """Words for whose points go where; the scan that a transform starts from is its fixed one unless ``maps`` says otherwise."""
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
        from anamorph.transforms.composite import Composite

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
        from anamorph.transforms.displacement import Displacement

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
        values = sample(image.data, self.moving_positions(fixed_grid, image.grid), interpolation, fill)
        return Image(cast_like(values, image.data.dtype), fixed_grid, image.name)

    def warp_labels(self, labels: Labels, fixed_grid: Grid, interpolation: Interpolation = "linear") -> Labels:
        """Pull a moving label map onto the fixed grid.

        Args:
            labels: the moving label map.
            fixed_grid: grid of the result.
            interpolation: ``"linear"`` interpolates one-hot maps, which keeps small labels and smooth outlines;
                ``"nearest"`` copies the nearest voxel.
        """
        positions = self.moving_positions(fixed_grid, labels.grid)
        if interpolation == "linear":
            return Labels(sample_labels(labels.data[0], positions), fixed_grid, labels.name)
        return Labels(sample(labels.data, positions, "nearest", 0), fixed_grid, labels.name)

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """``(I, J, K)`` float32: local change of volume; 1 is unchanged, <= 0 is folded.

        The determinant of the map's derivative is the same number in voxels and in millimetres, because the grid's
        affine enters once forward and once backward. Central differences, one-sided at the border.
        """
        return self.displacement_on(grid).jacobian_determinant(grid)
