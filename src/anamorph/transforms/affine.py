"""Affine maps as people think of them, by shift, turn and stretches, and fitted robustly to correspondences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import length_text, numbers_mm
from anamorph.transforms.maps import Affine, Transform

SMALLEST_TURN_DEG = 0.05
SMALLEST_STRETCH_PERCENT = 0.05
SMALLEST_SHIFT_VOX = 0.01
"""Less is not reported."""
ALONG = 0.95
"""Of a unit vector: an axis with so much of one direction of the body is named after it."""
BODY_AXES = ("left-right", "back-front", "feet-head")
SIDES = (("right", "left"), ("front", "back"), ("up", "down"))


@dataclass(frozen=True)
class AffineParts:
    """Shift of a point in RAS mm, turn about an axis through it (RAS, right-handed), and the three stretches.

    ``stretches`` are factors, smallest first; ``mirrored`` maps turn right into left.
    """

    shift_mm: tuple[float, float, float]
    turn_deg: float
    turn_axis: tuple[float, float, float]
    stretches: tuple[float, float, float]
    mirrored: bool

    @classmethod
    def of(cls, affine: Affine, about_mm: np.ndarray) -> AffineParts:
        """Take a map apart by polar decomposition, seen from a point ``(3,)`` in RAS mm."""
        from scipy.spatial.transform import Rotation

        left, stretches, right = np.linalg.svd(affine.matrix[:3, :3])
        turn = left @ right
        mirrored = bool(np.linalg.det(turn) < 0)
        vector = Rotation.from_matrix(-turn if mirrored else turn).as_rotvec()
        angle = float(np.linalg.norm(vector))
        axis = vector / angle if angle > 0 else np.array([0.0, 0.0, 1.0])
        shift = affine.map_world(about_mm[None])[0] - about_mm
        return cls(_triple(shift), float(np.rad2deg(angle)), _triple(axis), _triple(np.sort(stretches)), mirrored)

    @property
    def volume_percent(self) -> float:
        """Size of a moved volume in percent of what it was."""
        return 100 * float(np.prod(self.stretches))

    def in_words(self, voxel_mm: float) -> tuple[str, str, str]:
        """Shift, turn and scale, a phrase each; a shift by less than a hundredth of a voxel is none."""
        return self._shift(SMALLEST_SHIFT_VOX * voxel_mm), self._turn(), self._scale()

    def _shift(self, smallest_mm: float) -> str:
        length_mm = float(np.linalg.norm(self.shift_mm))
        if length_mm < smallest_mm:
            return "none"
        lengths = numbers_mm((abs(value) for value in self.shift_mm), 1)
        sides = (names[value < 0] for value, names in zip(self.shift_mm, SIDES, strict=True))
        each = [f"{length} {side}" for length, side in zip(lengths, sides, strict=True) if float(length) > 0]
        return f"{length_text(length_mm, 1)} ({', '.join(each)})"

    def _turn(self) -> str:
        if self.turn_deg < SMALLEST_TURN_DEG:
            return "none"
        about = ", ".join(f"{one:.2f}" for one in self.turn_axis)
        named = np.abs(self.turn_axis).max() >= ALONG
        axis = f"the {body_axis(np.array(self.turn_axis))} axis" if named else f"({about}) in RAS"
        return f"{self.turn_deg:.1f} degrees about {axis}"

    def _scale(self) -> str:
        low, high = (100 * (self.stretches[n] - 1) for n in (0, 2))
        mirrored = ", mirrored" if self.mirrored else ""
        if max(abs(low), abs(high)) < SMALLEST_STRETCH_PERCENT:
            return "none" + mirrored
        smallest, largest = f"{low:+.1f}", f"{high:+.1f}"
        alike = smallest == largest
        each = f"{smallest} % in every direction" if alike else f"{smallest} to {largest} % by direction"
        return f"{each}, {self.volume_percent - 100:+.1f} % in volume{mirrored}"


def body_axis(direction: np.ndarray) -> str:
    """The name of the axis of the body that is nearest to a direction ``(3,)`` in RAS."""
    return BODY_AXES[int(np.argmax(np.abs(direction)))]


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (float(value) + 0.0 for value in values)
    return first, second, third


LinearModel = Literal["translation", "rigid", "similarity", "affine"]
RESIZING: tuple[LinearModel, ...] = ("similarity", "affine")
"""Models that change sizes."""
SINGULAR_VALUES = (0.5, 2.0)
"""A map that stretches beyond this is a failed fit, not anatomy."""


def fit_least_trimmed_squares(
    source: np.ndarray, target: np.ndarray, model: LinearModel, iterations: int = 15, trim: float = 0.5
) -> np.ndarray:
    """Fit ``target = matrix @ [source, 1]`` to the half of the correspondences that agrees best.

    Least squares on all, then repeatedly on those with the smallest residuals (deeds' linear stage; Rousseeuw 1984).

    Args:
        source: ``(N, 3)``.
        target: ``(N, 3)``.
        model: which maps are allowed; rigid is a rotation and a translation, never a reflection, similarity that and
            one change of size.
        iterations: refits.
        trim: fraction of the points that each refit keeps.

    Returns:
        4x4 matrix. Directions that the points do not span keep the identity.
    """
    kept = np.ones(len(source), bool)
    matrix = np.eye(4)
    for _ in range(iterations + 1):
        matrix = fit_linear(source[kept], target[kept], model)
        apart = source @ matrix[:3, :3].T + matrix[:3, 3] - target
        residual = np.einsum("nd,nd->n", apart, apart)
        last = int(trim * (len(source) - 1))
        again = residual <= np.partition(residual, last)[last]
        if np.array_equal(again, kept):  # every further refit would be this one
            break
        kept = again
    return matrix


def is_plausible(matrix: np.ndarray) -> bool:
    """Whether a 4x4 fit is a map at all, mirrors nothing and stretches no direction too much."""
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
        return False
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return bool(stretch.min() >= SINGULAR_VALUES[0] and stretch.max() <= SINGULAR_VALUES[1])


def fit_linear(source: np.ndarray, target: np.ndarray, model: LinearModel) -> np.ndarray:
    """The 4x4 matrix of a model that takes points ``(N, 3)`` closest to others, by least squares.

    Rigid maps by Kabsch (Acta Cryst. A 1976): a rotation and a translation, never a reflection. Similarities, with one
    change of size, by Umeyama (PAMI 1991).
    """
    matrix = np.eye(4)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    if model == "affine":
        # Relative to the identity with a pseudo-inverse: points in a plane or on a line leave the rest untouched.
        # That of the moments is as good as that of the points and takes a tenth of the time.
        centred = source - source_mean
        moments = np.linalg.pinv(centred.T @ centred, rcond=1e-6, hermitian=True)
        matrix[:3, :3] += (moments @ (centred.T @ (target - target_mean - centred))).T
    elif model != "translation":
        u, values, vt = np.linalg.svd((source - source_mean).T @ (target - target_mean))
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T)) or 1.0])
        matrix[:3, :3] = vt.T @ np.diag(signs) @ u.T
        spread = float(np.square(source - source_mean).sum())
        if model == "similarity" and spread > 0:
            matrix[:3, :3] *= (signs @ values) / spread
    matrix[:3, 3] = target_mean - matrix[:3, :3] @ source_mean
    return matrix


def nearest_similarity(affine: Affine, about_mm: np.ndarray) -> tuple[float, Affine]:
    """The change of size of a map without mirroring, and the map that turns alike and changes all sizes so.

    Args:
        affine: by polar decomposition.
        about_mm: ``(3,)`` RAS, a point that both maps take to the same place.
    """
    left, stretches, right = np.linalg.svd(affine.matrix[:3, :3])
    size = float(np.cbrt(np.prod(stretches)))
    matrix = np.eye(4)
    matrix[:3, :3] = size * left @ right
    matrix[:3, 3] = affine.map_world(about_mm[None])[0] - matrix[:3, :3] @ about_mm
    return size, Affine(matrix)


FITTED_VOXELS = 20_000
"""About so many voxels of a grid are enough to fit an affine map to a transform."""


def closest_affine(transform: Transform, grid: Grid) -> Affine:
    """The affine map that is closest to a transform over the voxels of a grid in the least-squares sense.

    Along an axis of a single voxel nothing is fitted.
    """
    step = max(1, round((np.prod(grid.shape) / FITTED_VOXELS) ** (1 / 3)))
    axes = [np.arange((n - 1) % step // 2, n, step) for n in grid.shape]
    points = grid.voxel_to_world(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    centre = points.mean(axis=0)
    design = np.column_stack([points - centre, np.ones(len(points))])
    # Fitting the displacement, not the positions: where points lie in a plane the solution of least norm stays regular.
    solved = np.linalg.lstsq(design, transform.map_world(points) - points, rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3, :3] += solved[:3].T
    matrix[:3, 3] = solved[3] - solved[:3].T @ centre
    return Affine(matrix)
