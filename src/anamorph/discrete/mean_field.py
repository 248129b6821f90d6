"""Mean-field smoothing of displacement costs: minima travel within the window, averages between neighbouring points.

Heinrich, MICCAI 2019: one iteration is an approximate min-convolution over the displacements (a minimum and two
averages over neighbouring labels) and two averages over neighbouring control points. All filters are separable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from anamorph.discrete.in_parts import in_parts

if TYPE_CHECKING:
    from torch import Tensor

Order = Literal["minimum first", "average first"]

AT_ONCE = 2**19
"""Values filtered at a time: few enough for the cache of one core."""


def mean_field(
    costs: Tensor,
    weights: Tensor | Sequence[float],
    window: Sequence[int],
    iterations: int = 2,
    *,
    minimum: int = 3,
    label_average: int = 3,
    label_repeats: int = 2,
    average: int = 3,
    repeats: int = 2,
    order: Order = "minimum first",
) -> Tensor:
    """Let neighbouring points agree on their displacements.

    ``S = smooth(costs)``, and ``S = smooth(w0 * costs + w1 * S)`` in every further iteration, where ``smooth`` is
    :func:`relax_labels` and then :func:`average_points`. Additive constants would cancel in the softmax that follows.
    Differentiable in costs and weights.

    Args:
        costs: ``(*grid, L)`` on a grid of two or three axes, the labels in the order of
            :func:`anamorph.discrete.labels.label_window`.
        weights: ``w0, w1``: of the costs themselves and of what the iteration before has found.
        window: labels per axis, L together.
        iterations: how often.
        minimum: labels over which the minimum is taken, odd; 1 for none.
        label_average: labels of each average, odd.
        label_repeats: averages over labels.
        average: points of each average, odd.
        repeats: averages over points.
        order: of minimum and averages over labels: the minimum first (the paper and PDD-Net) or last (the slides of
            the two-dimensional tutorial).

    Returns:
        ``(*grid, L)``.
    """
    smooth: Tensor | None = None
    for _ in range(iterations):
        energy = costs if smooth is None else _weighted_sum(costs, smooth, weights)
        relaxed = relax_labels(
            energy.flatten(0, -2),
            window,
            minimum=minimum,
            average=label_average,
            repeats=label_repeats,
            order=order,
            in_place=smooth is not None,
        )
        smooth = average_points(relaxed.reshape(costs.shape), average=average, repeats=repeats, in_place=True)
    return costs if smooth is None else smooth


def _weighted_sum(costs: Tensor, smooth: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    """``weights[0] * costs + weights[1] * smooth``; without gradients in the memory of ``smooth``."""
    import torch

    if torch.is_grad_enabled():
        return weights[0] * costs + weights[1] * smooth
    return smooth.mul_(weights[1]).addcmul_(costs, torch.as_tensor(weights[0]).to(costs))


def relax_labels(
    costs: Tensor,
    window: Sequence[int],
    *,
    minimum: int = 3,
    average: int = 3,
    repeats: int = 2,
    order: Order = "minimum first",
    in_place: bool = False,
) -> Tensor:
    """Minimum over neighbouring labels, then averages, the border of the window repeated once before all of them.

    Args:
        costs: ``(N, L)``.
        window: labels per axis, L together.
        minimum: labels over which the minimum is taken, odd; 1 for none.
        average: labels of each average, odd.
        repeats: averages.
        order: minimum or averages first.
        in_place: overwrite the costs if no gradient is wanted.

    Returns:
        ``(N, L)``.
    """
    axes = range(len(window))
    border = minimum // 2 + repeats * (average // 2)

    def relax(part: Tensor) -> Tensor:
        # Points last: every filter then runs over long contiguous rows, however small the window is.
        values = _repeat_border(part.T.reshape(*window, -1), axes, border)
        if order == "minimum first":
            values = _minimum(values, axes, minimum)
        values = _average(values, axes, average, repeats)
        if order == "average first":
            values = _minimum(values, axes, minimum)
        return values.reshape(part.shape[1], -1).T

    held = 1
    for n in window:
        held *= n + 2 * border
    return in_parts(relax, costs, held, at_once=AT_ONCE, out=costs if in_place else None)


def average_points(costs: Tensor, *, average: int = 3, repeats: int = 2, in_place: bool = False) -> Tensor:
    """Average every label's cost over neighbouring points, the border of the grid repeated once before all averages.

    Args:
        costs: ``(*grid, L)``.
        average: points of each average, odd.
        repeats: averages.
        in_place: overwrite the costs if no gradient is wanted.

    Returns:
        ``(*grid, L)``.
    """
    axes = range(costs.ndim - 1)
    border = repeats * (average // 2)

    def smooth(part: Tensor) -> Tensor:
        return _average(_repeat_border(part, axes, border), axes, average, repeats)

    held = 1
    for n in costs.shape[:-1]:
        held *= n + 2 * border
    return in_parts(smooth, costs, held, dim=-1, at_once=AT_ONCE, out=costs if in_place else None)


def _repeat_border(values: Tensor, axes: range, border: int) -> Tensor:
    """Values with their border repeated along some axes."""
    import torch

    for axis in axes:
        n = values.shape[axis]
        places = torch.arange(-border, n + border, device=values.device).clamp(0, n - 1)
        values = values.index_select(axis, places)
    return values


def _average(values: Tensor, axes: range, size: int, repeats: int) -> Tensor:
    """Averages over ``size`` neighbours along every axis, where all of them exist."""
    for axis in (axis for _ in range(repeats) for axis in axes):
        kept = values.shape[axis] - size + 1
        if size == 1:
            continue
        # Sums keep nothing for the way back, so that all but the first may overwrite.
        total = values.narrow(axis, 0, kept) + values.narrow(axis, 1, kept)
        for shift in range(2, size):
            total += values.narrow(axis, shift, kept)
        values = total.div_(size)
    return values


def _minimum(values: Tensor, axes: range, size: int) -> Tensor:
    """The least of ``size`` neighbours along every axis, where all of them exist."""
    import torch

    for axis in axes:
        kept = values.shape[axis] - size + 1
        least = values.narrow(axis, 0, kept)
        for shift in range(1, size):
            least = torch.minimum(least, values.narrow(axis, shift, kept))
        values = least
    return values
