"""What a classifier sees of registrations: residual fields on a common grid, and a few numbers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from anamorph.classification.registrations import Registration
from anamorph.errors import UserError
from anamorph.evaluation.metrics.jacobian import LOG_DET_LIMITS
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.transforms.affine import closest_affine
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from anamorph.types import Progress

FEWEST_CELLS = 17  # so that the four halvings of the network leave more than one


@dataclass(frozen=True)
class FeatureSettings:
    """What is looked at.

    Args:
        affine: see :func:`~anamorph.classification.features.choose_affine`.
        cells: of the common grid along its longest side.
        box_mm: longest side of the common grid; the largest field of view by default.

    Raises:
        UserError: another word, too few cells, or an empty box.
    """

    affine: AffineChoice = "auto"
    cells: int = 32
    box_mm: float | None = None

    def __post_init__(self) -> None:
        if self.affine not in get_args(AffineChoice):
            raise UserError(f"--affine must be one of {', '.join(get_args(AffineChoice))}, not '{self.affine}'")
        if self.cells < FEWEST_CELLS:
            raise UserError(f"--cells {self.cells} leaves nothing to look at; take {FEWEST_CELLS} or more")
        if self.box_mm is not None and not self.box_mm > 0:
            raise UserError(f"--box {self.box_mm:g} is empty; give the side of the box in mm")


@dataclass(frozen=True)
class CommonGrid:
    """A box of cells that is laid over every fixed scan.

    Args:
        shape: ``(I, J, K)`` cells along right, anterior and superior.
        spacing_mm: of the cells, the same along all axes.
        by_labels: it is centred on the labels of each scan, not on the middle of its field of view.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    by_labels: bool

    def points_on(self, grid: Grid, labels: Labels | None) -> np.ndarray:
        """``(I * J * K, 3)`` RAS mm: where the cells lie over a fixed scan.

        A cell outside the field of view is moved to its border: it repeats what is there, and the features do not tell
        how far the scan reached.
        """
        steps = np.indices(self.shape).reshape(3, -1).T - (np.array(self.shape) - 1) / 2
        centre = grid.centre_mm
        if self.by_labels and labels is not None:
            centre = grid.voxel_to_world(np.argwhere(labels.data[0]).mean(axis=0))
        inside = np.clip(grid.world_to_voxel(centre + steps * self.spacing_mm), 0, np.array(grid.shape) - 1)
        return grid.voxel_to_world(inside)


def common_grid(grids: Sequence[Grid], cells: int, box_mm: float | None, by_labels: bool) -> CommonGrid:
    """A grid that covers the largest of the fixed scans.

    Args:
        grids: of the fixed scans.
        cells: along the longest side.
        box_mm: no side is longer than this.
        by_labels: whether to centre on the labels.
    """
    sides = np.max([np.ptp(grid.corners_mm(), axis=0) for grid in grids], axis=0)
    sides = sides if box_mm is None else np.minimum(sides, box_mm)
    spacing = float(sides.max() / cells)
    i, j, k = (int(n) for n in np.maximum(np.round(sides / spacing), 1))
    return CommonGrid((i, j, k), spacing, by_labels)


@dataclass(frozen=True, eq=False)
class Features:
    """One row per registration.

    Args:
        fields: ``(N, 3, I, J, K)`` float32 residual displacement, RAS mm, on the common grid.
        summaries: ``(N, M)`` float64 numbers of the residual deformation.
    """

    fields: np.ndarray
    summaries: np.ndarray

    def __len__(self) -> int:
        return len(self.fields)

    def take(self, rows: np.ndarray) -> Features:
        """Some of the rows, as indices or as a mask."""
        return Features(self.fields[rows], self.summaries[rows])


