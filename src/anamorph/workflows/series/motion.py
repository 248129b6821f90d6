"""From the map of every frame to a smooth course in time, and the numbers of the motion.

The smooth series ``u`` of velocities ``v`` minimises
``sum |u_t - v_t|^2 + strength * sum |u_{t+3} - 3 u_{t+2} + 3 u_{t+1} - u_t|^2`` (Whittaker 1923; Eilers, Analytical
Chemistry 2003): even acceleration costs nothing, a jump costs much. The strength can be the one that predicts left-out
frames best, by generalised cross-validation (Craven and Wahba, Numerische Mathematik 1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anamorph.evaluation.strain import LabelStrain, StrainMeter
from anamorph.features.intensity import body_mask, prepared_channels
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.image.series import ImageSeries
from anamorph.transforms.fields import exponential, logarithm
from anamorph.transforms.maps import Displacement, Transform
from anamorph.workflows.series.settings import SeriesSettings

MOST_POINTS = 1 << 20
"""Of the grid of the velocities; fields that are held at more voxels are smooth enough for coarser ones."""
LEAST_POINTS = 24
"""Along the longest axis of that grid."""
DARK = 0.15
"""Share of its range up to which a voxel of a scan other than CT is no tissue."""
COMPARED_VOXELS = 1 << 17
"""Of a frame that are looked at to see whether frames still agree."""
MOST_WORSE, LEAST_STRENGTH = 1.05, 1e-2
"""Factor by which smoothing may raise the deviation of the frames from each other, and what is no smoothing."""
MEASURED_VOXELS = 1 << 22
"""Of a frame at the most that motion is measured at, evenly spread."""
FEWEST_FRAMES = 5
"""Frames from which a strength can be chosen by cross-validation."""
STRENGTHS = np.geomspace(1e-3, 1e7, 101)

Maps = tuple[Displacement, Displacement]
"""Of points of the target to those of a frame, and back."""


@dataclass(frozen=True, eq=False)
class TemporalSmoother:
    """The linear map that smooths a series, of any number of values at a time.

    Args:
        frames: in the series.
        cyclic: the first frame follows the last one, as in a heart beat.
        still: a frame that is known to be zero, such as the velocity of the reference; None for none.
    """

    frames: int
    cyclic: bool = False
    still: int | None = None

    @property
    def free(self) -> list[int]:
        """The frames that are not known."""
        return [frame for frame in range(self.frames) if frame != self.still]

    def roughness(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors, as columns, of the penalty of the free frames."""
        identity = np.eye(self.frames)
        ahead = [np.roll(identity, step, axis=1) for step in range(4)]
        third = ahead[3] - 3 * ahead[2] + 3 * ahead[1] - identity
        third = (third if self.cyclic else third[:-3])[:, self.free]
        values, vectors = np.linalg.eigh(third.T @ third)
        return np.maximum(values, 0), vectors

    def strength(self, values: np.ndarray) -> float:
        """The strength with the least generalised cross-validation score over all values together.

        It is 0 for fewer than five frames that are not known.

        Args:
            values: ``(T, ...)`` of all frames.
        """
        if len(self.free) < FEWEST_FRAMES:
            return 0.0
        roughness, vectors = self.roughness()
        free = values[self.free].reshape(len(roughness), -1)
        power = ((vectors.T @ free).astype(np.float64) ** 2).sum(axis=1)
        kept = 1 / (1 + STRENGTHS[:, None] * roughness)
        residual, freedom = (1 - kept) ** 2 @ power, (1 - kept).sum(axis=1)
        return float(STRENGTHS[np.argmin(residual / freedom**2)])

    def smooth(self, values: np.ndarray, strength: float) -> np.ndarray:
        """The smooth series, float32.

        Args:
            values: ``(T, ...)`` of all frames; the still one is zero.
            strength: of the penalty.
        """
        roughness, vectors = self.roughness()
        matrix = (vectors / (1 + strength * roughness) @ vectors.T).astype(np.float32)
        smooth = np.array(values, np.float32)
        smooth[self.free] = (matrix @ smooth[self.free].reshape(len(matrix), -1)).reshape(-1, *values.shape[1:])
        return smooth


