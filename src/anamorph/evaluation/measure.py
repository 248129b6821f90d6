"""The one engine that measures a registered pair: `register`, `evaluate` and cohorts call it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.kept_tissue import KeptPiece
from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.learn2reg.measures import inner_box
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics import METRICS
from anamorph.evaluation.metrics.hausdorff import Surfaces, surface_distances_mm
from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm, summary
from anamorph.evaluation.metrics.jacobian import Sums, summary_of, sums_of
from anamorph.evaluation.metrics.metric import Column, Need, Value, columns_of, load
from anamorph.evaluation.metrics.outside import outside_percent
from anamorph.evaluation.numbers import Numbers, score
from anamorph.geometry.grid import SAME_GRID_MM, Grid
from anamorph.geometry.slabs import over_grid, planes_of
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.methods.working_frame import Scan
from anamorph.transforms.folding import folded_cells
from anamorph.transforms.maps import Affine, Displacement, Transform

MAP_POINTS = 64
"""Maps have at least so many points along the longest side of a scan that has as many voxels."""


@dataclass(frozen=True, eq=False)
class RegisteredPair:
    """Two scans, both directions of a transform, what is known about the scans, and the maps that follow from it all.

    Every map is computed once, when something asks for it, and what can be had without dense fields is.

    Args:
        fixed: the fixed scan, or its grid alone where nothing needs the image.
        moving: the moving scan, or its grid.
        fixed_to_moving: the result.
        moving_to_fixed: the other direction; None if there is none.
        fixed_labels: label map on the grid of the fixed scan.
        moving_labels: label map of the moving scan.
        points: pairs of corresponding points of the fixed and of the moving scan, ``landmarks`` or ``keypoints``.
        fixed_mask: where the fixed scan counts.
        moving_mask: where the moving scan has data.
        labels: which labels to compare, of those that both scans have; all by default.
        kept: pieces that were to move rigidly or keep their volume.
        outlines: points ``(N, 3)`` of curves and surfaces of both scans, RAS mm.
        used_labels: labels that pulled the one scan to the other, which measure nothing.
        uses_points: whether points and outlines pulled.
    """

    fixed: Image | Grid
    moving: Image | Grid
    fixed_to_moving: Transform
    moving_to_fixed: Transform | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    points: Mapping[str, tuple[Points, Points]] = field(default_factory=dict)
    fixed_mask: Mask | None = None
    moving_mask: Mask | None = None
    labels: frozenset[int] | None = None
    kept: tuple[KeptPiece, ...] = ()
    outlines: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    used_labels: frozenset[int] = frozenset()
    uses_points: bool = False

    def __post_init__(self) -> None:
        for name, grid in (("fixed_labels", self.fixed_grid), ("moving_labels", self.moving_grid)):
            given: Labels | None = getattr(self, name)
            if given is not None and given.grid != grid and given.grid.matches(grid, SAME_GRID_MM):
                object.__setattr__(self, name, given.placed(grid))
        if self.fixed_labels is not None and self.fixed_labels.grid != self.fixed_grid:
            raise ValueError(f"the fixed labels on {self.fixed_labels.grid!r} are not on the grid of the fixed scan")

    @property
    def fixed_grid(self) -> Grid:
        """The grid of the fixed scan."""
        return self.fixed if isinstance(self.fixed, Grid) else self.fixed.grid

    @property
    def moving_grid(self) -> Grid:
        """The grid of the moving scan."""
        return self.moving if isinstance(self.moving, Grid) else self.moving.grid

    @property
    def fixed_points(self) -> Points:
        """The points of the fixed scan; of several sets the first."""
        return next(iter(self.points.values()))[0]

    @property
    def moving_points(self) -> Points:
        """The points of the moving scan; of several sets the first."""
        return next(iter(self.points.values()))[1]

    @cached_property
    def forward(self) -> Displacement:
        """The map from fixed to moving points at every voxel of the fixed grid."""
        return self.fixed_to_moving.displacement_on(self.fixed_grid)

    @cached_property
    def backward(self) -> Displacement:
        """The map from moving to fixed points at every voxel of the moving grid."""
        assert self.moving_to_fixed is not None
        return self.moving_to_fixed.displacement_on(self.moving_grid)

    @cached_property
    def warped(self) -> Image:
        """The moving scan on the fixed grid."""
        assert isinstance(self.moving, Image)
        return self.fixed_to_moving.warp_image(self.moving, self.fixed_grid)

    @cached_property
    def warped_labels(self) -> Labels:
        """The moving labels on the fixed grid."""
        assert self.moving_labels is not None
        return self.fixed_to_moving.warp_labels(self.moving_labels, self.fixed_grid)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """``(I, J, K)`` determinants of the map on the fixed grid."""
        return self.fixed_to_moving.jacobian_determinant(self.fixed_grid)

    @cached_property
    def map_steps(self) -> tuple[int, int, int]:
        """Every how many-th voxel of the fixed scan is worth a place in maps: about two per point of the field."""
        field, grid = self.fixed_to_moving, self.fixed_grid
        if not isinstance(field, Displacement) or field.grid == grid:
            return 1, 1, 1
        wanted_mm = min(field.grid.finest_mm / 2, grid.longest_mm / MAP_POINTS)
        i, j, k = np.maximum(np.floor(wanted_mm / grid.spacing_mm + 1e-6), 1).astype(int)
        return int(i), int(j), int(k)

    @property
    def map_grid(self) -> Grid:
        """Those voxels of the fixed grid."""
        return self.fixed_grid.thinned(self.map_steps)

    @cached_property
    def deformation(self) -> Deformation:
        """What the map does to volumes, with the determinants on ``map_grid``."""
        return deformation_of(self.fixed_to_moving, self.fixed_grid, self.map_steps)

    @cached_property
    def inconsistency(self) -> dict[str, float]:
        """Mean, 95th percentile and maximum of the inverse consistency map."""
        return summary(self.inverse_consistency_mm)

    @cached_property
    def inverse_consistency_mm(self) -> np.ndarray:
        """``(I, J, K)`` distance after going to the moving scan and back; NaN outside the moving field of view."""
        assert self.moving_to_fixed is not None
        return inverse_consistency_mm(self.fixed_to_moving, self.moving_to_fixed, self.fixed_grid, self.moving_grid)

    @cached_property
    def outside_percent(self) -> float:
        """Share of the voxels of the fixed scan that are mapped outside the moving scan, per cent."""
        if self.moving_to_fixed is None or isinstance(self.fixed_to_moving, Affine):
            return outside_percent(self.fixed_to_moving, self.fixed_grid, self.moving_grid)
        lost = self.inverse_consistency_mm
        return 100 * np.count_nonzero(np.isnan(lost)) / lost.size

    @cached_property
    def labels_in_each(self) -> tuple[set[int], set[int]]:
        """The labels of the fixed and of the moving map."""
        maps = self.fixed_labels, self.moving_labels
        fixed, moving = (set() if one is None else set(voxel_counts(one.data)) for one in maps)
        return fixed, moving

    @cached_property
    def shared_labels(self) -> tuple[int, ...]:
        """The labels to compare, ascending."""
        fixed, moving = self.labels_in_each
        shared = (fixed & moving) - self.used_labels
        return tuple(sorted(shared if self.labels is None else shared & self.labels))

    @cached_property
    def surfaces(self) -> dict[int, Surfaces]:
        """Distances between the outlines of each label to compare; infinite for one that warping lost."""
        assert self.fixed_labels is not None
        return surface_distances_mm(self.fixed_labels, self.warped_labels, self.shared_labels)

    @cached_property
    def prepared(self) -> tuple[Scan, Scan]:
        """Both scans as methods compare them, without padding and with masks as weights."""
        assert isinstance(self.fixed, Image)
        assert isinstance(self.moving, Image)
        return Scan.prepare(self.fixed, self.fixed_mask), Scan.prepare(self.moving, self.moving_mask)

    def has(self, need: Need) -> bool:
        """Whether the pair has what a metric may need."""
        if need == "labels":
            return self.fixed_labels is not None and self.moving_labels is not None
        if need == "points":
            return bool(self.points) and not self.uses_points
        if need == "outlines":
            return bool(self.outlines) and not self.uses_points
        if need == "images":
            return isinstance(self.fixed, Image) and isinstance(self.moving, Image)
        if need == "kept tissue":
            return bool(self.kept)
        return self.moving_to_fixed is not None

    def with_points(self, kind: str) -> RegisteredPair:
        """The same pair with one of its sets of points; maps that are there already are shared."""
        narrowed = copy.copy(self)
        object.__setattr__(narrowed, "points", {kind: self.points[kind]})
        return narrowed

    def by_used(self) -> RegisteredPair | None:
        """The same pair to be measured by what pulled, and by nothing else; None where nothing did."""
        if not (self.used_labels or self.uses_points):
            return None
        used = copy.copy(self)
        for name in ("shared_labels", "surfaces"):
            vars(used).pop(name, None)
        given: dict[str, Any] = {"used_labels": frozenset(), "uses_points": False}
        if self.used_labels:
            given["labels"] = self.used_labels
        else:
            given |= {"fixed_labels": None, "moving_labels": None}
        if not self.uses_points:
            given |= {"points": {}, "outlines": ()}
        vars(used).update(given)
        return used

    def unregistered(self) -> RegisteredPair:
        """The same scans with the identity of the world: what the headers of the two files say."""
        same = replace(self, fixed_to_moving=Affine.identity(), moving_to_fixed=Affine.identity())
        shared = ("prepared", "labels_in_each")
        vars(same).update({name: vars(self)[name] for name in shared if name in vars(self)})
        return same


def measure(pair: RegisteredPair, *, metrics: Iterable[str] | None = None, before: Numbers | None = None) -> Measured:
    """Measure a registration, and the state before it.

    Args:
        pair: what is measured.
        metrics: names of metrics; all by default.
        before: the numbers of :func:`measure_unregistered`, if already at hand.

    Raises:
        UserError: an unknown metric, or landmarks that do not correspond.
    """
    names = [*METRICS] if metrics is None else [load(name).name for name in metrics]
    notes: list[str] = []
    after = _numbers(pair, names, notes)
    lists: dict[str, tuple[int, ...]] = {}
    if pair.has("labels"):
        in_fixed, in_moving = pair.labels_in_each
        kept = voxel_counts(pair.warped_labels.data)
        lists = {
            "labels_only_fixed": tuple(sorted(in_fixed - in_moving)),
            "labels_only_moving": tuple(sorted(in_moving - in_fixed)),
            "labels_lost": tuple(label for label in pair.shared_labels if label not in kept),
        }
    before = measure_unregistered(pair, metrics=names) if before is None else before
    used = pair.by_used()
    if used is not None:
        used_by = measure(used, metrics=[name for name in names if load(name).compares])
    vars(pair).pop("prepared", None)  # nothing else asks for it, and it is large
    return Measured(
        before=before,
        after=after,
        voxel_mm=max(pair.fixed_grid.voxel_mm, pair.moving_grid.voxel_mm),
        notes=tuple(notes),
        used=None if used is None else used_by,
        **lists,
    )


def measure_unregistered(pair: RegisteredPair, *, metrics: Iterable[str] | None = None) -> Numbers:
    """The numbers of the scans as their headers place them; metrics of a map alone have their value at rest."""
    return _numbers(pair.unregistered(), METRICS if metrics is None else metrics, [], at_rest=True)


def _numbers(pair: RegisteredPair, names: Iterable[str], notes: list[str], at_rest: bool = False) -> Numbers:
    """What a pair has; a metric of another package that fails becomes a note, so that nothing else is lost."""
    found = Numbers()
    for name in names:
        try:
            metric = load(name)
            if all(pair.has(need) for need in metric.needs):
                for column in columns_of(metric):
                    if not column.points or column.points in pair.points:
                        found[column.name] = score(_value(pair, column, at_rest))
        except Exception as error:
            if name in METRICS.own:
                raise
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            notes.append(f"metric '{name}' could not be measured: {' '.join(reason.split())[:200]}")
    return found


def _value(pair: RegisteredPair, column: Column, at_rest: bool) -> Value:
    metric = column.metric
    if at_rest and metric.at_rest is not None:
        return metric.at_rest
    return metric.value(pair.with_points(column.points) if column.points else pair)


@dataclass(frozen=True)
class Deformation:
    """What is known of a map at the voxels of a scan.

    Args:
        summary: the numbers of :func:`~anamorph.evaluation.metrics.jacobian.jacobian_summary`.
        non_diffeomorphic_percent: of the volume, by
            :func:`~anamorph.evaluation.metrics.jacobian.non_diffeomorphic_volume_percent`.
        determinants: ``(I, J, K)`` float32 of every so many-th voxel.
    """

    summary: dict[str, float]
    non_diffeomorphic_percent: float
    determinants: np.ndarray


def deformation_of(transform: Transform, grid: Grid, steps: tuple[int, int, int] = (1, 1, 1)) -> Deformation:
    """Take the determinants of a map by central differences between the voxels of a grid.

    Args:
        transform: a map of points of the scan.
        grid: of the scan.
        steps: which voxels' determinants are kept.
    """
    length = grid.shape[0]
    inner_planes, *inner_rest = inner_box(grid.shape)

    def part(planes: slice, slab: Grid) -> tuple[Sums, float, np.ndarray]:
        first, end = max(planes.start - 1, 0), min(planes.stop + 1, length)  # differences need a neighbour on each side
        field = transform.displacement_on(planes_of(grid, slice(first, end)))
        determinants = field.jacobian_determinant()[planes.start - first : planes.stop - first]
        low, high = (min(max(n, planes.start), planes.stop) for n in (inner_planes.start, inner_planes.stop))
        inside = determinants[(slice(low - planes.start, high - planes.start), *inner_rest)]
        cells = field.disp_vox[:, planes.start - first : min(planes.stop + 1, length) - first]
        kept = determinants[-planes.start % steps[0] :: steps[0], :: steps[1], :: steps[2]]
        return sums_of(determinants, inside), folded_cells(cells), kept.copy()

    sums, folded, kept = zip(*over_grid(grid, part), strict=True)
    cells = float(np.prod(np.array(grid.shape) - 1))
    return Deformation(summary_of(sums), 100 * sum(folded) / cells if cells else 0.0, np.concatenate(kept))
