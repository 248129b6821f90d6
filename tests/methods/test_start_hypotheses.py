"""The parts of the start: shares under all shifts, rotations that cover, whom to trust, and margins of padding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.background import content_box
from anamorph.methods.start.hypotheses import (
    CENTRES_MARGIN,
    GUESS_MARGIN,
    LOST_HEADER,
    TURN_MARGIN,
    WORLD_MARGIN,
    WRONG_PLACE,
    Hypothesis,
    Rules,
)
from anamorph.methods.start.matching import gauss_newton
from anamorph.methods.start.remarks import Contest
from anamorph.methods.start.rotations import DARK, PoseSearch, body_mm3, covering_rotations
from anamorph.methods.start.translations import Correlator, Translations
from anamorph.methods.start.volumes import Judge, ScanPair, Volume, chance_mismatch, evidence_beyond_chance
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Affine
from arrays import smooth_descriptor


def ones(array):
    return np.ones(array.shape[:3], np.float32)


def volume(descriptor, weight=None):
    weight = ones(descriptor) if weight is None else weight
    return Volume(descriptor, weight, weight, Grid(descriptor.shape[:3], np.eye(4)))


def pair_of(shape):
    scan = Scan(np.zeros((1, *shape), np.float32), np.ones(shape, np.float32), Grid(shape, np.eye(4)))
    return ScanPair(scan, scan, "none", DescriptorSettings(1, 1, 0.0))


def test_the_shares_are_those_of_trying_every_shift():
    rng = np.random.default_rng(0)
    fixed, moving = (volume(rng.random((*shape, 3)), rng.random(shape)) for shape in ((5, 4, 2), (4, 6, 2)))
    correlator = Correlator(pair_of((5, 4, 9)), fixed, moving, (4, 6, 2))
    overlap, mismatch, bodies = correlator.shares(np.moveaxis(moving.descriptor, -1, 0), moving.weight, moving.body)
    for di, dj, dk in ((0, 0, 0), (1, -2, 0), (-3, 4, 1), (2, 1, -1)):
        expected = shared = body = 0.0
        for i, j, k in np.ndindex(5, 4, 2):
            there = i + di, j + dj, k + dk
            if 0 <= there[0] < 4 and 0 <= there[1] < 6 and 0 <= there[2] < 2:
                both = np.sqrt(fixed.weight[i, j, k] * moving.weight[there])
                shared += both
                body += fixed.body[i, j, k] * moving.body[there]
                expected += both * ((fixed.descriptor[i, j, k] - moving.descriptor[there]) ** 2).sum()
        assert overlap[di, dj, dk] == pytest.approx(shared, abs=1e-4)
        assert mismatch[di, dj, dk] == pytest.approx(expected, abs=1e-4)
        assert bodies[di, dj, dk] == pytest.approx(body / min(fixed.body.sum(), moving.body.sum()), abs=1e-5)


@pytest.mark.parametrize("shift", [(9, 4, -7), (-12, 0, 3)])
def test_two_cuts_of_one_scene_are_brought_together(shift):
    scene = smooth_descriptor((40, 36, 34), sigma=0.8)
    start = np.array([14, 8, 9])
    fixed = scene[14:32, 8:26, 9:25]
    low = start - np.array(shift)
    low_cut, high_cut = np.maximum(low, 0), np.minimum(low + np.array([20, 17, 19]), scene.shape[:3])
    moving = scene[tuple(slice(a, b) for a, b in zip(low_cut, high_cut, strict=True))]
    found = Translations.of(pair_of(fixed.shape[:3]), volume(fixed), volume(moving))
    explained, transform = found.best(1, 4)[0]
    np.testing.assert_allclose(transform.matrix[:3, 3], start - low_cut)
    assert explained > 0.4
    assert found.near(transform) == pytest.approx(explained)
    assert found.near(Affine.translation([1000.0, 0, 0])) < -1


def test_chance_is_what_voxels_drawn_at_random_cost():
    fixed, moving = volume(smooth_descriptor((9, 8, 7))), volume(smooth_descriptor((8, 8, 8), seed=1) + 0.5)
    one, other = fixed.descriptor.reshape(-1, 16), moving.descriptor.reshape(-1, 16)
    drawn = ((one[:, None] - other[None]) ** 2).sum(axis=-1).mean()
    assert chance_mismatch(fixed, moving) == pytest.approx(drawn, rel=1e-4)


def test_evidence_is_none_at_chance_and_all_for_equal_scans():
    assert evidence_beyond_chance(1.0, 0.0) == 1
    assert evidence_beyond_chance(0.4, 0.4) == 0
    # A half that fits perfectly says more than a whole that fits half.
    assert evidence_beyond_chance(0.5, 0.0) > evidence_beyond_chance(1.0, 0.5)


def test_rotations_cover_all_poses():
    rotations = Rotation.from_matrix(covering_rotations(45.0))
    assert len(rotations) < 180
    np.testing.assert_array_equal(rotations[0].as_matrix(), np.eye(3))
    anywhere = Rotation.random(200, random_state=1)
    nearest = [np.rad2deg((one.inv() * rotations).magnitude().min()) for one in anywhere]
    assert max(nearest) < 45


@dataclass(frozen=True)
class _Explains:
    explained: float
    overlap: float = 1.0
    transform: Affine = field(default_factory=Affine.identity)


@pytest.mark.parametrize(
    ("world", "centres", "translation", "pose", "known", "expected"),
    [
        (0.30, 0.35, 0.44, 0.35, True, "world"),
        (0.30, 0.35, 0.46, 0.35, True, "translation"),
        (0.30, 0.35, 0.36, 0.35, False, "centres"),
        (0.30, 0.35, 0.37, 0.35, False, "translation"),
        (0.30, 0.30, 0.30, 0.46, True, "pose"),
        (0.30, 0.30, 0.30, 0.34, False, "pose"),
        (0.30, 0.30, 0.30, 0.325, False, "world"),
        (0.73, 0.70, 0.70, 0.88, True, "pose"),
        (0.30, 0.30, 0.46, 0.50, True, "translation"),
        (0.30, 0.30, 0.46, 0.52, True, "pose"),
        (0.80, 0.70, 0.87, 0.70, True, "world"),
        (0.80, 0.70, 0.89, 0.70, True, "translation"),
    ],
)
def test_an_earlier_hypothesis_has_the_benefit_of_the_doubt(world, centres, translation, pose, known, expected):
    spread = 0.05
    assert (WORLD_MARGIN, CENTRES_MARGIN, TURN_MARGIN, WRONG_PLACE, LOST_HEADER) == (3.0, 0.3, 0.1, 0.5, 0.3)
    values = {"pose": pose, "translation": translation, "centres": centres, "world": world}
    tried = [Hypothesis(name, 0.0, _Explains(value)) for name, value in values.items()]
    assert Rules(spread, known, True, 0.0).choose(tried).name == expected


@pytest.mark.parametrize(
    ("pose", "outlines", "expected"), [(0.83, False, "world"), (0.83, True, "pose"), (0.8, True, "world")]
)
def test_whole_bodies_are_turned_though_translations_vary(pose, outlines, expected):
    tried = [Hypothesis("world", 0.5, _Explains(0.72)), Hypothesis("pose", 0.5, _Explains(pose))]
    assert Rules(0.09, True, True, 0.35, outlines).choose(tried).name == expected


@pytest.mark.parametrize(
    ("half_turn", "pose", "expected"),
    [(0.42, 0.40, "translation"), (0.44, 0.46, "half turn"), (0.44, 0.48, "pose"), (0.40, 0.44, "pose")],
)
def test_where_a_header_has_lost_its_directions_half_a_turn_is_likelier_than_another(half_turn, pose, expected):
    values = {"translation": 0.40, "half turn": half_turn, "pose": pose}
    tried = [Hypothesis(name, 0.0, _Explains(value)) for name, value in values.items()]
    assert Rules(0.05, False, False, 0.35).choose(tried).name == expected


@pytest.mark.parametrize(
    ("centres_before", "centres", "translation", "world_is_tried", "expected"),
    [
        (0.02, 0.12, 0.20, True, "world"),
        (0.04, 0.12, 0.20, True, "centres"),
        (0.04, 0.06, 0.20, True, "centres"),
        (0.04, 0.04, 0.20, True, "world"),
        (0.06, 0.12, 0.28, True, "translation"),
        (0.06, 0.12, 0.20, False, "translation"),
    ],
)
def test_weak_evidence_is_compared_before_anything_is_searched_for(
    centres_before, centres, translation, world_is_tried, expected
):
    assert GUESS_MARGIN == 1.0
    tried = [
        Hypothesis("world", 0.03, _Explains(0.10)),
        Hypothesis("centres", centres_before, _Explains(centres)),
        Hypothesis("translation", translation, _Explains(translation)),
    ]
    assert Rules(0.05, True, world_is_tried, 0.35).choose(tried).name == expected


def away(name, explained, shift_mm, before=0.0):
    there = _Explains(explained, 0.8, Affine.translation(np.array([shift_mm, 0.0, 0.0])))
    return Hypothesis(name, before, there)


def test_what_came_second_is_told_by_how_much_and_why_it_is_not_believed():
    grid, rules = Grid((20, 20, 20), np.eye(4)), Rules(0.05, True, True, 0.35)
    world = away("world", 0.10, 0.0, before=0.06)
    contest = Contest.of(world, [world, away("translation", 0.14, 1.0), away("translation", 0.19, 9.0)], grid)
    # Three standard deviations of chance.
    assert contest.lines(rules) == [
        "second: best of all translations, 9 mm away, 80 % has a partner: explains 0.09 more; "
        "the benefit of the doubt goes to the world coordinates of the files up to 0.15 more"
    ]
    assert contest.warnings()[0].startswith(
        "a start that was not taken explains 0.09 more of the scans: best of all translations, 9 mm away"
    )
    middles = away("centres", 0.12, 9.0, before=0.02)
    assert (
        Contest.of(world, [world, middles], grid)
        .lines(rules)[0]
        .endswith("more; where so little is explained, what was explained before matching decides: 0.06 against 0.02")
    )
    clear = away("translation", 0.60, 0.0)
    contest = Contest.of(clear, [clear, away("world", 0.30, 9.0)], grid)
    assert contest.lines(rules)[0].endswith(
        "world coordinates of the files, 9 mm away, 80 % has a partner: explains 0.30 less"
    )
    assert contest.warnings() == []
    assert Contest.of(world, [world, away("centres", 0.9, 1.0)], grid).second is None


def test_the_first_two_are_compared_where_both_were_judged_alike():
    grid, rules = Grid((20, 20, 20), np.eye(4)), Rules(0.05, True, True, 0.35)
    world, other = away("world", 0.60, 0.0), away("translation", 0.50, 9.0)
    contest = Contest.of(world, [world, other], grid)
    assert contest.rivals() == [world]
    made_exact = away("world", 0.45, 0.0)  # on a finer grid, where the other was not judged
    later = contest.after(made_exact, [made_exact], grid)
    assert later.winner is made_exact
    assert later.lines(rules)[0].endswith("explains 0.10 less")
    assert later.warnings() == []
    # What came to the place of the winner is no second any more.
    assert contest.after(made_exact, [made_exact, away("translation", 0.45, 1.0)], grid).second is None
    close = away("translation", 0.44, 9.0)
    assert "equally well and lie far apart (9 mm)" in contest.after(made_exact, [made_exact, close], grid).warnings()[0]


@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_a_gauss_newton_step_finds_a_small_map(model):
    shape = (24, 22, 20)
    scan = smooth_descriptor((*shape,), sigma=2.5)
    channel = np.moveaxis(scan, -1, 0)
    grid = Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    image = Scan(np.ascontiguousarray(channel[:1]), np.ones(shape, np.float32), grid)
    pair = ScanPair(image, image, "none", DescriptorSettings(1, 1, 0.0))
    fixed = volume(scan)
    truth = np.eye(4)
    truth[:3, 3] = 0.6, -0.5, 0.4
    if model != "translation":
        truth[:3, :3] = Rotation.from_rotvec([0.02, -0.015, 0.01]).as_matrix()
    sizes = {"similarity": [1.02, 1.02, 1.02], "affine": [1.02, 0.98, 1.01]}
    truth[:3, :3] = truth[:3, :3] @ np.diag(sizes.get(model, [1, 1, 1]))
    about = Affine.translation(grid.centre_mm).matrix @ truth @ Affine.translation(-grid.centre_mm).matrix
    sampled = Scan(channel, np.ones(shape, np.float32), grid).onto(grid, Affine(about))
    fixed = Volume(np.moveaxis(sampled.channels, 0, -1).copy(), sampled.weight, sampled.weight, grid)
    moved = Volume(scan, ones(scan), ones(scan), grid)
    step = gauss_newton(Judge(pair, fixed, chance_mismatch(fixed, moved), 1.0), moved, model)
    corners = grid.corners_mm()
    before = np.linalg.norm(Affine(about).map_world(corners) - corners, axis=1).mean()
    after = np.linalg.norm(Affine(about).map_world(corners) - Affine(step).map_world(corners), axis=1).mean()
    assert after < 0.25 * before
    if model == "translation":
        np.testing.assert_array_equal(step[:3, :3], np.eye(3))


def test_padding_is_recognised_and_an_outline_is_kept():
    rng = np.random.default_rng(0)
    grid = Grid((40, 30, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    padded = np.full(grid.shape, -1000.0, np.float32)
    padded[8:33, 3:30, :15] = rng.normal(50, 20, (25, 27, 15))
    assert content_box(Image(padded, grid)) == (slice(8, 33), slice(3, 30), slice(0, 15))
    # Water between air and bone is padding too where it fills a plane, and a value like any other where it does not.
    padded[padded == -1000] = 0
    padded[20, 15, 7], padded[21, 15, 7] = -1000, 1000
    assert content_box(Image(padded, grid)) == (slice(8, 33), slice(3, 30), slice(0, 15))
    scattered = np.rint(rng.normal(0, 3, grid.shape)).astype(np.float32)
    scattered[0, 0, 0] = scattered[-1, -1, -1] = 0
    assert content_box(Image(scattered, grid)) is None
    # A ball in air: the first planes hold little, so that 20 mm of air stay around it.
    centre = np.linalg.norm(np.indices(grid.shape).T - (20, 15, 10), axis=-1).T
    ball = np.where(centre < 4, rng.normal(50, 5, grid.shape), 0.0).astype(np.float32)
    assert content_box(Image(ball, grid)) == (slice(7, 34), slice(2, 29), slice(0, 20))
    assert content_box(Image(rng.normal(size=grid.shape).astype(np.float32), grid)) is None
    assert content_box(Image(np.zeros(grid.shape, np.float32), grid)) is None


def lopsided(turn_deg: float) -> Scan:
    """A body of unequal axes on a ground of zeros, turned about the third axis."""
    shape = (40, 44, 36)
    x, y, z = (axis - (n - 1) / 2 for axis, n in zip(np.indices(shape), shape, strict=True))
    angle = np.deg2rad(turn_deg)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inside = (x / 15) ** 2 + (y / 9) ** 2 + (z / 12) ** 2 < 1
    level = np.where(inside, 0.6 + x / 60 + y / 40, 0).astype(np.float32)
    return Scan(level[None], np.ones(shape, np.float32), Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0])))


def test_a_turn_near_the_headers_is_tried_though_no_turn_of_the_covering_is_better():
    pair = ScanPair(lopsided(0), lopsided(30), "scaled", DescriptorSettings(1, 1, 3.0))
    near = [pose for pose in PoseSearch(pair, "rigid", 12).better() if not pose.is_turned]
    angles = [np.rad2deg(np.arccos((np.trace(pose.transform.matrix[:3, :3]) - 1) / 2)) for pose in near]
    assert angles == pytest.approx([30], abs=1)
    assert not [p for p in PoseSearch(replace(pair, moving=pair.fixed), "rigid", 12).better() if not p.is_turned]


def test_the_volume_of_a_body_is_that_of_what_is_brighter_than_its_ground():
    scan = lopsided(0)
    assert body_mm3(scan) == pytest.approx(4 / 3 * np.pi * 15 * 9 * 12 * 8, rel=0.01)
    assert body_mm3(replace(scan, channels=scan.channels + DARK)) == body_mm3(scan)
    assert body_mm3(replace(scan, weight=scan.weight / 2)) == pytest.approx(body_mm3(scan) / 2)
