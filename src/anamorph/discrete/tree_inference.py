"""Exact inference of displacement labels on a tree of cells, by belief propagation.

A grid of cells with loops becomes its minimum spanning tree: neighbours that look alike are joined, edges are cut. Then
the sum over cells of the (weighted) costs of their labels and over edges of the squared difference of the
displacements, ``||weight * (a - b) + start_a - start_b||^2``, has an exact minimum, where ``start`` is what earlier
levels have found and need not be whole. The costs of a cell, with all that hangs on it, are multiplied by its
similarity to its parent: cells across an edge of the image pull less.

A message is a min-convolution with a parabola, the cheapest way to every label when a change of label costs its square;
it is separable over the axes, so exact in three passes.

Heinrich et al., TMI 2013; Felzenszwalb and Huttenlocher, Theory of Computing 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import Cell, pool_volume
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


AT_ONCE = 2**22
"""Values that the torch twin holds at a time."""


def min_convolve(costs: Array, weight: Sequence[float], offset: Array) -> Array:
    """``out[n, a] = min over b of costs[n, b] + ||weight * (a - b) + offset[n]||^2``.

    Args:
        costs: ``(N, A, B, C)`` or ``(N, A, B)`` float32: the costs of the labels of N nodes.
        weight: length of a step of one label along each axis.
        offset: ``(N, 3)`` or ``(N, 2)`` float32, in the same unit; need not be whole.

    Returns:
        float32, the shape of the costs.
    """
    if not isinstance(costs, np.ndarray):
        return min_convolve_torch(costs, weight, offset)
    if kernels is None:
        return by_twin(min_convolve_torch, costs, weight, offset)
    flat = np.ascontiguousarray(costs, np.float32).reshape(len(costs), -1)
    out = np.empty_like(flat)
    # A window of two axes is one plane of a window of three.
    missing = 3 - len(weight)
    size = (1,) * missing + costs.shape[1:]
    steps = (0.0,) * missing + tuple(map(float, weight))
    shifts = np.ascontiguousarray(np.pad(offset, ((0, 0), (missing, 0))), np.float32)
    over_slabs(kernels.min_convolve, len(flat), flat, size, steps, shifts, out)
    return out.reshape(costs.shape)


def min_convolve_torch(costs: torch.Tensor, weight: Sequence[float], offset: torch.Tensor) -> torch.Tensor:
    """The readable twin of :func:`min_convolve`, differentiable, on any device."""
    import torch

    nodes = max(1, AT_ONCE // (costs[0].numel() * max(costs.shape[1:])))
    out = []
    for part, shift in zip(costs.split(nodes), offset.split(nodes), strict=True):
        for axis in range(len(weight)):
            label = torch.arange(part.shape[1 + axis], device=part.device, dtype=part.dtype)
            way = weight[axis] * (label[:, None] - label) + shift[:, axis, None, None]
            moved = part.movedim(1 + axis, -1)
            others = (1,) * (len(weight) - 1)
            part = (
                (moved[..., None, :] + (way**2).reshape(len(way), *others, *way.shape[1:]))
                .amin(dim=-1)
                .movedim(-1, 1 + axis)
            )
        out.append(part)
    return torch.cat(out)


@dataclass(frozen=True)
class SpanningTree:
    """A rooted tree over N cells, breadth first: everything below is indexed by the place in that order.

    ``cells`` are flat cell indices; ``parents`` places of parents (the root is its own); the children of place p are
    the places ``first_child[p]`` to ``first_child[p + 1] - 1``; depth d holds the places ``depths[d]`` to
    ``depths[d + 1] - 1``; ``similarity`` is that of a cell and its parent, in (0, 1], 1 for the root.
    """

    cells: np.ndarray
    parents: np.ndarray
    first_child: np.ndarray
    depths: np.ndarray
    similarity: np.ndarray


def spanning_tree(volume: np.ndarray, cell: Cell, shape: Cell) -> SpanningTree:
    """Join all cells by the edges of the least absolute intensity difference, and root the tree in the middle.

    Differences are taken voxel by voxel and averaged. The similarity of two cells is ``exp(-difference / (2 std))``
    with the standard deviation of the image.

    Args:
        volume: ``(C, I, J, K)`` float32.
        cell: voxels per cell and axis.
        shape: cells per axis; voxels beyond them are not looked at.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    number = np.arange(np.prod(shape)).reshape(shape)
    first, second, difference = (
        np.concatenate(parts) for parts in zip(*(_edges(volume, cell, number, axis) for axis in range(3)), strict=True)
    )
    # One more, because a sparse matrix takes a difference of 0 for no edge; the order of the edges stays.
    graph = coo_array((difference + 1.0, (first, second)), shape=(number.size, number.size)).tocsr()
    tree = minimum_spanning_tree(graph)
    root = number[tuple(n // 2 for n in shape)]
    order, predecessor = breadth_first_order(tree, root, directed=False)
    place = np.empty(number.size, np.int64)
    place[order] = np.arange(number.size)
    predecessor[root] = root
    parents = place[predecessor[order]]
    joined = (tree + tree.T).tocsr()
    # The root has no edge to itself, which reads as 0.
    apart = np.maximum(np.asarray(joined[order, predecessor[order]]).ravel() - 1.0, 0)
    return SpanningTree(
        order.astype(np.int64),
        parents,
        np.searchsorted(parents[1:], np.arange(number.size + 1)) + 1,
        _depths(parents),
        np.exp(-apart / 2).astype(np.float32),
    )


def _edges(volume: np.ndarray, cell: Cell, number: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat indices of neighbouring cells along an axis, and their difference in standard deviations of the image."""
    size = cell[axis]
    kept = [slice(0, min(n * c, m)) for n, c, m in zip(number.shape, cell, volume.shape[1:], strict=True)]
    ahead = list(kept)
    kept[axis] = slice(0, (number.shape[axis] - 1) * size)
    places = np.minimum(np.arange(kept[axis].stop) + size, volume.shape[1 + axis] - 1)
    ahead[axis] = slice(None)
    one, other = (np.take(number, np.arange(number.shape[axis] - 1) + n, axis).ravel() for n in (0, 1))
    if not len(one):
        return one, other, np.empty(0)
    total = np.zeros(len(one))
    for channel in volume:
        spread = float(channel.std())
        if spread > 0:
            apart = np.abs(np.take(channel[tuple(ahead)], places, axis) - channel[tuple(kept)])
            total += pool_volume(apart[None], cell)[0].ravel().astype(np.float64) / spread
    return one, other, total / len(volume)


def _depths(parents: np.ndarray) -> np.ndarray:
    """Where each depth starts, and the end."""
    starts = [0, 1]
    while starts[-1] < len(parents):
        # Places are breadth first: the next depth ends where parents leave this one.
        starts.append(1 + int(np.searchsorted(parents[1:], starts[-1])))
    return np.array(starts)


Size = tuple[int, int, int]
Weight = tuple[float, float, float]


def infer_labels(costs: Array, tree: SpanningTree, size: Size, weight: Weight, start: Array) -> Array:
    """The labels of least total cost.

    Args:
        costs: ``(N, labels)`` float32, **overwritten**: costs are large, and are gathered in place.
        tree: over the N cells.
        size: labels per axis, odd; the middle one is no displacement, the last axis varies fastest.
        weight: length of a step of one label along each axis.
        start: ``(3, N)`` float32, displacement of each cell before this search, in the same unit.

    Returns:
        ``(3, N)`` float32, labels from ``-size // 2`` to ``size // 2``.
    """
    if not isinstance(costs, np.ndarray):
        return infer_labels_torch(costs, tree, size, weight, start)
    if kernels is None:
        return by_twin(lambda costs, start: infer_labels_torch(costs, tree, size, weight, start), costs, start)
    window = (size, tuple(map(float, weight)))
    start = np.ascontiguousarray(start, np.float32)
    depths = [(int(a), int(b) - int(a)) for a, b in pairwise(tree.depths)]
    children = (tree.cells, tree.first_child, tree.similarity)
    for place, count in reversed(depths[:-1]):
        over_slabs(kernels.collect, count, place, costs, *children, *window, start)
    out = np.empty((3, len(costs)), np.float32)
    root = tree.cells[0]
    out[:, root] = _root_label(costs[root], size)
    for place, count in depths[1:]:
        over_slabs(kernels.distribute, count, place, costs, tree.cells, tree.parents, *window, start, out)
    return out


def infer_labels_torch(
    costs: torch.Tensor, tree: SpanningTree, size: Size, weight: Weight, start: torch.Tensor
) -> torch.Tensor:
    """The readable twin of :func:`infer_labels`: all cells of one depth at once, on any device."""
    import torch

    cells = torch.from_numpy(tree.cells).to(costs.device)
    parents = cells[torch.from_numpy(tree.parents).to(costs.device)]
    similarity = torch.from_numpy(tree.similarity).to(costs.device)
    depths = [slice(int(a), int(b)) for a, b in zip(tree.depths[1:-1], tree.depths[2:], strict=True)]
    for places in reversed(depths):
        here, above = cells[places], parents[places]
        costs[here] *= similarity[places, None]
        offset = (start[:, above] - start[:, here]).T
        message = min_convolve(costs[here].reshape(-1, *size), weight, offset).reshape(len(here), -1)
        costs.index_add_(0, above, message - message.amin(dim=1, keepdim=True))
    out = torch.empty_like(start)
    root = int(tree.cells[0])
    out[:, root] = torch.from_numpy(_root_label(costs[root].cpu().numpy(), size)).to(out)
    axes = [torch.arange(n, device=costs.device, dtype=costs.dtype) - n // 2 for n in size]
    labels = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    steps = costs.new_tensor(weight)[:, None]
    for places in depths:
        here, above = cells[places], parents[places]
        wanted = start[:, above] - start[:, here] + steps * out[:, above]
        i, j, k = wanted[..., None] - (steps * labels)[:, None]
        out[:, here] = labels[:, (costs[here] + (i * i + j * j + k * k)).argmin(dim=1)]
    return out


def _root_label(costs: np.ndarray, size: Size) -> np.ndarray:
    """The cheapest label; of several, the smallest displacement, so that nothing moves where nothing is seen."""
    labels = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in size), indexing="ij")).reshape(3, -1)
    return labels[:, np.lexsort(((labels**2).sum(axis=0), costs))[0]].astype(np.float32)
