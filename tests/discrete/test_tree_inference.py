from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from anamorph.discrete.tree_inference import SpanningTree, infer_labels, spanning_tree

PARENTS = {
    "chain of 3": [0, 0, 1],
    "chain of 4": [0, 0, 1, 2],
    "star": [0, 0, 0, 0],
    "fork": [0, 0, 1, 1],
    "mixed": [0, 0, 0, 1],
    "alone": [0],
}
"""The place of each cell's parent, breadth first."""
SIZES = [(3, 3, 1), (1, 3, 3), (3, 1, 3), (5, 1, 1), (1, 1, 7)]
WEIGHTS = [(1.0, 1.0, 1.0), (0.7, 1.6, 1.2)]


def tree_of(parents, seed):
    """A tree over shuffled cells with random similarities."""
    rng = np.random.default_rng(seed)
    count = len(parents)
    depth = [0] * count
    for p in range(1, count):
        depth[p] = depth[parents[p]] + 1
    return SpanningTree(
        cells=rng.permutation(count),
        parents=np.array(parents),
        first_child=np.array([sum(q < p for q in parents[1:]) + 1 for p in range(count + 1)]),
        depths=np.array([sum(d < level for d in depth) for level in range(max(depth) + 2)]),
        similarity=np.array([1, *rng.uniform(0.3, 1, count - 1)], np.float32),
    )


def labels_of(size):
    return np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in size), indexing="ij"), -1).reshape(-1, 3)


def exhaustive(costs, tree, size, weight, start):
    """The best of all labellings: what hangs on a cell counts as much as the cell looks like its parent."""
    count, labels = len(costs), labels_of(size)
    choice = np.array(list(itertools.product(range(len(labels)), repeat=count)))  # by place
    displacement = start.T[tree.cells].astype(float) + labels[choice] * np.array(weight)
    importance = np.ones(count)
    total = costs[tree.cells[0]][choice[:, 0]].astype(float)
    for p in range(1, count):
        above = tree.parents[p]
        apart = displacement[:, above] - displacement[:, p]
        # The edge itself is not weighted by its own similarity, but by those above it.
        total += importance[above] * (apart**2).sum(axis=1)
        importance[p] = importance[above] * tree.similarity[p]
        total += importance[p] * costs[tree.cells[p]][choice[:, p]]
    best = np.empty((3, count))
    best[:, tree.cells] = labels[choice[total.argmin()]].T
    return best


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PARENTS)
def test_no_other_labelling_is_better(name, size, weight):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tree = tree_of(PARENTS[name], seed)
        count = len(tree.cells)
        costs = rng.gamma(1, 3, (count, int(np.prod(size)))).astype(np.float32)
        start = rng.normal(0, 1.5, (3, count)).astype(np.float32)
        expected = exhaustive(costs, tree, size, weight, start)
        np.testing.assert_array_equal(infer_labels(costs.copy(), tree, size, weight, start), expected)
        twin = infer_labels(torch.from_numpy(costs.copy()), tree, size, weight, torch.from_numpy(start))
        np.testing.assert_array_equal(twin.numpy(), expected)


def test_all_axes_of_a_window_are_searched():
    rng = np.random.default_rng(5)
    tree = tree_of([0, 0, 0], 5)
    costs = rng.gamma(1, 3, (3, 27)).astype(np.float32)
    start = rng.normal(0, 1, (3, 3)).astype(np.float32)
    expected = exhaustive(costs, tree, (3, 3, 3), (1.0, 0.8, 1.3), start)
    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(infer_labels(costs, tree, (3, 3, 3), (1.0, 0.8, 1.3), start), expected)


def large_case(seed=0):
    rng = np.random.default_rng(seed)
    shape, size = (7, 6, 5), (5, 7, 3)
    tree = spanning_tree(rng.normal(size=(1, *shape)).astype(np.float32), (1, 1, 1), shape)
    costs = rng.gamma(1, 4, (210, 105)).astype(np.float32)
    return costs, tree, size, (1.0, 0.75, 1.5), rng.normal(0, 2, (3, 210)).astype(np.float32)


def test_tensors_give_the_same_labels():
    costs, tree, size, weight, start = large_case()
    kernel = infer_labels(costs.copy(), tree, size, weight, start)
    twin = infer_labels(torch.from_numpy(costs.copy()), tree, size, weight, torch.from_numpy(start))
    assert twin.dtype == torch.float32
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, twin.numpy())
    assert np.abs(kernel).max(axis=1).tolist() == [2, 3, 1]


def energy(labels, costs, tree, size, weight, start):
    """Of a labelling, as :func:`exhaustive` counts it."""
    index = np.ravel_multi_index((labels.astype(int) + np.array(size)[:, None] // 2), size)
    displacement = start.astype(float) + labels * np.array(weight)[:, None]
    importance, total = np.ones(len(costs)), costs[tree.cells[0], index[tree.cells[0]]].astype(float)
    for p in range(1, len(costs)):
        here, above = tree.cells[p], tree.cells[tree.parents[p]]
        importance[p] = importance[tree.parents[p]] * tree.similarity[p]
        apart = displacement[:, above] - displacement[:, here]
        total += importance[tree.parents[p]] * (apart**2).sum() + importance[p] * costs[here, index[here]]
    return total


def test_no_change_of_a_single_cell_is_better_in_a_large_tree():
    costs, tree, size, weight, start = large_case(seed=1)
    found = infer_labels(costs.copy(), tree, size, weight, start)
    least = energy(found, costs, tree, size, weight, start)
    rng = np.random.default_rng(2)
    for cell, label in zip(rng.integers(0, 210, 300), rng.integers(0, 105, 300), strict=True):
        other = found.copy()
        other[:, cell] = labels_of(size)[label]
        assert energy(other, costs, tree, size, weight, start) > least - 1e-4


def test_where_nothing_is_seen_nothing_moves():
    costs, tree, size, weight, _ = large_case()
    labels = infer_labels(np.zeros_like(costs), tree, size, weight, np.zeros((3, 210), np.float32))
    assert not labels.any()


def test_of_equal_labels_the_root_takes_the_smallest_displacement():
    tree = tree_of([0], 0)
    costs = np.full((1, 7), 3, np.float32)
    costs[0, [0, 2, 5]] = 1
    assert infer_labels(costs.copy(), tree, (1, 1, 7), (1.0, 1.0, 1.0), np.zeros((3, 1), np.float32))[2] == -1
    costs[0, 3] = 1
    assert not infer_labels(costs, tree, (1, 1, 7), (1.0, 1.0, 1.0), np.zeros((3, 1), np.float32)).any()


def test_without_costs_children_follow_their_parents():
    tree = tree_of([0, 0, 1], 3)
    root, child, grandchild = tree.cells
    start = np.zeros((3, 3), np.float32)
    start[0, child], start[1, grandchild] = 2, -1.2
    costs = np.zeros((3, 125), np.float32)
    costs[root] = 100
    costs[root, 1 + 5 * 2 + 25 * 3] = 0  # label (1, 0, -1)
    labels = infer_labels(costs, tree, (5, 5, 5), (1.0, 1.0, 1.0), start)
    assert labels[:, root].tolist() == [1, 0, -1]
    assert labels[:, child].tolist() == [-1, 0, -1]
    assert labels[:, grandchild].tolist() == [1, 1, -1]