def smooth_motion(
    maps: Sequence[Maps], series: ImageSeries, still: int | None, settings: SeriesSettings
) -> tuple[list[Maps], float]:
    """Smooth the velocities of all frames over time.

    Each map is taken to be the flow of a stationary velocity for unit time; a frame has one for its whole way from the
    target, so that the velocities of all frames are fields on one grid, and can be smoothed point by point. Motion that
    jumps from frame to frame looks like noise to cross-validation, so its strength is lowered until the warped frames
    agree about as well as without smoothing.

    Args:
        maps: of every frame.
        series: the frames.
        still: number of the frame whose map is the identity; None where all are brought to a mean.
        settings: strength, and whether the series is a cycle.

    Returns:
        both directions of every frame's smooth map, and the strength; the maps as they are where it is 0.
    """
    strength = settings.smoothing
    if strength == 0:
        return [*maps], 0.0
    grid = _velocity_grid([forward for forward, _ in maps])
    velocities = np.stack([logarithm(forward.displacement_on(grid).disp_vox) for forward, _ in maps])
    if still is not None:
        velocities[still] = 0
    smoother = TemporalSmoother(len(maps), settings.cyclic, still)
    limit = np.inf
    if strength == "auto":
        strength = smoother.strength(velocities)
        limit = MOST_WORSE * _disagreement(series, [forward for forward, _ in maps])
    while strength > LEAST_STRENGTH:
        smooth = smoother.smooth(velocities, strength)
        onward = [Displacement(exponential(one), grid) for one in smooth]
        if _disagreement(series, onward) <= limit:
            back = (Displacement(exponential(-one), grid) for one in smooth)
            return [*zip(onward, back, strict=True)], strength
        strength /= 3
    return [*maps], 0.0


def _disagreement(series: ImageSeries, maps: Sequence[Transform]) -> float:
    """Root mean square deviation of the warped frames from their mean, at some voxels."""
    step = int(np.ceil((np.prod(series.grid.shape) / COMPARED_VOXELS) ** (1 / 3)))
    grid = series.grid.thinned([step if n > 8 * step else 1 for n in series.grid.shape])
    values = [
        sample(prepared_channels(frame)[:1], one.moving_positions(grid, series.grid))
        for frame, one in zip(series.frames, maps, strict=True)
    ]
    return float(np.sqrt(np.var(values, axis=0).mean()))


def _velocity_grid(maps: Sequence[Displacement]) -> Grid:
    """The finest grid that a field is defined on, or a coarser or finer one over the same place if need be."""
    grid = max((one.grid for one in maps), key=lambda found: float(np.prod(found.shape)))
    excess = np.prod(grid.shape) / MOST_POINTS
    if excess > 1:
        return grid.resampled(grid.spacing_mm * excess ** (1 / 3))
    if max(grid.shape) < LEAST_POINTS:  # affine maps, which fields of a few points hold
        return grid.resampled(grid.spacing_mm * max(grid.shape) / LEAST_POINTS)
    return grid


@dataclass(frozen=True)
class FrameMotion:
    """The numbers of one frame.

    Args:
        frame: its number.
        time_s: after the first frame; the number where times are not known.
        displacement_mm: mean of the lengths in the body, and by label.
        displacement_p95_mm: the 95th percentile of the same.
        volume_ml: of each label, carried to the frame.
        folding_percent: of the voxels of the reference.
        residual_before: difference of the frame from the target, as a share of the target's standard deviation.
        residual_after: the same for the warped frame.
        strain: by label.
    """

    frame: int
    time_s: float
    displacement_mm: dict[str, float]
    displacement_p95_mm: dict[str, float]
    volume_ml: dict[int, float]
    folding_percent: float
    residual_before: float
    residual_after: float
    strain: dict[int, LabelStrain] = field(default_factory=dict)


