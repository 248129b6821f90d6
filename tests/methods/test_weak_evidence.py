"""Scans that explain little of each other: the map has few degrees of freedom, and nothing is deformed."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import anamorph
from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods import recipe, started, worth
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.linear_start import comparable_after, given_start, judged_at, linear_start
from anamorph.methods.start import search
from anamorph.methods.start.hypotheses import Hypothesis, Rules
from anamorph.methods.start.matching import Matched
from anamorph.methods.start.remarks import Contest
from anamorph.methods.start.search import Start
from anamorph.methods.start.settings import INTENSITY_WEIGHT
from anamorph.methods.start.volumes import WEAK_UNLIKE, Judge, ScanPair
from anamorph.methods.working_frame import Scan
from anamorph.methods.worth import (
    DOUBTFUL,
    FEWEST_BLOCKS,
    KEPT_BY,
    LEAST_EXPLAINED,
    NOT_DEFORMED,
    NOTHING_LEFT,
    ONLY_NOISE,
    UNRELATED,
    WEAK_LEFT,
    mismatch_left,
    noise_followed,
    nothing_left,
)
from anamorph.phantom import make_pair
from anamorph.transforms import Affine, Composite, Displacement
from anamorph.types import GraveWarning
from arrays import smooth_descriptor


def noise(seed):
    """Smooth noise far from the origin, so that its header has a position."""
    values = gaussian_filter(np.random.default_rng(seed).standard_normal((26, 24, 22)), 1.5)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = 40, -20, 10
    return Image(values.astype(np.float32), Grid(values.shape, affine))


@pytest.fixture(scope="module")
def unrelated():
    return noise(0), noise(1)


def test_the_map_between_unrelated_scans_is_rigid(unrelated):
    start = linear_start(*(Scan.prepare(scan, None) for scan in unrelated), "affine")
    assert start.comparison.kind == "none"
    assert start.explained < LEAST_EXPLAINED
    linear = start.transform.matrix[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_unrelated_scans_are_not_deformed_unless_that_is_asked_for(unrelated, method):
    result = anamorph.register(*unrelated, method=method)
    assert isinstance(result.fixed_to_moving, Affine)
    np.testing.assert_allclose(result.moving_to_fixed.matrix @ result.fixed_to_moving.matrix, np.eye(4), atol=1e-9)
    assert NOT_DEFORMED in result.warnings
    deformed = anamorph.register(*unrelated, method=method, settings={"keep_doubtful": True})
    assert not isinstance(deformed.fixed_to_moving, Affine)
    assert NOT_DEFORMED not in deformed.warnings


@pytest.mark.parametrize("init", ["world", Affine.identity()])
def test_after_a_start_that_is_given_noise_is_not_followed_between_scans_that_do_not_compare(unrelated, init):
    still = anamorph.register(*unrelated, init=init)
    np.testing.assert_allclose(still.fixed_to_moving.matrix, np.eye(4))
    assert still.verdict.status == "WARN"
    assert still.warnings == [still.provenance["start"][-1] + KEPT_BY]
    kept = anamorph.register(*unrelated, init=init, settings={"keep_doubtful": True})
    assert not isinstance(kept.fixed_to_moving, Affine)
    assert [text for text in kept.warnings if text.startswith(DOUBTFUL.split("(")[0])]
    assert kept.verdict.status == "WARN"


def test_a_start_that_explains_little_is_a_warning(unrelated):
    start = linear_start(*(Scan.prepare(scan, None) for scan in unrelated), "auto")
    assert [text for text in start.warnings if text.startswith("the scans explain little of each other")]
    made = make_pair((32, 28, 24), seed=0, deformation_mm=0.0, translation_mm=4.0)
    sure = linear_start(*(Scan.prepare(scan, None) for scan in (made.fixed, made.moving)), "auto")
    assert sure.explained > 0.5
    assert not sure.warnings
    assert not sure.is_guess


def test_a_start_that_is_given_explains_what_the_search_says_of_it():
    made = make_pair((32, 28, 24), seed=1, deformation_mm=4.0, translation_mm=4.0)
    scans = [Scan.prepare(scan, None) for scan in (made.fixed, made.moving)]
    for other in (scans[1], scans[0]):
        found = linear_start(scans[0], other, "rigid")
        given = given_start(scans[0], other, found.transform, INTENSITY_WEIGHT)
        assert given.is_given
        assert given.explained == pytest.approx(found.explained, abs=1e-3)
    there = Displacement(np.zeros((3, *made.fixed.grid.shape), np.float32), made.fixed.grid)
    moved = Composite.of(there, Affine.translation([1.0, 0.0, 0.0]))
    _, by_field = judged_at(*scans, moved, INTENSITY_WEIGHT)
    _, by_matrix = judged_at(*scans, Affine.translation([1.0, 0.0, 0.0]), INTENSITY_WEIGHT)
    assert by_field == pytest.approx(by_matrix, abs=0.02)


@pytest.mark.parametrize(("searched", "status"), [(True, "FAIL"), (False, "WARN")])
def test_a_start_that_was_searched_for_and_explains_little_fails(unrelated, searched, status, monkeypatch):
    def found(*scans_and_settings):
        return Start(Affine.translation([1.0, 2.0, 0.0]), LEAST_EXPLAINED / 2, is_guess=searched)

    monkeypatch.setattr(recipe, "linear_start", found)
    result = anamorph.register(*unrelated)
    assert [isinstance(text, GraveWarning) for text in result.warnings] == [False] + [True] * searched
    assert (UNRELATED in result.warnings) == searched
    assert result.verdict.status == status
    assert pickle.loads(pickle.dumps(UNRELATED)) == UNRELATED
    assert isinstance(pickle.loads(pickle.dumps(UNRELATED)), GraveWarning), "warnings come back from other processes"


def test_intensities_compare_by_their_correlation(unrelated):
    one, other = unrelated
    mixed = one.with_data(one.data + other.data * one.data.std() / other.data.std() * 1.5)
    scans = Scan.prepare(one, None), Scan.prepare(mixed, None)
    correlation = np.corrcoef(one.data.ravel(), mixed.data.ravel())[0, 1]
    assert 0.45 < correlation < 0.65
    for least, expected in ((correlation - 0.1, "scaled"), (correlation + 0.1, "none")):
        assert comparable_after(*scans, Affine.identity(), "scaled", least) == expected
    assert comparable_after(*scans, Affine.identity(), "ct", 0.99) == "ct"


def shifted_pair(weight=1.0):
    """A descriptor and the same one voxel further, with a field of so much of the right shift."""
    fixed = smooth_descriptor((12, 10, 9), sigma=1.5)
    ones = np.ones(fixed.shape[:3], np.float32)
    field = np.zeros((3, *fixed.shape[:3]), np.float32)
    field[0] = weight
    grid = Grid(fixed.shape[:3], np.diag([2.0, 2.0, 2.0, 1.0]))
    return DescribedPair(fixed, ones, np.roll(fixed, 1, axis=0), ones), grid, Displacement(field, grid)


@pytest.mark.parametrize(
    ("share", "explained", "kind", "is_noise"),
    [
        (0.1, 0.4, "none", True),
        (1.0, 0.4, "none", False),
        (0.1, 0.5, "none", False),
        (0.1, 0.4, "scaled", False),
        (0.1, 0.4, "ct", False),
    ],
)
def test_a_deformation_between_scans_that_do_not_compare_must_explain_much(share, explained, kind, is_noise):
    pair, grid, deformation = shifted_pair(share)
    left = mismatch_left(pair, deformation.disp_vox)
    assert (left > WEAK_LEFT) == (share < 1)
    told = noise_followed(pair, grid, deformation, explained, kind)
    assert told == (ONLY_NOISE.format(left=left) if is_noise else None)


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_where_a_deformation_follows_noise_the_start_is_the_result(method, monkeypatch):
    pair = make_pair((30, 26, 28), seed=3)
    deformed = anamorph.register(pair.fixed, pair.moving, method=method)
    assert not isinstance(deformed.fixed_to_moving, Affine)
    monkeypatch.setattr(started, "noise_followed", lambda *given: "not deformed: noise")
    linear = anamorph.register(pair.fixed, pair.moving, method=method)
    assert isinstance(linear.fixed_to_moving, Affine)
    assert linear.provenance["start"] == [*deformed.provenance["start"], "not deformed: noise"]
    assert not linear.warnings
    given = anamorph.register(pair.fixed, pair.moving, method=method, init=linear.fixed_to_moving)
    np.testing.assert_allclose(given.fixed_to_moving.matrix, linear.fixed_to_moving.matrix, atol=1e-12)
    assert given.warnings == ["not deformed: noise" + KEPT_BY]


def test_the_mismatch_left_is_that_of_the_descriptors():
    fixed = np.random.default_rng(0).random((6, 5, 4, 16)).astype(np.float32)
    moving = np.roll(fixed, 1, axis=0)
    pair = DescribedPair(fixed, np.ones((6, 5, 4), np.float32), moving, np.ones((6, 5, 4), np.float32))
    field = np.zeros((3, 6, 5, 4), np.float32)
    field[0] = 1
    shifted = np.concatenate([moving[1:], moving[-1:]])
    expected = ((shifted - fixed) ** 2).sum() / ((moving - fixed) ** 2).sum()
    assert mismatch_left(pair, field) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_nothing_is_deformed_where_the_start_says_all(method):
    pair = make_pair((40, 36, 38), seed=3, deformation_mm=0.0)
    noise = np.random.default_rng(0).normal(0, 15, (2, *pair.fixed.grid.shape)).astype(np.float32)
    scans = (
        image.with_data(image.data[0] + more) for image, more in zip((pair.fixed, pair.moving), noise, strict=True)
    )
    result = anamorph.register(*scans, method=method)
    assert isinstance(result.fixed_to_moving, Affine)
    assert "would explain nothing" in result.provenance["start"][-1]


def textured(shape, spacing_mm):
    """Structures of few voxels."""
    values = gaussian_filter(np.random.default_rng(0).random(shape).astype(np.float32), 0.8)
    return Scan.prepare(Image(values, Grid(shape, np.diag([*spacing_mm, 1.0]))), None)


@pytest.mark.parametrize(("right", "left"), [(1.0, None), (0.0, 1.0), (-1.0, 1.3)])
@pytest.mark.parametrize(
    ("shape", "most"), [((60, 27, 31), 1e9), ((60, 27, 31), 25_000), ((30, 90, 91), 60_000), ((180, 150, 1), 1e9)]
)
def test_what_a_deformation_leaves_is_seen_in_single_voxels(shape, most, right, left, monkeypatch):
    monkeypatch.setattr(worth, "MOST_VOXELS", most)
    fixed = textured(shape, (2.0, 3.0, 4.0))
    grid = fixed.grid
    moving = Scan(1 - np.roll(fixed.channels, 1, axis=1) ** 2, fixed.weight, grid)
    field = np.zeros((3, *shape), np.float32)
    field[0] = right
    told = worth.nothing_left(fixed, moving, Affine.identity(), Displacement(field, grid), grid)
    if left is None:
        assert told is None
    else:
        said = float(told.split("(")[1].split()[0])
        assert said == pytest.approx(left, abs=0.02 if left == 1 else 0.25)


@pytest.mark.parametrize(("right", "kept"), [(3.0, True), (0.0, False)])
def test_noise_of_single_voxels_hides_no_right_deformation(right, kept):
    shape = (66, 64, 62)
    rng = np.random.default_rng(0)
    structure = gaussian_filter(rng.standard_normal(shape), 2.0)
    structure /= structure.std()
    fixed, moving = (
        Scan.prepare(Image((scan + rng.normal(0, 0.8, shape)).astype(np.float32), Grid(shape, np.eye(4))), None)
        for scan in (structure, np.roll(structure, 3, axis=0))
    )
    field = np.zeros((3, *shape), np.float32)
    field[0] = right
    deformation = Displacement(field, fixed.grid)
    maps = Affine.identity(), Composite.of(deformation, Affine.identity())
    left, noise, _ = worth._left(fixed, moving, maps, fixed.grid)
    assert left > 1 - worth.LEAST_REMOVED, "single voxels see nothing"
    assert noise > worth.NOISY
    told = worth.nothing_left(fixed, moving, Affine.identity(), deformation, fixed.grid)
    assert (told is None) == kept


@pytest.mark.parametrize(
    ("right", "of_one_contrast", "kept"), [(4.0, True, False), (4.0, False, True), (0.0, False, False)]
)
def test_two_contrasts_need_not_agree_much_in_single_voxels(right, of_one_contrast, kept):
    """The smallest structures differ, as those of T1 and FLAIR do; larger ones correspond."""
    shape = (84, 80, 82)
    rng = np.random.default_rng(0)
    shared, *own = (gaussian_filter(rng.standard_normal(shape), sigma) for sigma in (1.6, 0.7, 0.7))
    shared, *own = (one / one.std() for one in (shared, *own))
    fixed, moving = (
        Scan.prepare(Image((one + 0.85 * alone).astype(np.float32), Grid(shape, np.eye(4))), None)
        for one, alone in ((shared, own[0]), (np.roll(shared, 4, axis=0), own[1]))
    )
    field = np.zeros((3, *shape), np.float32)
    field[0] = right
    deformation = Displacement(field, fixed.grid)
    told = worth.nothing_left(fixed, moving, Affine.identity(), deformation, fixed.grid, of_one_contrast)
    assert (told is None) == kept


def test_structures_without_noise_are_asked_in_single_voxels_alone(monkeypatch):
    asked = []
    left = worth._left
    monkeypatch.setattr(worth, "_left", lambda *args: asked.append(args[-1]) or left(*args))
    fixed = textured((60, 62, 61), (1.0, 1.0, 1.0))
    moving = Scan(1 - fixed.channels**2, fixed.weight, fixed.grid)
    still = Displacement(np.zeros((3, *fixed.grid.shape), np.float32), fixed.grid)
    assert worth.nothing_left(fixed, moving, Affine.identity(), still, fixed.grid) is not None
    assert asked == [fixed.grid]


def is_kept_where(monkeypatch, single, double):
    """Whether a deformation is kept that leaves so much open, noise and number of blocks as given, in both sizes."""
    fixed = textured((60, 62, 61), (1.0, 1.0, 1.0))
    still = Displacement(np.zeros((3, *fixed.grid.shape), np.float32), fixed.grid)
    found = {fixed.grid.shape: single, fixed.grid.pooled((2, 2, 2)).shape: double}
    monkeypatch.setattr(worth, "_left", lambda *args: found[args[-1].shape])
    return worth.nothing_left(fixed, fixed, Affine.identity(), still, fixed.grid) is None


@pytest.mark.parametrize(
    ("single", "noise", "double", "is_kept"),
    [
        (0.7, 0.2, 0.6, True),
        (0.7, 0.2, 1.1, False),
        (0.95, 0.2, 0.6, False),
        (0.95, 0.6, 0.7, True),
        (0.5, 0.6, 0.85, False),
    ],
)
def test_a_deformation_settles_differences_in_voxels_of_both_sizes(single, noise, double, is_kept, monkeypatch):
    """Slices resampled between each other are fitted in single voxels, and no better laid upon each other."""
    found = (single, noise, worth.FEWEST_BLOCKS), (double, noise, worth.FEWEST_BLOCKS)
    assert is_kept_where(monkeypatch, *found) == is_kept


@pytest.mark.parametrize(
    ("single", "double", "count", "is_kept"),
    [
        (1.0, 1.0, 570, False),
        (0.94, 1.0, 570, True),
        (1.0, 0.94, 570, True),
        (1.0, 1.0, 199, True),
        (0.94, 0.94, 700, False),
    ],
)
def test_few_blocks_of_noisy_scans_have_to_say_the_same_in_both_sizes(single, double, count, is_kept, monkeypatch):
    assert is_kept_where(monkeypatch, (single, 0.6, 5000), (double, 0.4, count)) == is_kept


def test_an_exact_map_of_a_small_noisy_body_is_not_deformed():
    pair = make_pair((64, 52, 56), seed=1, deformation_mm=0.0)
    result = anamorph.register(pair.fixed, pair.moving)
    body = pair.fixed.grid.voxel_to_world(np.argwhere(pair.fixed.data[0] > -300))
    apart = result.fixed_to_moving.map_world(body) - pair.true_fixed_to_moving.map_world(body)
    assert any(line.startswith("not deformed") for line in result.provenance["start"])
    assert np.linalg.norm(apart, axis=1).mean() < 0.1 * pair.fixed.grid.finest_mm


@pytest.mark.parametrize("sizes", [(3, 3, 3), (3, 3, 1), (3, 2, 3), (1, 1, 3)])
def test_noise_is_what_no_quadratic_surface_explains(sizes):
    rng = np.random.default_rng(0)
    position = np.indices(sizes).reshape(3, -1).T
    smooth = position @ rng.normal(size=(3, 500)) + (position @ rng.normal(size=(3, 500))) ** 2
    noise = rng.standard_normal(smooth.shape)
    np.testing.assert_allclose(worth.noise_share(smooth, sizes), 0, atol=1e-6)
    if len(position) > 3:
        assert worth.noise_share(noise, sizes).mean() == pytest.approx(1, abs=0.1)
        assert 0.05 < worth.noise_share(smooth + noise, sizes).mean() < 0.7


def test_few_blocks_say_nothing():
    fixed = textured((24, 25, 26), (1.0, 1.0, 1.0))
    still = Displacement(np.zeros((3, *fixed.grid.shape), np.float32), fixed.grid)
    assert worth.FEWEST_BLOCKS > (24 // 3) * (25 // 3) * (26 // 3)
    assert worth.nothing_left(fixed, fixed, Affine.identity(), still, fixed.grid) is None


def test_what_is_left_open_is_the_rest_of_a_squared_correlation():
    one, other = np.random.default_rng(0).random((2, 27, 50))
    left = worth.left_open(one, other)
    np.testing.assert_allclose(left, [1 - np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(one.T, other.T, strict=True)])
    np.testing.assert_allclose(worth.left_open(one, 5 - 3 * one), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "explained", "is_guess"),
    [
        ("world", 0.1, False),
        ("centres", 0.1, False),
        ("translation", 0.1, True),
        ("pose", 0.1, True),
        ("pose", 0.6, False),
    ],
)
def test_what_was_searched_for_and_explains_little_is_a_guess(name, explained, is_guess):
    scan = textured((20, 20, 20), (1, 1, 1))
    pair = ScanPair(scan, scan, "none", DescriptorSettings(1, 1, 0.0))
    judge = Judge.of(pair, pair.fixed_on(scan.grid), pair.moving_on(scan.grid))
    matched = dataclasses.replace(Matched.of(judge, Affine.identity()), explained=explained)
    contest, rules = Contest(Hypothesis(name, explained, matched)), Rules(0.05, True, True, WEAK_UNLIKE)
    assert search._told(pair, contest, rules, []).is_guess == is_guess


def empty(grid):
    return Scan(np.zeros((1, *grid.shape), np.float32), np.ones(grid.shape, np.float32), grid)


@pytest.mark.parametrize("turn_deg", [0, 25])
def test_voxels_finer_than_the_slices_of_a_scan_are_not_asked(turn_deg, monkeypatch):
    fine, thick = (Grid((16, 16, n), np.diag([2.0, 2.0, s, 1.0])) for n, s in ((16, 2.0), (4, 8.0)))
    turned = Affine.about(Rotation.from_euler("x", turn_deg, degrees=True).as_matrix(), fine.centre_mm)
    monkeypatch.setattr(worth, "_left", lambda *given: (1.05 if given[-1] == fine else 0.8, 0.2, FEWEST_BLOCKS))
    still = Displacement(np.zeros((3, *fine.shape), np.float32), fine)
    assert nothing_left(empty(fine), empty(thick), turned, still, fine) is None
    assert nothing_left(empty(thick), empty(fine), turned, still, fine) is None
    assert nothing_left(empty(fine), empty(fine), turned, still, fine) == NOTHING_LEFT.format(left=1.05)
