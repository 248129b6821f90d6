"""Two phantom slices with a known deformation, and what deeds computes on them: material for the pictures."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.tree_inference import SpanningTree, infer_labels, spanning_tree
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import Grid
from anamorph.geometry.averaging import pool_volume
from anamorph.methods.deeds.levels import DeedsConfig, DeedsLevel
from anamorph.methods.working_frame import Scan, Side
from anamorph.phantom import make_pair
from anamorph.transforms import Transform

CONFIG = DeedsConfig(init="world", refine_iterations=(0, 0))
PAIR = make_pair((184, 136, 1), 2.0, seed=3, deformation_mm=25.0, translation_mm=15.0)
GRID = PAIR.fixed.grid
LABELS = PAIR.fixed_labels.data[0, :, :, 0]


class Search:
    """What deeds computes on one level, in the direction from fixed to moving."""

    def __init__(self, level: DeedsLevel) -> None:
        self.level = level
        self.fixed = Side.of(Scan.prepare(PAIR.fixed, None), True, CONFIG.air_weight)

    @cached_property
    def bits(self) -> np.ndarray:
        """Mean number of differing bits, ``(cells, labels)``."""
        level = self.level
        here, there = (
            np.stack([quantised_mind_ssc(channel, level.mind_step) for channel in scan.channels])
            for scan in (self.fixed.scan, Scan.prepare(PAIR.moving, None))
        )
        window = level.cell, level.radius, level.step, level.stride
        return hamming_costs(here, self.fixed.weight, there, level.cells, *window)

    @property
    def costs(self) -> np.ndarray:
        """The same, weighted against the smoothness."""
        return self.bits * (self.level.spacing / (2 * CONFIG.alpha * self.level.quantisation))

    @cached_property
    def tree(self) -> SpanningTree:
        return spanning_tree(self.fixed.scan.channels, self.level.cell, self.level.cells)

    def window(self, cell: tuple[int, int]) -> np.ndarray:
        """Differing bits of one cell, ``(rows, columns)`` of displacements."""
        return self.bits.reshape(*self.level.cells[:2], *self.level.labels[:2])[cell].T

    def cheapest(self) -> np.ndarray:
        """``(2, cells)`` voxels: what every cell would take for itself."""
        label = np.stack(np.unravel_index(self.bits.argmin(axis=1), self.level.labels)[:2])
        return (label - np.array(self.level.radius[:2])[:, None]) * np.array(self.level.step[:2])[:, None]

    def smooth(self) -> np.ndarray:
        """``(2, cells)`` voxels: the optimum on the tree."""
        level = self.level
        i, j, k = (float(s / u) for s, u in zip(level.step, level.unit_vox, strict=True))
        start = np.zeros((3, len(self.bits)), np.float32)
        labels = infer_labels(self.costs, self.tree, level.labels, (i, j, k), start)
        return labels[:2] * np.array(level.step[:2])[:, None]


def centres(control: Grid) -> np.ndarray:
    """``(2, cells)`` voxel positions."""
    cells = np.indices(control.shape).reshape(3, -1).T
    return GRID.world_to_voxel(control.voxel_to_world(cells)).T[:2]


def truth(control: Grid) -> np.ndarray:
    """``(2, cells)`` voxels: the displacements with which the phantom was made."""
    cells = np.indices(control.shape).reshape(3, -1).T
    there = PAIR.true_fixed_to_moving.map_world(control.voxel_to_world(cells))
    return PAIR.moving.grid.world_to_voxel(there).T[:2] - centres(control)


def inside(level: DeedsLevel) -> np.ndarray:
    """Which cells lie in the body."""
    return pool_volume((PAIR.fixed.data > -500).astype(np.float32), level.cell)[0].ravel() > 0.5


def organs(level: DeedsLevel) -> np.ndarray:
    """The label that covers most of each cell."""
    names = np.unique(LABELS)
    share = pool_volume(np.stack([(name == LABELS)[..., None] for name in names]).astype(np.float32), level.cell)
    return names[share.argmax(axis=0)].ravel()


def borders(pairs: np.ndarray, organ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs of cells belong to one organ, and which do not."""
    one = organ[pairs[:, 0]] == organ[pairs[:, 1]]
    return one, ~one


def error_mm(found: Transform) -> float:
    """Mean distance to the truth in the body."""
    body = GRID.voxel_to_world(np.argwhere(PAIR.fixed.data[0] > -500))
    return float(np.linalg.norm(found.map_world(body) - PAIR.true_fixed_to_moving.map_world(body), axis=1).mean())
