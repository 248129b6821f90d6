"""The minimum spanning tree of the cells of an image: neighbours that look alike are joined, edges are cut.

Heinrich et al., TMI 2013: a grid of cells with loops becomes a tree, on which inference is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell, pool_volume


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
