from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.features import layer_codes
from anamorph.features.layer_codes import (
    code_labels,
    code_scores,
    draw_codes,
    draw_signs,
    project_scores,
    random_points,
    supervoxel_centres,
)
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.optimise.keypoint_field import KeypointGraph, KeypointSettings, data_term, data_term_torch, fit_keypoints
from anamorph.transforms import Affine
from anamorph.transforms.thin_plate import ThinPlate
from voronoi_layers import ellipsoid, voronoi_layers, voxels

GRID = Grid((48, 40, 64), np.diag([4.0, 4, 4, 1]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_run_of_codes_holds_each_once():
    codes = draw_codes(5, 40, rng())
    assert codes.shape == (5, 40)
    for layer in codes:
        assert sorted(layer[:16]) == sorted(layer[16:32]) == list(range(16))
        assert len(set(layer[32:])) == 8
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize("shape", [(12, 9, 10), (7, 11, 1)])
def test_kernels_of_coded_layers_equal_their_twins(shape):
    labels = torch.from_numpy(rng().integers(0, 40, (3, *shape)).astype(np.uint8))
    codes = draw_codes(3, 40, rng(1))
    shares = layer_codes._shares(labels, codes)
    torch.testing.assert_close(shares, layer_codes.shares_torch(labels, codes))
    torch.testing.assert_close(layer_codes._blurred(shares), layer_codes.blurred_torch(shares))


def test_coded_labels_lie_where_the_labels_do():
    labels = np.zeros((1, 24, 20, 28), np.uint8)
    labels[0, 12, 8, 16] = 3
    grid = Grid((24, 20, 28), np.diag([2.0, 3, 4, 1]))
    coded = code_labels(torch.from_numpy(labels), grid, np.arange(16)[None])
    values = coded.values[..., 3].double().numpy()
    centre = np.argwhere(values > 0).T @ values[values > 0] / values.sum()
    np.testing.assert_allclose(coded.grid.voxel_to_world(centre), (24, 24, 64), atol=1e-3)
    np.testing.assert_allclose(coded.values.sum(dim=-1), 1, atol=1e-5)


def test_sure_scores_are_coded_as_their_labels():
    labels = rng().integers(0, 20, (2, 10, 9, 8))
    codes = draw_codes(2, 20, rng(1))
    scores = 50 * torch.nn.functional.one_hot(torch.from_numpy(labels)).permute(0, 4, 1, 2, 3).float()
    grid = Grid((10, 9, 8), np.eye(4))
    expected = np.stack([codes[n][labels[n]] == c for n in range(2) for c in range(16)], axis=-1).astype(np.float32)
    coded = code_scores(scores, grid, codes)
    torch.testing.assert_close(coded.values, layer_codes.blurred_torch(torch.from_numpy(expected)), atol=1e-5, rtol=0)
    assert coded.grid == grid


def test_projected_scores_differ_as_probabilities_do():
    layers, classes, channels = 6, 30, 64
    signs = draw_signs(layers, classes, rng(), channels)
    scores = [torch.from_numpy(rng(1 + n).normal(0, 3, (classes, 4, 5, 6)).astype(np.float32)) for n in range(layers)]
    projected = sum(project_scores(one, sign) for one, sign in zip(scores, signs, strict=True))
    few = projected.reshape(channels, -1).T
    many = torch.stack([one.softmax(dim=0) for one in scores]).reshape(layers * classes, -1).T / layers**0.5
    found, expected = torch.pdist(few).square(), torch.pdist(many).square()
    assert float((found / expected).mean()) == pytest.approx(1, abs=0.03)
    assert float((found / expected).std()) < 0.25


def test_unsure_scores_project_to_the_same_wherever_they_are():
    flat = project_scores(torch.zeros(12, 2, 2, 2), draw_signs(1, 12, rng())[0])
    assert flat.shape == (16, 2, 2, 2)
    torch.testing.assert_close(flat, flat[:, :1, :1, :1].expand_as(flat))


def test_centres_are_centres_of_mass_of_all_supervoxels():
    labels = voronoi_layers(GRID, 2, 30)
    centres = supervoxel_centres(labels)
    assert centres.shape == (60, 3)
    np.testing.assert_allclose(centres[34], np.argwhere(labels[1] == 5).mean(axis=0))


def test_random_points_are_different_voxels_of_the_foreground():
    inside = voronoi_layers(GRID, 1, 30)[0] > 0
    for mask, count in ((inside, 200), (inside[:, :, 20:22], 150)):
        points = random_points(mask, count, rng()).astype(int)
        assert len(np.unique(points, axis=0)) == count
        assert mask[tuple(points.T)].all()


def test_the_graph_joins_neighbours_both_ways():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [10, 0, 0]])
    graph = KeypointGraph.of_neighbours(points, 1)
    assert {(int(a), int(b)) for a, b in graph.edges.T} == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
    values = torch.tensor([[0.0], [1.0], [1.0], [4.0]], dtype=torch.float64)
    energy, gradient = graph.diffusion(values)
    assert energy == pytest.approx(2 * (1 + 0 + 9) / 4)
    np.testing.assert_allclose(gradient[:, 0], [-1, 1, -3, 3])


