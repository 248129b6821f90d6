"""Exact inference of displacement labels on a tree of cells, by belief propagation.

Heinrich et al., TMI 2013. Minimises the sum over cells of the (weighted) costs of their labels and over edges of the
squared difference of the displacements, ``||weight * (a - b) + start_a - start_b||^2``, where ``start`` is what earlier
levels have found and need not be whole. The costs of a cell, with all that hangs on it, are multiplied by its
similarity to its parent: cells across an edge of the image pull less.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.discrete.min_convolution import min_convolve
from anamorph.discrete.spanning_tree import SpanningTree
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

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
    from anamorph.discrete import _tree_inference_numba as kernels

    where, steps = np.asarray(size), np.asarray(weight, np.float32)
    start = np.ascontiguousarray(start, np.float32)
    depths = [(int(a), int(b) - int(a)) for a, b in pairwise(tree.depths)]
    children = (tree.cells, tree.first_child, tree.similarity)
    for place, count in reversed(depths[:-1]):
        over_slabs(kernels.collect, count, place, costs, *children, where, steps, start)
    out = np.empty((3, len(costs)), np.float32)
    root = tree.cells[0]
    out[:, root] = _root_label(costs[root], size)
    for place, count in depths[1:]:
        over_slabs(kernels.distribute, count, place, costs, tree.cells, tree.parents, where, steps, start, out)
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