@dataclass(frozen=True, eq=False)
class Rows:
    """Registrations with the labels of their patients: all that fitting may see.

    Args:
        features: one row per registration.
        patients: ``(N,)`` names; the rows of one patient are never on both sides of a split.
        positive: ``(N,)`` the patient's label.
    """

    features: Features
    patients: np.ndarray
    positive: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, as indices or as a mask."""
        return Rows(self.features.take(rows), self.patients[rows], self.positive[rows])

    def weights(self) -> np.ndarray:
        """``(N,)`` so that patients of one label count alike, however many rows they have, and both labels alike.

        The mean is 1.
        """
        _, place, counts = np.unique(self.patients, return_inverse=True, return_counts=True)
        weights = 1.0 / counts[place]
        for label in (False, True):
            weights[self.positive == label] /= weights[self.positive == label].sum()
        return weights * len(weights) / weights.sum()


@dataclass(frozen=True, eq=False)
class Cohort:
    """All that is classified, and how its features were made.

    Args:
        rows: one per registration.
        names: of the registrations.
        summary_names: of the columns of the summaries.
        grid: common to all.
        affine: what was taken away: ``apart``, ``fitted`` or ``keep``.
        notes: what a reader ought to know about this registration.
    """

    rows: Rows
    names: tuple[str, ...]
    summary_names: tuple[str, ...]
    grid: CommonGrid
    affine: str
    notes: tuple[str, ...] = ()


def read_cohort(
    registrations: Sequence[Registration],
    settings: FeatureSettings | None = None,
    progress: Progress | None = None,
) -> Cohort:
    """Read registrations and make their features.

    Nothing here is fitted to labels of patients, and nothing but the box and the choice of the affine part depends on
    more than one registration.

    Args:
        registrations: of all patients.
        settings: what is looked at.
        progress: called as ``progress(stage, fraction)``.

    Raises:
        UserError: a file is missing or damaged, or there is no affine part to take away.
    """
    settings = settings or FeatureSettings()

    def tell(n: int, part: int) -> None:
        if progress is not None:
            progress("reading registrations", (n / len(registrations) + part) / 2)

    facts = []
    for n, registration in enumerate(registrations):
        tell(n, 0)
        facts.append(_facts(registration))
    way = choose_affine(settings.affine, [fact.apart for fact in facts])
    labelled = [fact.labels for fact in facts]
    shared = sorted(set.intersection(*labelled))
    grid = common_grid([fact.grid for fact in facts], settings.cells, settings.box_mm, by_labels=all(labelled))
    fields, summaries = [], []
    for n, (registration, fact) in enumerate(zip(registrations, facts, strict=True)):
        tell(n, 1)
        transform, fixed, labels = registration.read()
        if way == "keep":
            affine = Affine.identity()
        else:
            affine = fact.apart if way == "apart" and fact.apart is not None else closest_affine(transform, fixed)
        residual = Residual(transform, affine)
        vectors = residual.at(grid.points_on(fixed, labels)).T.reshape(3, *grid.shape)
        fields.append(vectors.astype(np.float32))
        summaries.append(summarise(residual.on(fixed), labels, shared))
    features = Features(np.stack(fields), np.array([list(numbers.values()) for numbers in summaries]))
    patients = np.array([registration.patient for registration in registrations])
    positive = np.array([registration.positive for registration in registrations])
    names = tuple(registration.name for registration in registrations)
    notes = tuple(_notes(labelled, shared))
    return Cohort(Rows(features, patients, positive), names, tuple(summaries[0]), grid, way, notes)


@dataclass(frozen=True, eq=False)
class _Facts:
    grid: Grid
    apart: Affine | None
    labels: set[int]


def _facts(registration: Registration) -> _Facts:
    transform, grid, labels = registration.read()
    return _Facts(grid, affine_apart(transform), set(labels.present()) if labels is not None else set())


def _notes(labelled: Sequence[set[int]], shared: Sequence[int]) -> list[str]:
    if not any(labelled):
        return ["No labels of the fixed scans were given: the box is centred on the field of view of each."]
    if not all(labelled):
        without = sum(not labels for labels in labelled)
        return [f"{without} of {len(labelled)} fixed scans have no labels, so that labels were not used."]
    partial = sorted(set.union(*labelled) - set(shared))
    if partial:
        return [f"Labels that some fixed scan lacks were left out: {', '.join(map(str, partial))}."]
    return []


AffineChoice = Literal["auto", "apart", "fitted", "keep"]


class Residual:
    """The map ``r(x) = A^-1(T(x)) - x``: the deformation left when the affine part is undone, in fixed millimetres.

    Args:
        transform: T, fixed points to moving points.
        affine: A.
    """

    def __init__(self, transform: Transform, affine: Affine) -> None:
        self._map = Composite.of(transform, affine.inverse())

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """``(N, 3)`` float64 vectors in RAS mm at ``(N, 3)`` RAS points."""
        return self._map.map_world(points_mm) - points_mm

    def on(self, grid: Grid) -> Displacement:
        """The residual as a dense field; its Jacobian is that of T without the change of volume of A."""
        return self._map.displacement_on(grid)


def affine_apart(transform: Transform) -> Affine | None:
    """The affine part of a transform that keeps it apart from its field; None if there is none.

    The affine maps of a composite are multiplied in their order: ``T = A o D`` and ``T = D o A`` have the same A.
    """
    parts = [
        part
        for part in (transform.parts if isinstance(transform, Composite) else (transform,))
        if isinstance(part, Affine)
    ]
    product = Composite.of(*parts) if parts else None
    return product if isinstance(product, Affine) else None


def choose_affine(choice: AffineChoice, apart: list[Affine | None]) -> Literal["apart", "fitted", "keep"]:
    """One way to take the affine part away for all patients alike, lest the way itself tells them apart.

    Args:
        choice: ``auto`` is ``apart`` where every transform keeps an affine part and one of them does something, else
            ``fitted``; ``keep`` takes nothing away.
        apart: what :func:`affine_apart` says of every transform.

    Raises:
        UserError: ``apart`` where a transform has one field only.
    """
    if choice == "apart" and None in apart:
        raise UserError(
            f"{apart.count(None)} of {len(apart)} registrations have no affine part of their own; run `anamorph "
            "register --composite`, or pass --affine fitted"
        )
    if choice != "auto":
        return choice
    moves = any(affine is not None and not np.allclose(affine.matrix, np.eye(4)) for affine in apart)
    return "apart" if moves and None not in apart else "fitted"


PERCENTILES = (5, 50, 95)


def summarise(residual: Displacement, labels: Labels | None, shared: Sequence[int]) -> dict[str, float]:
    """Numbers of a residual deformation over the fixed scan.

    Args:
        residual: on the fixed grid.
        labels: of the fixed scan, on the same grid.
        shared: the labels that every patient's fixed scan has.

    Returns:
        mean, standard deviation and percentiles of the length of the displacement (mm) and of the log Jacobian
        (clipped to [1e-3, 1e3] before the logarithm, so that a few folded voxels do not rule it), and the latter also
        within each label.
    """
    length = np.linalg.norm(residual.vectors_mm(), axis=0)
    log_jacobian = np.log(np.clip(residual.jacobian_determinant(), *LOG_DET_LIMITS))
    numbers = _spread("displacement_mm", length) | _spread("log_jacobian", log_jacobian)
    if labels is not None:
        for label in shared:
            numbers |= _spread(f"log_jacobian_label_{label}", log_jacobian[labels.data[0] == label])
    return numbers


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    spread = {"mean": values.mean(dtype=np.float64), "std": values.std(dtype=np.float64)}
    spread |= {f"p{p}": q for p, q in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
    return {f"{name}_{statistic}": float(value) for statistic, value in spread.items()}
