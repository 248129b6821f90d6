from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anamorph.evaluation import inverse_consistency as consistency
from anamorph.evaluation.dice import dice
from anamorph.evaluation.hausdorff import hd95_mm
from anamorph.evaluation.jacobian import jacobian_summary
from anamorph.evaluation.tre import tre_axes_mm, tre_mm
from anamorph.image import Image, Labels, Points
from anamorph.transforms import Affine, Transform


@dataclass(frozen=True)
class Agreement:
    """How well two scans agree: before (identity in world coordinates) or after registration.

    ``dice`` and ``hd95_mm`` are per label, ``tre_mm`` per landmark; ``tre_axes_mm`` is the mean absolute error of the
    landmarks to the right, anterior and superior. ``similarity`` is larger for better, None where nothing is in view,
    and no measure of accuracy.
    """

    dice: dict[int, float] = field(default_factory=dict)
    hd95_mm: dict[int, float] = field(default_factory=dict)
    tre_mm: tuple[float, ...] = ()
    similarity: float | None = None
    tre_axes_mm: tuple[float, ...] = ()

    @property
    def mean_dice(self) -> float | None:
        """Mean over labels; None without labels."""
        return _mean(self.dice.values())

    @property
    def lowest_dice(self) -> tuple[int, float] | None:
        """The label that overlaps least and its Dice; None without labels."""
        return min(self.dice.items(), key=lambda item: item[1], default=None)

    @property
    def mean_hd95_mm(self) -> float | None:
        """Mean over labels; None without labels."""
        return _mean(self.hd95_mm.values())

    @property
    def mean_tre_mm(self) -> float | None:
        """Mean over landmarks; None without landmarks."""
        return _mean(self.tre_mm)

    @property
    def p95_tre_mm(self) -> float | None:
        """95th percentile over landmarks; None without landmarks."""
        return float(np.percentile(self.tre_mm, 95)) if self.tre_mm else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: means first, then one value per label or landmark."""
        names = ("mean_dice", "mean_hd95_mm", "mean_tre_mm", "p95_tre_mm")
        means = {name: getattr(self, name) for name in names}
        return plain(means | dataclasses.asdict(self))


@dataclass(frozen=True)
class PairMetrics:
    """All numbers of one registered pair.

    ``jacobian`` is :func:`jacobian_summary`; ``inverse_consistency_mm`` has mean, p95 and max; ``outside_percent`` is
    the share of the fixed field of view that is mapped outside the moving one. Labels of one scan alone are not
    compared, but listed in ``labels_only_fixed`` and ``labels_only_moving``; ``labels_lost`` vanished in warping.
    ``voxel_mm`` is the edge of a voxel of the coarser scan, the ruler of the limits that are in voxels.
    """

    before: Agreement
    after: Agreement
    jacobian: dict[str, float]
    inverse_consistency_mm: dict[str, float]
    outside_percent: float
    labels_only_fixed: tuple[int, ...] = ()
    labels_only_moving: tuple[int, ...] = ()
    labels_lost: tuple[int, ...] = ()
    voxel_mm: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain(values | {"before": self.before.to_dict(), "after": self.after.to_dict()})


def evaluate_pair(
    fixed: Image,
    moving: Image,
    fixed_to_moving: Transform,
    moving_to_fixed: Transform,
    *,
    fixed_labels: Labels | None = None,
    moving_labels: Labels | None = None,
    fixed_points: Points | None = None,
    moving_points: Points | None = None,
    warped_labels: Labels | None = None,
    jacobian: np.ndarray | None = None,
    inverse_consistency_mm: np.ndarray | None = None,
    similarity: tuple[float | None, float | None] | None = None,
) -> PairMetrics:
    """Measure a registration, before and after.

    Args:
        fixed: only its grid is used.
        moving: only its grid is used.
        fixed_to_moving: the result.
        moving_to_fixed: the other direction of the result.
        fixed_labels: with ``moving_labels`` gives Dice and HD95, on the grid of the fixed labels.
        moving_labels: see above.
        fixed_points: with ``moving_points`` gives the target registration error.
        moving_points: see above.
        warped_labels: the moving labels on the grid of the fixed labels, if already at hand.
        jacobian: ``(I, J, K)`` determinants on the fixed grid, if already at hand.
        inverse_consistency_mm: ``(I, J, K)`` map on the fixed grid, if already at hand.
        similarity: before and after, larger is better; None where it cannot be measured.

    Raises:
        UserError: the landmarks do not correspond.
        ValueError: ``warped_labels`` are not on the grid of the fixed labels.
    """
    if jacobian is None:
        jacobian = fixed_to_moving.jacobian_determinant(fixed.grid)
    if inverse_consistency_mm is None:
        inverse_consistency_mm = consistency.inverse_consistency_mm(
            fixed_to_moving, moving_to_fixed, fixed.grid, moving.grid
        )
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    lists: dict[str, tuple[int, ...]] = {}
    if fixed_labels is not None and moving_labels is not None:
        unwarped = Affine.identity().warp_labels(moving_labels, fixed_labels.grid)
        if warped_labels is None:
            warped_labels = fixed_to_moving.warp_labels(moving_labels, fixed_labels.grid)
        in_fixed, in_moving = set(fixed_labels.present()), set(moving_labels.present())
        shared = in_fixed & in_moving
        before |= {"dice": dice(fixed_labels, unwarped, shared), "hd95_mm": hd95_mm(fixed_labels, unwarped, shared)}
        after |= {
            "dice": dice(fixed_labels, warped_labels, shared),
            "hd95_mm": hd95_mm(fixed_labels, warped_labels, shared),
        }
        lists = {
            "labels_only_fixed": tuple(sorted(in_fixed - in_moving)),
            "labels_only_moving": tuple(sorted(in_moving - in_fixed)),
            "labels_lost": tuple(sorted(shared - set(warped_labels.present()))),
        }
    if fixed_points is not None and moving_points is not None:
        for found, transform in ((before, Affine.identity()), (after, fixed_to_moving)):
            found["tre_mm"] = tuple(tre_mm(fixed_points, moving_points, transform).tolist())
            found["tre_axes_mm"] = tuple(tre_axes_mm(fixed_points, moving_points, transform).mean(axis=0).tolist())
    if similarity is not None:
        before["similarity"], after["similarity"] = similarity
    return PairMetrics(
        before=Agreement(**before),
        after=Agreement(**after),
        jacobian=jacobian_summary(jacobian),
        inverse_consistency_mm=consistency.summary(inverse_consistency_mm),
        outside_percent=100 * float(np.isnan(inverse_consistency_mm).mean()),
        voxel_mm=max(fixed.grid.voxel_mm, moving.grid.voxel_mm),
        **lists,
    )


def plain(value: Any) -> Any:
    """Turn nested values into what JSON can hold: keys become text, tuples lists, numbers that are not finite None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _mean(values: Any) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
