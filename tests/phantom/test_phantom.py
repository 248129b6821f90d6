from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.phantom import LABEL_NAMES, PhantomPair, make_pair
from anamorph.transforms import Composite, Displacement

NUMBER = {name: number for number, name in LABEL_NAMES.items()}


@pytest.fixture(scope="module")
def pair() -> PhantomPair:
    return make_pair((96, 76, 84), seed=3)


def dice(a: np.ndarray, b: np.ndarray, label: int) -> float:
    return float(2 * ((a == label) & (b == label)).sum() / ((a == label).sum() + (b == label).sum()))


def tilted_grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.diag(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def test_true_transform_maps_landmarks(pair: PhantomPair) -> None:
    fixed, moving = pair.fixed_points, pair.moving_points
    assert fixed.labels == moving.labels
    assert len(fixed) >= 25
    errors = np.linalg.norm(pair.true_fixed_to_moving.map_world(fixed.positions_mm) - moving.positions_mm, axis=1)
    assert errors.max() < 1e-3
    moved = np.linalg.norm(fixed.positions_mm - moving.positions_mm, axis=1)
    assert moved.mean() > 5


def test_dense_form_of_the_true_transform_stays_exact(pair: PhantomPair) -> None:
    # What the images were made with is float32 voxel positions; float64 points must agree with them.
    grid = pair.fixed.grid
    sites = np.stack(np.meshgrid(*(np.arange(2, n, 9) for n in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    dense = pair.true_fixed_to_moving.positions_on(grid)[:, sites[:, 0], sites[:, 1], sites[:, 2]].T
    exact = pair.true_fixed_to_moving.map_world(grid.voxel_to_world(sites))
    assert np.linalg.norm(grid.voxel_to_world(dense) - exact, axis=1).max() < 1e-2


def test_every_organ_is_there_and_warps_onto_itself(pair: PhantomPair) -> None:
    assert pair.fixed_labels.present() == sorted(LABEL_NAMES)
    warped = pair.true_fixed_to_moving.warp_labels(pair.moving_labels, pair.fixed.grid)
    scores = {n: dice(pair.fixed_labels.data[0], warped.data[0], k) for k, n in LABEL_NAMES.items()}
    solid = ["spleen", "left kidney", "right kidney", "liver", "stomach"]
    assert min(scores[name] for name in solid) > 0.95, scores
    # Tubes of three voxels across lose more to the interpolation of labels.
    assert min(scores.values()) > 0.85, scores
    before = {n: dice(pair.fixed_labels.data[0], pair.moving_labels.data[0], k) for k, n in LABEL_NAMES.items()}
    assert np.mean(list(before.values())) < np.mean(list(scores.values())) - 0.2


def test_warped_image_matches_but_for_noise_and_edges() -> None:
    pair = make_pair((96, 76, 84), seed=3, noise_hu=0)
    warped = pair.true_fixed_to_moving.warp_image(pair.moving, pair.fixed.grid)
    after = np.abs(warped.data.astype(float) - pair.fixed.data)
    before = np.abs(pair.moving.data.astype(float) - pair.fixed.data)
    assert np.median(after[pair.fixed_labels.data == NUMBER["liver"]]) < 6
    assert after.mean() < 0.25 * before.mean()


@pytest.mark.parametrize(
    ("organ", "lowest", "highest"),
    [("liver", 95, 130), ("spleen", 105, 140), ("gallbladder", -10, 40), ("aorta", 150, 190), ("vertebrae", 200, 450)],
)
def test_tissue_values(pair: PhantomPair, organ: str, lowest: float, highest: float) -> None:
    assert lowest < np.median(pair.moving.data[pair.moving_labels.data == NUMBER[organ]]) < highest


def test_air_fat_and_bone_are_ct_like(pair: PhantomPair) -> None:
    values = pair.fixed.data
    assert values.dtype == np.int16
    assert abs(np.median(values[0, :6, :6]) + 1000) < 5
    assert ((values > -130) & (values < -80)).mean() > 0.1
    assert (values > 300).mean() > 0.003


def test_noise_is_independent_and_as_asked(pair: PhantomPair) -> None:
    fixed, moving = (scan.data[0, :6, :6].astype(float) for scan in (pair.fixed, pair.moving))
    assert fixed.std() == pytest.approx(12, rel=0.1)
    assert abs(np.corrcoef(fixed.ravel(), moving.ravel())[0, 1]) < 0.05


def test_deformation_is_smooth_and_invertible(pair: PhantomPair) -> None:
    transform = pair.true_fixed_to_moving
    assert transform.jacobian_determinant(pair.fixed.grid).min() > 0.2
    assert isinstance(transform, Composite)
    bending = transform.parts[1]
    assert isinstance(bending, Displacement)
    assert 8 < np.linalg.norm(bending.vectors_mm(), axis=0).max() <= 15.5


def test_strong_deformation_stays_invertible() -> None:
    pair = make_pair((24, 20, 20), seed=1, deformation_mm=80)
    bending = pair.true_fixed_to_moving.parts[1]  # type: ignore[attr-defined]
    assert bending.jacobian_determinant().min() > 0.2
    assert np.linalg.norm(bending.vectors_mm(), axis=0).max() > 15


def test_no_deformation_gives_the_same_anatomy() -> None:
    pair = make_pair((32, 26, 28), deformation_mm=0, translation_mm=0, rotation_deg=0, scale=0, noise_hu=0)
    assert np.array_equal(pair.fixed.data, pair.moving.data)


def test_seeds() -> None:
    first, again, other = (make_pair((32, 26, 28), seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.fixed.data, again.fixed.data)
    assert np.array_equal(first.moving_points.positions_mm, again.moving_points.positions_mm)
    assert (first.moving_labels.data != other.moving_labels.data).sum() > 300


def test_any_two_grids_see_the_same_bodies(pair: PhantomPair) -> None:
    fixed_grid = tilted_grid((70, 90, 60), (5.0, 3.5, 6.0))
    moving_grid = tilted_grid((120, 80, 50), (3.0, 4.0, 7.0))
    other = make_pair(seed=3, fixed_grid=fixed_grid, moving_grid=moving_grid)
    assert other.fixed.grid == fixed_grid
    assert other.moving_labels.grid == moving_grid
    sites = pair.fixed_points.positions_mm
    ours, theirs = (p.true_fixed_to_moving.map_world(sites) for p in (pair, other))
    np.testing.assert_allclose(ours, theirs)
    warped = other.true_fixed_to_moving.warp_labels(other.moving_labels, fixed_grid)
    assert dice(warped.data, other.fixed_labels.data, NUMBER["liver"]) > 0.95
    liver = other.moving_labels.data == NUMBER["liver"]
    size_mm3 = liver.sum() * np.prod(moving_grid.spacing_mm)
    expected = (pair.moving_labels.data == NUMBER["liver"]).sum() * np.prod(pair.moving.grid.spacing_mm)
    assert size_mm3 == pytest.approx(expected, rel=0.03)


def test_slices_stay_in_their_plane() -> None:
    pair = make_pair((128, 100, 1), seed=2)
    sites = np.array([[30.0, -20, 0], [-80, 10, 0]])
    mapped = pair.true_fixed_to_moving.map_world(sites)
    assert np.abs(mapped[:, 2]).max() < 1e-6
    assert np.linalg.norm(mapped - sites, axis=1).min() > 1
    warped = pair.true_fixed_to_moving.warp_labels(pair.moving_labels, pair.fixed.grid)
    assert dice(warped.data, pair.fixed_labels.data, NUMBER["liver"]) > 0.95
    assert len(pair.fixed_points) >= 3
    errors = pair.true_fixed_to_moving.map_world(pair.fixed_points.positions_mm) - pair.moving_points.positions_mm
    assert np.abs(errors).max() < 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"body": "knee"},
        {"seed": -1},
        {"shape": (32, 32)},
        {"shape": (32, 0, 32)},
        {"spacing_mm": 0},
        {"deformation_mm": -1},
        {"scale": 0.6},
        {"shape": (32, 32, 32), "moving_grid": Grid((32, 32, 1), np.eye(4))},
    ],
)
def test_nonsense_is_refused(arguments: dict) -> None:
    with pytest.raises(UserError):
        make_pair(**arguments)
