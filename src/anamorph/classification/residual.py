"""What a transform does beyond its affine part, as a map and in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.metrics.jacobian import LOG_DET_LIMITS
from anamorph.geometry import Grid
from anamorph.image import Labels
from anamorph.transforms import Affine, Composite, Displacement, Transform

AffineChoice = Literal["auto", "apart", "fitted", "keep"]
_FITTED_AT_MOST = 20_000  # voxels that the least-squares fit looks at


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


def affine_fitted(transform: Transform, grid: Grid) -> Affine:
    """The affine map that is closest to a transform over the voxels of a grid in the least-squares sense.

    Along an axis of a single voxel nothing is fitted.
    """
    step = max(1, round((np.prod(grid.shape) / _FITTED_AT_MOST) ** (1 / 3)))
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
