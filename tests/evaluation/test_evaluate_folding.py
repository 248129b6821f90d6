"""The volume turned inside out, against its definition and on folds that can be counted by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from anamorph.evaluation import jacobian_summary
from anamorph.evaluation.metrics.jacobian import non_diffeomorphic_volume_percent
from anamorph.geometry import Grid
from anamorph.transforms import Displacement
from arrays import smooth_vectors

CORNERS = list(product((0, 1), repeat=3))


def by_definition(disp: np.ndarray) -> float:
    """Per cell, the corners of one parity make the middle tetrahedron, the others one each with their neighbours."""
    positions = np.moveaxis(disp + np.indices(disp.shape[1:]), 0, -1).astype(float)
    cells = list(product(*(range(n - 1) for n in disp.shape[1:])))
    folded = 0.0
    for cell, parity in product(cells, (0, 1)):
        middle = [corner for corner in CORNERS if sum(corner) % 2 == parity]
        around = [
            [c, *(n for n in CORNERS if np.abs(np.subtract(c, n)).sum() == 1)] for c in CORNERS if c not in middle
        ]
        for tetrahedron in (middle, *around):
            rest = np.array(tetrahedron, float)
            moved = np.array([positions[tuple(np.add(cell, corner))] for corner in tetrahedron])
            volumes = [np.linalg.det(points[1:] - points[0]) / 6 for points in (rest, moved)]
            folded += max(0.0, -volumes[1] * np.sign(volumes[0]))
    return 100 * folded / (2 * len(cells))


@pytest.mark.parametrize("largest", [1.5, 4.0])
def test_equal_to_the_definition(largest):
    rng = np.random.default_rng(1)
    disp = (smooth_vectors((5, 6, 4), largest) + rng.normal(0, largest / 3, (3, 5, 6, 4))).astype(np.float32)
    assert by_definition(disp) > 0
    assert non_diffeomorphic_volume_percent(disp) == pytest.approx(by_definition(disp), rel=1e-5)


def test_a_fold_of_one_voxel_is_seen_though_central_differences_miss_it():
    disp = np.zeros((3, 9, 9, 9), np.float32)
    disp[0, 4, 4, 4] = -1.5
    determinants = Displacement(disp, Grid((9, 9, 9), np.eye(4))).jacobian_determinant()
    assert jacobian_summary(determinants)["folding_percent"] == 0
    assert non_diffeomorphic_volume_percent(disp) == pytest.approx(by_definition(disp))
    assert non_diffeomorphic_volume_percent(disp) > 0


def test_a_mirrored_image_is_inside_out_as_a_whole():
    disp = np.zeros((3, 6, 5, 4), np.float32)
    disp[1] = (4 - 2 * np.arange(5, dtype=np.float32))[:, None]
    assert non_diffeomorphic_volume_percent(disp) == pytest.approx(100)


def test_rotations_and_scalings_fold_nothing():
    sites = np.indices((6, 6, 6)).reshape(3, -1) - 2.5
    turned = np.array([[0, -2, 0], [2, 0, 0], [0, 0, 0.1]]) @ sites - sites
    assert non_diffeomorphic_volume_percent(turned.reshape(3, 6, 6, 6).astype(np.float32)) == 0
    assert non_diffeomorphic_volume_percent(np.ones((3, 5, 5, 1), np.float32)) == 0
