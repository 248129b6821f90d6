from __future__ import annotations

import numpy as np
import pytest

from anamorph.transforms.affine import fit_least_trimmed_squares
from geometries import rotation


def correspondences(matrix, outliers=0.4, count=400, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.uniform(-100, 100, (count, 3))
    target = source @ matrix[:3, :3].T + matrix[:3, 3]
    wrong = rng.random(count) < outliers
    target[wrong] += rng.uniform(-40, 60, (wrong.sum(), 3))
    return source, target


def a_map(linear):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = (5, -8, 12)
    return matrix


@pytest.mark.parametrize(
    ("model", "linear"),
    [
        ("affine", rotation((4, -6, 9)) @ np.array([[1.1, 0.05, 0], [0, 0.9, 0.02], [0, 0, 1.04]])),
        ("rigid", rotation((10, -7, 15))),
        ("similarity", 1.3 * rotation((10, -7, 15))),
        ("translation", np.eye(3)),
    ],
)
def test_outliers_do_not_count(model, linear):
    expected = a_map(linear)
    found = fit_least_trimmed_squares(*correspondences(expected), model)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_rigid_never_reflects_nor_scales(seed):
    source, target = correspondences(a_map(np.diag([-1.3, 1.3, 1.3])), seed=seed)
    linear = fit_least_trimmed_squares(source, target, "rigid")[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(linear) == pytest.approx(1)


def test_a_similarity_changes_all_sizes_alike_and_never_reflects():
    stretched = rotation((3, 5, -8)) @ np.diag([1.2, 1.0, 0.9])
    linear = fit_least_trimmed_squares(*correspondences(a_map(stretched)), "similarity")[:3, :3]
    size = np.cbrt(np.linalg.det(linear))
    assert 0.9 < size < 1.2
    np.testing.assert_allclose(linear @ linear.T, size**2 * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("model", ["affine", "similarity", "rigid", "translation"])
@pytest.mark.parametrize("used", [[0, 1], [1], []], ids=["plane", "line", "one place"])
def test_points_that_do_not_span_space(model, used):
    rng = np.random.default_rng(0)
    source = np.full((60, 3), 7.0)
    source[:, used] = rng.uniform(-50, 50, (60, len(used)))
    target = source + np.array([1, 2, 3])
    found = fit_least_trimmed_squares(source, target, model)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(source @ found[:3, :3].T + found[:3, 3], target, atol=1e-6)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


def test_a_direction_without_points_keeps_the_identity():
    rng = np.random.default_rng(0)
    source = np.concatenate([rng.uniform(-50, 50, (60, 2)), np.zeros((60, 1))], axis=1)
    found = fit_least_trimmed_squares(source, source * (1.2, 0.9, 1.0), "affine")
    np.testing.assert_allclose(found, np.diag([1.2, 0.9, 1.0, 1.0]), atol=1e-9)
