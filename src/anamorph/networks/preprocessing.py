"""What a network expects of a scan: the frame it is read in, and the range of its values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.background import background_value
from anamorph.image.image import Image, Labels

if TYPE_CHECKING:
    from anamorph.transforms.maps import Transform

Normalise = Literal["percentile", "zscore", "windows", "none"]
Reading = Literal["averaged", "point"]
PERCENTILES = (1.0, 99.0)
MOST_VOXELS_OF_AN_AXIS = 1 << 16


@dataclass(frozen=True)
class Preprocessing:
    """The same steps in training and in use; a model card keeps them.

    Args:
        spacing_mm: voxel size, one for all axes or one for each; None keeps the voxels of the scan.
        shape: voxels along each axis, cropped or padded around the middle of the field of view; None takes what covers
            the largest scan of a cohort, rounded up to ``multiple``.
        normalise: ``percentile`` maps the 1st and 99th of the voxels above the background to 0 and 1, clipped;
            ``zscore`` brings these voxels to mean 0 and deviation 1, clipped at 5, then to [0, 1]; ``windows`` makes
            one channel in [0, 1] of each window.
        windows: ``(low, high)`` in HU.
        multiple: to which ``shape`` is rounded up when it is not given.
        crop_in_use: crop scans to ``shape`` in use too; else a network that is used sees all of larger ones.
        reading: ``averaged`` averages the voxels that a coarser one covers, as every method reads scans; ``point``
            interpolates at its middle alone, as the models do whose cards name neither.

    Raises:
        UserError: a value that no scan can have, windows without the step that uses them, or the reverse.
    """

    spacing_mm: float | tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None
    normalise: Normalise = "percentile"
    windows: tuple[tuple[float, float], ...] = ()
    multiple: int = 16
    crop_in_use: bool = False
    reading: Reading = "point"

    def __post_init__(self) -> None:
        spacing = np.ravel([] if self.spacing_mm is None else self.spacing_mm)
        if spacing.size not in (0, 1, 3) or not (np.isfinite(spacing) & (spacing > 0)).all():
            raise UserError(f"spacing_mm must be above 0, one for all axes or three, not {self.spacing_mm}")
        shape = () if self.shape is None else self.shape
        if len(shape) not in (0, 3) or not all(_is_count(n) for n in shape) or not _is_count(self.multiple):
            raise UserError(f"shape {self.shape} and multiple {self.multiple} must be counts of voxels")
        if self.normalise not in get_args(Normalise):
            raise UserError(f"normalise is {self.normalise}; choose one of {', '.join(get_args(Normalise))}")
        if self.reading not in get_args(Reading):
            raise UserError(f"reading is {self.reading}; choose one of {', '.join(get_args(Reading))}")
        if not all(np.isfinite(window).all() and window[0] < window[1] for window in self.windows):
            raise UserError(f"windows must be pairs of HU, low and high, not {self.windows}")
        if (self.normalise == "windows") != bool(self.windows):
            raise UserError("normalise=windows and a list of windows go together")

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Preprocessing:
        """The preprocessing that a model card describes.

        Raises:
            UserError: a key is unknown or a value impossible.
            TypeError: a value is of another kind.
        """
        shape, windows, spacing = content.get("shape"), content.get("windows", ()), content.get("spacing_mm")
        given = content | {
            "spacing_mm": tuple(spacing) if isinstance(spacing, list) else spacing,
            "shape": None if shape is None else tuple(shape),
            "windows": tuple((float(low), float(high)) for low, high in windows),
        }
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a model card."""
        content = dataclasses.asdict(self)
        # Caches and cards made before there was a choice stay what they are.
        for name, before in (("crop_in_use", False), ("reading", "point")):
            if content[name] == before:
                del content[name]
        return content

    def covering_shape(self, grid: Grid) -> tuple[int, int, int]:
        """The shape for one scan: as given, else its own in the frame of the network, rounded up to ``multiple``."""
        if self.shape is not None:
            return self.shape
        voxels = self._base(grid).shape
        return tuple(-(-n // self.multiple) * self.multiple for n in voxels)  # type: ignore[return-value]

    def frame(self, grid: Grid, shape: tuple[int, int, int] | None = None) -> Grid:
        """The grid in which a scan is read: its axes in the order and direction of RAS, around its own middle.

        Without a spacing the voxels are those of the scan. With one they may lie half a voxel beside them, where one of
        the two counts along an axis is odd.
        """
        base = self._base(grid)
        shape = self.covering_shape(grid) if shape is None else shape
        start = (np.array(base.shape) - 1) / 2 - (np.array(shape) - 1) / 2
        if self.spacing_mm is None:
            start = np.floor(start + 0.5)
        affine = base.affine.copy()
        affine[:3, 3] = base.voxel_to_world(start)
        return Grid(shape, affine)

    def channels(self, image: Image, frame: Grid, transform: Transform | None = None) -> np.ndarray:
        """The scan read in a frame: ``(C, I, J, K)`` float32 in [0, 1], 0 outside its field of view.

        Args:
            image: a scan.
            frame: where the network sees it.
            transform: from points of the frame to those of the scan; the identity by default.

        Raises:
            UserError: windows for a scan of several channels, or a scan without contrast.
        """
        from anamorph.transforms.maps import Affine, Reading

        if isinstance(transform, Affine):
            # An aligned scan is read in a frame of its own, as in the training.
            frame, transform = Grid(frame.shape, transform.matrix @ frame.affine), None
        lowest = 0.0 if self.normalise != "none" else background_value(image)
        reading = Reading.of(image.grid, frame, transform, averaged=self.reading == "averaged")
        return reading.read(self._normalised(image), lowest)

    def labels(self, labels: Labels, frame: Grid) -> np.ndarray:
        """The label map read in a frame: ``(I, J, K)``, 0 outside."""
        from anamorph.transforms.maps import Affine

        return Affine.identity().warp_labels(labels, frame).data[0]

    def _base(self, grid: Grid) -> Grid:
        turned = canonical(grid)
        return turned if self.spacing_mm is None else turned.resampled(np.array(self.spacing_mm))

    def _normalised(self, image: Image) -> np.ndarray:
        data = image.data.astype(np.float32)
        if self.normalise == "none":
            return data
        if self.normalise == "windows":
            if image.channels != 1:
                raise UserError(f"{image.name} has {image.channels} channels; windows are for scans of one")
            return np.stack([np.clip((data[0] - low) / (high - low), 0, 1) for low, high in self.windows])
        return np.stack([self._scaled(channel, image.name) for channel in data])

    def _scaled(self, channel: np.ndarray, name: str) -> np.ndarray:
        inside = channel[channel > channel.min()]
        if inside.size == 0:
            raise UserError(f"{name}: a channel has one value everywhere; there is nothing to compare")
        if self.normalise == "zscore":
            deviation = max(float(inside.std(dtype=np.float64)), 1e-12)
            z = np.clip((channel - inside.mean(dtype=np.float64)) / deviation, -5, 5)
            return ((z - z.min()) / max(float(np.ptp(z)), 1e-12)).astype(np.float32)
        low, high = np.percentile(inside, PERCENTILES)
        if not high > low:
            low, high = float(channel.min()), float(channel.max())
        return np.clip((channel - low) / (high - low), 0, 1).astype(np.float32)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and 1 <= int(value) <= MOST_VOXELS_OF_AN_AXIS


def canonical(grid: Grid) -> Grid:
    """The same voxels with axes reordered and reversed so that they run nearest to right, anterior and superior."""
    directions = grid.directions
    order = np.zeros(3, int)
    signs = np.ones(3)
    score = np.abs(directions).copy()
    for _ in range(3):  # the clearest axis is named first, so that no two voxel axes claim one
        world, voxel = divmod(int(np.argmax(score)), 3)
        order[world], signs[world] = voxel, np.sign(directions[world, voxel])
        score[world, :], score[:, voxel] = -1, -1
    affine = np.eye(4)
    start = np.zeros(3)
    for world in range(3):
        affine[:3, world] = grid.affine[:3, order[world]] * signs[world]
        start[order[world]] = 0 if signs[world] > 0 else grid.shape[order[world]] - 1
    affine[:3, 3] = grid.voxel_to_world(start)
    return Grid(tuple(grid.shape[n] for n in order), affine)  # type: ignore[arg-type]