class MotionMeter:
    """Measures the frames of a series, one after the other.

    Args:
        series: the frames.
        before: what frames are compared with as they are.
        after: what warped frames are compared with.
        labels: on the grid of the series, in the place of the target.
        axis: of the grid that labels turn around; None to find it.
    """

    def __init__(
        self, series: ImageSeries, before: Image, after: Image, labels: Labels | None, axis: int | None
    ) -> None:
        self.series, self.before, self.after = series, before, after
        self.body = body_of(after)
        self.strains = None if labels is None else StrainMeter(labels, axis)
        step = max(1, int(np.ceil((np.prod(series.grid.shape) / MEASURED_VOXELS) ** (1 / 3))))
        self.steps = [step if n > 8 * step else 1 for n in series.grid.shape]
        self.grid = series.grid.thinned(self.steps)
        self.places = {"body": self._thin(self.body)}
        if labels is not None:
            self.places |= {str(label): self._thin(labels.data[0] == label) for label in labels.present()}

    def measure(self, number: int, transform: Transform, warped: Image, seen: np.ndarray) -> FrameMotion:
        """The numbers of a frame.

        Args:
            number: of the frame.
            transform: from points of the target to those of the frame.
            warped: the frame on the grid of the target.
            seen: ``(I, J, K)`` where the frame shows the target.
        """
        lengths = np.linalg.norm(transform.displacement_on(self.grid).vectors_mm(), axis=0)
        growth = transform.jacobian_determinant(self.grid)
        voxel_ml = abs(float(np.linalg.det(self.grid.affine[:3, :3]))) / 1000
        found = {name: lengths[place] for name, place in self.places.items() if place.any()}
        return FrameMotion(
            number,
            self.series.times_s[number],
            {name: float(values.mean()) for name, values in found.items()},
            {name: float(np.percentile(values, 95)) for name, values in found.items()},
            {int(name): float(growth[self.places[name]].sum()) * voxel_ml for name in found if name != "body"},
            100 * float((growth <= 0).mean()),
            self._residual(self.series.frames[number], self.before, seen),
            self._residual(warped, self.after, seen),
            {} if self.strains is None else self.strains.measure(transform),
        )

    def _thin(self, voxels: np.ndarray) -> np.ndarray:
        i, j, k = self.steps
        return voxels[::i, ::j, ::k]

    def _residual(self, frame: Image, target: Image, seen: np.ndarray) -> float:
        values, wanted = (one.data[:, self.body & seen].astype(np.float64) for one in (frame, target))
        if not wanted.size:
            return float("nan")
        spread = float(wanted.std())
        return float(np.sqrt(((values - wanted) ** 2).mean())) / spread if spread > 0 else 0.0


def body_of(image: Image) -> np.ndarray:
    """``(I, J, K)`` where a scan shows tissue; everywhere if that cannot be seen."""
    is_ct = looks_like_ct(image)
    values = prepared_channels(image)[0]
    found = body_mask(values, image.grid, 0.0) if is_ct else values > DARK
    return found if found.any() else np.ones(image.grid.shape, bool)


def summary(frames: Sequence[FrameMotion]) -> dict[str, Any]:
    """The extremes over time: of the motion, of every label's volume, and of every strain with its frame."""
    first = frames[0]
    volumes = {label: [one.volume_ml[label] for one in frames] for label in first.volume_ml}
    return {
        "displacement_mm": max(one.displacement_mm["body"] for one in frames),
        "residual_before": float(np.mean([one.residual_before for one in frames])),
        "residual_after": float(np.mean([one.residual_after for one in frames])),
        "volume_ml": {
            label: {
                "smallest": min(course),
                "largest": max(course),
                "ejection_fraction_percent": 100 * (1 - min(course) / max(course)) if max(course) > 0 else 0.0,
            }
            for label, course in volumes.items()
        },
        "peak_strain": {
            label: {
                name: _peak(frames, label, name) for name in STRAINS if getattr(first.strain[label], name) is not None
            }
            for label in first.strain
        },
    }


STRAINS = ("radial", "circumferential", "longitudinal", "largest", "smallest")
"""Names of the fields of a strain, in the order of tables."""


def _peak(frames: Sequence[FrameMotion], label: int, name: str) -> dict[str, float]:
    course = [getattr(one.strain[label], name) for one in frames]
    at = int(np.argmax(np.abs(course)))
    return {"strain": course[at], "frame": frames[at].frame, "time_s": frames[at].time_s}