def test_a_random_walk_solves_its_system():
    graph = KeypointGraph.of_neighbours(rng().random((50, 3)), 4)
    values = rng(1).random((50, 3))
    smooth = graph.random_walk(values, 2.0)
    here, there = graph.edges
    laplacian = np.zeros((50, 3))
    np.add.at(laplacian, here, smooth[here] - smooth[there])
    np.testing.assert_allclose(smooth + 2.0 * laplacian, values, atol=1e-9)
    assert smooth.std() < 0.5 * values.std()


@pytest.mark.parametrize("shape", [(6, 7, 5), (5, 1, 6)])
def test_the_data_term_and_its_gradient_equal_the_twin(shape):
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(*shape, 9, generator=generator)
    wanted = torch.rand(80, 9, generator=generator)
    reach = torch.tensor(shape) + 1.0
    positions = torch.rand(80, 3, generator=generator) * reach - 0.7
    (loss, gradient), (expected, slope) = (term(wanted, volume, positions) for term in (data_term, data_term_torch))
    assert loss == pytest.approx(expected, rel=1e-5)
    axes = [axis for axis in range(3) if shape[axis] > 1]
    torch.testing.assert_close(gradient[:, axes], slope[:, axes], atol=1e-6, rtol=1e-4)


def recovered(kind: str, fixed: np.ndarray, moving: np.ndarray, kernel: str = "r") -> ThinPlate:
    codes = draw_codes(len(fixed), 128, rng(1))
    here, there = (code_labels(torch.from_numpy(one), GRID, codes) for one in (fixed, moving))
    points = supervoxel_centres(fixed) if kind == "centres" else random_points(fixed[0] > 0, 1024, rng(2))
    places = GRID.voxel_to_world(points)
    graph = KeypointGraph.of_neighbours(places, 8)
    start = there.grid.world_to_voxel(places)
    found, _ = fit_keypoints(here.at(places), there.values, start, graph, KeypointSettings())
    return ThinPlate(places, found @ there.grid.affine[:3, :3].T, kernel, 0.1 if kernel == "r" else 1e-3)


def error_vox(found: ThinPlate, true: Affine) -> np.ndarray:
    places = GRID.voxel_to_world(voxels(GRID)[ellipsoid(GRID)][::40])
    return np.linalg.norm(found.map_world(places) - true.map_world(places), axis=1) / 4


def test_a_scan_and_itself_stay():
    labels = voronoi_layers(GRID)
    error = error_vox(recovered("centres", labels, labels), Affine.identity())
    assert np.sqrt((error**2).mean()) < 0.05


@pytest.mark.parametrize(("kind", "kernel"), [("centres", "r"), ("random", "r"), ("centres", "r2logr")])
def test_a_known_affine_map_is_found(kind, kernel):
    labels = voronoi_layers(GRID)
    matrix = np.eye(4)
    matrix[:3, :3] += rng(3).normal(0, 0.07, (3, 3))
    middle = GRID.centre_mm
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + (8, -6, 10)
    true = Affine(matrix)
    moved = sample(labels, true.moving_positions(GRID, GRID), "nearest", 0)
    before = error_vox(recovered(kind, labels, labels), true).mean()
    error = error_vox(recovered(kind, moved, labels, kernel), true)
    assert before > 4
    assert error.mean() < 0.5
    assert np.quantile(error, 0.95) < 1.5
