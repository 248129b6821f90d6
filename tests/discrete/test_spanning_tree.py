from __future__ import annotations

import numpy as np
import pytest

from anamorph.discrete.tree_inference import SpanningTree, spanning_tree


def noise(shape, channels=1, seed=0):
    return np.random.default_rng(seed).normal(0, 100, (channels, *shape)).astype(np.float32)


def edges_by_definition(volume, cell, shape):
    """``{(cell, neighbour): difference in standard deviations}``, voxel by voxel, channels averaged."""
    number = np.arange(np.prod(shape)).reshape(shape)
    spread = [float(channel.astype(float).std()) for channel in volume]
    edges = {}
    for place in np.ndindex(*shape):
        for axis in range(3):
            if place[axis] + 1 == shape[axis]:
                continue
            ahead = tuple(p + (a == axis) for a, p in enumerate(place))
            total = 0.0
            for channel, std in zip(volume.astype(float), spread, strict=True):
                apart = []
                for inside in np.ndindex(*cell):
                    here = [p * c + i for p, c, i in zip(place, cell, inside, strict=True)]
                    if any(h >= n for h, n in zip(here, channel.shape, strict=True)):
                        continue
                    there = list(here)
                    there[axis] = min(here[axis] + cell[axis], channel.shape[axis] - 1)
                    apart.append(abs(channel[tuple(there)] - channel[tuple(here)]))
                total += np.mean(apart) / std if std > 0 else 0.0
            edges[number[place], number[ahead]] = total / len(volume)
    return edges


def kruskal(edges):
    """The edges of a minimum spanning forest: the shortest first, none that closes a loop."""
    group = {cell: cell for edge in edges for cell in edge}

    def leader(cell):
        while group[cell] != cell:
            cell = group[cell]
        return cell

    chosen = set()
    for one, other in sorted(edges, key=edges.get):
        a, b = leader(one), leader(other)
        if a != b:
            group[a] = b
            chosen.add((one, other))
    return chosen


def edges_of(tree):
    """``{(smaller cell, larger cell)}`` for every place but the root."""
    pairs = zip(tree.cells[1:].tolist(), tree.cells[tree.parents[1:]].tolist(), strict=True)
    return [(min(pair), max(pair)) for pair in pairs]


def check_breadth_first(tree: SpanningTree, count: int) -> None:
    assert sorted(tree.cells) == list(range(count))
    assert tree.parents[0] == 0
    assert tree.similarity[0] == 1
    places = np.arange(1, count)
    assert (tree.parents[1:] < places).all()
    assert len(tree.first_child) == count + 1
    children = [list(range(tree.first_child[p], tree.first_child[p + 1])) for p in range(count)]
    assert [child for below in children for child in below] == list(range(1, count))
    assert all(tree.parents[child] == p for p, below in enumerate(children) for child in below)
    depth = np.zeros(count, int)
    for p in places:
        depth[p] = depth[tree.parents[p]] + 1
    assert tree.depths[0] == 0
    assert tree.depths[-1] == count
    for d, (first, last) in enumerate(zip(tree.depths[:-1], tree.depths[1:], strict=True)):
        assert last > first
        assert (depth[first:last] == d).all()


CASES = {
    "published, the rest ignored": ((14, 13, 11), (4, 4, 4), (3, 3, 2), 1),
    "cells hang over the edge": ((13, 11, 10), (4, 3, 4), (4, 4, 3), 1),
    "one voxel each": ((4, 5, 6), (1, 1, 1), (4, 5, 6), 1),
    "unequal cells": ((10, 9, 8), (5, 3, 1), (2, 3, 8), 1),
    "channels": ((12, 9, 9), (3, 3, 3), (4, 3, 3), 3),
    "slice": ((15, 16, 1), (3, 3, 1), (5, 6, 1), 1),
    "row": ((3, 20, 2), (3, 2, 2), (1, 10, 1), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tree_is_that_of_kruskal(case):
    size, cell, shape, channels = CASES[case]
    volume = noise(size, channels) * np.array([1, 7, 0.1][:channels], np.float32).reshape(-1, 1, 1, 1)
    tree = spanning_tree(volume, cell, shape)
    expected = edges_by_definition(volume, cell, shape)
    check_breadth_first(tree, int(np.prod(shape)))
    assert set(edges_of(tree)) == kruskal(expected)
    similarity = [np.exp(-expected[edge] / 2) for edge in edges_of(tree)]
    np.testing.assert_allclose(tree.similarity[1:], similarity, rtol=1e-5)


def test_equal_differences_make_a_tree_of_the_same_length():
    volume = np.random.default_rng(1).integers(0, 3, (1, 6, 5, 7)).astype(np.float32)
    tree = spanning_tree(volume, (1, 1, 1), (6, 5, 7))
    edges = edges_by_definition(volume, (1, 1, 1), (6, 5, 7))
    check_breadth_first(tree, 210)
    assert sum(edges[e] for e in edges_of(tree)) == pytest.approx(sum(edges[e] for e in kruskal(edges)))


@pytest.mark.parametrize(("shape", "middle"), [((5, 4, 3), (2, 2, 1)), ((1, 6, 1), (0, 3, 0)), ((2, 2, 2), (1, 1, 1))])
def test_the_root_is_the_middle(shape, middle):
    tree = spanning_tree(noise(shape), (1, 1, 1), shape)
    assert np.unravel_index(tree.cells[0], shape) == middle


def test_a_constant_image_joins_all_cells_fully():
    tree = spanning_tree(np.full((2, 9, 8, 6), -1000, np.float32), (3, 2, 2), (3, 4, 3))
    check_breadth_first(tree, 36)
    assert (tree.similarity == 1).all()


def test_a_constant_channel_says_nothing():
    volume = noise((8, 8, 8), 2)
    volume[1] = 5
    tree, alone = (spanning_tree(v, (2, 2, 2), (4, 4, 4)) for v in (volume, volume[:1]))
    np.testing.assert_array_equal(tree.cells, alone.cells)
    np.testing.assert_allclose(tree.similarity, np.sqrt(alone.similarity), rtol=1e-5)


def test_a_single_cell_is_a_root():
    tree = spanning_tree(noise((3, 4, 5)), (3, 4, 5), (1, 1, 1))
    check_breadth_first(tree, 1)
    assert tree.depths.tolist() == [0, 1]


def test_a_strong_step_is_crossed_once():
    volume = noise((12, 12, 12)) * 0.1
    volume[:, :, 6:] += 1000
    tree = spanning_tree(volume, (2, 2, 2), (6, 6, 6))
    across = [
        (a // 6 % 6 < 3) != (b // 6 % 6 < 3)
        for a, b in edges_of(tree)
    ]  # fmt: skip
    assert sum(across) == 1
    # The step is two standard deviations of such an image.
    assert tree.similarity[1:][across][0] == pytest.approx(np.exp(-1), rel=0.02)
    assert tree.similarity[1:][~np.array(across)].min() > 0.97


def test_scale_and_offset_change_nothing():
    volume = noise((8, 9, 10))
    one, other = (spanning_tree(v, (2, 3, 2), (4, 3, 5)) for v in (volume, 8 * volume + 1024))
    np.testing.assert_array_equal(one.cells, other.cells)
    np.testing.assert_allclose(one.similarity, other.similarity, rtol=1e-4)
