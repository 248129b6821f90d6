from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry.grid import Grid
from anamorph.testing.pairs import rotation
from anamorph.transforms.maps import Affine, Displacement
from anamorph.transforms.marks import Links, Marks, OutlinePair
from geometries import isotropic

GRID = isotropic((60, 50, 40), 2.0)
"""A field of view of 160 mm across."""
RNG = np.random.default_rng(0)
PLACES = RNG.uniform(10, 70, (14, 3))


def marks(moves: np.ndarray, sigma_mm: float = 0.5, places: np.ndarray = PLACES) -> Marks:
    return Marks(Links(places, places + moves, np.full(len(places), sigma_mm)))


def still(grid: Grid = GRID) -> Displacement:
    return Displacement(np.zeros((3, *grid.shape), np.float32), grid)


def bent(places: np.ndarray) -> np.ndarray:
    """A smooth map of up to 8 mm."""
    return 8 * np.sin(places[:, [1, 2, 0]] / 40)


def test_a_correction_goes_through_exact_landmarks_and_not_through_doubtful_ones():
    moves = bent(PLACES)
    exact, doubtful = (marks(moves, sigma).corrected(still(), False) for sigma in (0.1, 20.0))
    left = [np.linalg.norm(one.map_world(PLACES) - PLACES - moves, axis=1) for one in (exact, doubtful)]
    assert left[0].max() < 0.3
    assert left[1].mean() > 1
    assert exact.jacobian_determinant().min() > 0.3


def test_between_landmarks_it_is_near_the_truth():
    others = RNG.uniform(20, 60, (200, 3))
    found = marks(bent(PLACES)).corrected(still(), False)
    left = np.linalg.norm(found.map_world(others) - others - bent(others), axis=1)
    assert left.mean() < 0.35 * np.linalg.norm(bent(others), axis=1).mean()


def test_a_shift_that_all_agree_on_is_one_everywhere():
    found = marks(np.full(PLACES.shape, 5.0), 0.1).corrected(still(), False)
    np.testing.assert_allclose(found.vectors_mm(), 5.0, atol=0.4)


def test_landmarks_that_were_exchanged_are_named_and_no_others():
    moves = bent(PLACES)
    wrong = (PLACES + moves).copy()
    wrong[[3, 9]] = wrong[[9, 3]]
    kept, told = marks(wrong - PLACES).believed(GRID)
    assert sorted(line.split()[1] for line in told) == ["10", "4"]
    assert len(kept.landmarks) == len(PLACES) - 2
    assert marks(moves).believed(GRID)[1] == []
    named = Marks(marks(wrong - PLACES).landmarks, tuple(f"p{n}" for n in range(len(PLACES))))
    assert {line.split()[1] for line in named.believed(GRID)[1]} == {"p3", "p9"}


def test_a_place_where_all_else_is_right_but_one_is_far_off_by_little_is_believed():
    moves = np.zeros(PLACES.shape)
    moves[5] = (9.0, 0, 0)  # as where a registration went wrong, not where a landmark did
    assert marks(moves).believed(GRID)[1] == []


def test_three_landmarks_are_not_judged():
    moves = np.zeros((3, 3))
    moves[0] = 70
    assert marks(moves, places=PLACES[:3]).believed(GRID)[1] == []


@pytest.mark.parametrize(
    ("count", "model", "scaled"), [(4, "affine", False), (12, "affine", True), (12, "rigid", False)]
)
def test_a_start_that_leaves_them_far_apart_is_found_by_them(count, model, scaled):
    true = np.eye(4)
    true[:3, :3] = rotation((20.0, -40.0, 70.0)) * (1.1 if scaled else 1.0)
    true[:3, 3] = (30, -20, 10)
    places = PLACES[:count]
    given = Marks(Links(places, Affine(true).map_world(places), np.ones(count)))
    found = given.start(Affine.identity(), GRID, model)
    assert found is not None
    np.testing.assert_allclose(found.matrix, true, atol=1e-6)
    assert given.start(found, GRID, model) is None
    assert Marks(Links(places[:2], places[:2] + 90, np.ones(2))).start(Affine.identity(), GRID, model) is None


def sphere(radius: float, count: int = 400) -> np.ndarray:
    at = np.random.default_rng(1).standard_normal((count, 3))
    return (60.0, 50, 40) + radius * at / np.linalg.norm(at, axis=1, keepdims=True)


def test_outlines_far_apart_give_a_start_too():
    true = np.eye(4)
    true[:3, :3] = rotation((5.0, -10.0, 15.0))
    true[:3, 3] = (90, -60, 40)
    stretched = np.array([[1.0, 0.6, 0.4], [0.5, 1.0, 0.7], [0.8, 0.4, 1.0], [1.0, 1.0, 0.3]])
    sides = [(sphere(15, 400) - (60, 50, 40)) * s + PLACES[n] for n, s in enumerate(stretched)]
    pairs = tuple(OutlinePair(side, Affine(true).map_world(side[::-1]), 0.5) for side in sides)
    given = Marks(Links.none(), outlines=pairs)
    found = given.start(Affine.identity(), GRID, "rigid")
    assert found is not None
    assert np.linalg.norm(found.map_world(PLACES) - Affine(true).map_world(PLACES), axis=1).max() < 0.5
    assert given.start(found, GRID, "rigid") is None
    ball = Marks(Links.none(), outlines=(OutlinePair(sphere(15), sphere(15, 300) + 100, 0.5),))
    shifted = ball.start(Affine.identity(), GRID, "translation")
    assert shifted is not None
    np.testing.assert_allclose(shifted.matrix[:3, 3], 100, atol=1.5)


def test_outlines_pull_without_partners():
    ball = OutlinePair(sphere(15), sphere(20, 300) + np.array([4, 0, 0]), 0.5)
    found = Marks(Links.none(), (), (ball,)).corrected(still(), True)
    radius = np.linalg.norm(found.map_world(sphere(15)) - (64, 50, 40), axis=1)
    assert abs(radius.mean() - 20) < 0.7
    assert radius.std() < 1.0


def test_what_one_outline_shows_alone_counts_less():
    half = sphere(20)
    half = half[half[:, 2] < 40]
    links = OutlinePair(half, sphere(20) + np.array([0.5, 0, 0]), 0.5).links(half)
    far = np.linalg.norm(links.here - links.there, axis=1) > 10
    assert far.sum() > 20
    assert links.sigma_mm[far].min() > 5 * links.sigma_mm[~far].min()


def test_exchanging_exchanges():
    given = Marks(marks(bent(PLACES)).landmarks, (), (OutlinePair(sphere(15), sphere(20), 0.5),))
    back = given.exchanged()
    np.testing.assert_array_equal(back.landmarks.here, given.landmarks.there)
    np.testing.assert_array_equal(back.outlines[0].here, given.outlines[0].there)
    moved = given.brought(lambda places: places + 3)
    np.testing.assert_allclose(moved.landmarks.there, given.landmarks.there + 3)
    np.testing.assert_array_equal(moved.landmarks.here, given.landmarks.here)
