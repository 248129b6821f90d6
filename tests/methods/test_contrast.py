"""Scans of two contrasts: what one shows where the other has a given intensity, and the start that this leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anamorph.features.intensity import CT_CEILING_HU
from anamorph.features.mind_ssc import ENTRIES, describe
from anamorph.image import Image
from anamorph.image.background import CT_AIR_HU, looks_like_ct
from anamorph.image.read import read_image
from anamorph.methods.base import Pair, Run
from anamorph.methods.convex import Convex
from anamorph.methods.discrete_search import SearchConfig
from anamorph.methods.linear_start import OF_TWO_CONTRASTS, STRUCTURE_SHOWS, Search, compared_at, linear_start
from anamorph.methods.start.contrast import (
    OTHER_CONTRAST,
    Comparison,
    common_values,
    correlation,
    curve_between,
    line_where_apart,
    quantiles_of_ct,
    relation,
)
from anamorph.methods.start.search import Start
from anamorph.methods.working_frame import Scan
from anamorph.phantom import make_pair
from anamorph.transforms import Affine

WORLD = Affine.identity()


def level_of(image):
    values = image.data.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    return np.clip((values - low) / (high - low), 0, 1)


@pytest.fixture(scope="module")
def rigid_pair():
    """Two scans that are no CT."""
    made = make_pair((40, 34, 36), seed=2, deformation_mm=0.0, rotation_deg=8, scale=0, translation_mm=20)
    fixed, moving = (image.with_data(1000 * level_of(image)) for image in (made.fixed, made.moving))
    return replace(made, fixed=fixed, moving=moving)


def recoloured(image):
    """The scan with values that rise, fall and rise again."""
    return image.with_data(1000 * np.interp(level_of(image), [0, 0.4, 0.7, 1], [0.1, 1, 0.3, 0.8]).astype(np.float32))


def prepared(*images):
    return tuple(Scan.prepare(image, None) for image in images)


def test_a_curve_makes_two_contrasts_of_one_scan_the_same(rigid_pair):
    fixed, moving = prepared(rigid_pair.fixed, recoloured(rigid_pair.fixed))
    before = correlation(*common_values(fixed, moving, WORLD))
    found = relation(fixed, moving, WORLD, "scaled")
    curve = found.curve
    assert curve is not None
    assert (found.kind, found.counts) == ("scaled", OTHER_CONTRAST)
    assert curve.of_fixed, "of several intensities that look alike in the other contrast no curve makes the first ones"
    assert curve.share > 0.95 > 0.8 > before
    assert correlation(*common_values(*curve.applied(fixed, moving), WORLD)) > 0.97


def test_one_contrast_needs_no_curve(rigid_pair):
    fixed, moving = prepared(rigid_pair.fixed, rigid_pair.moving)
    assert relation(fixed, moving, rigid_pair.true_fixed_to_moving, "scaled") == Comparison("scaled")
    assert relation(fixed, fixed, WORLD, "ct") == Comparison("ct")


@pytest.mark.parametrize(("noise", "counts"), [(0.2, OTHER_CONTRAST), (0.4, 1.0)])
def test_two_contrasts_of_which_no_curve_is_clear_count_less(rigid_pair, noise, counts):
    other = recoloured(rigid_pair.fixed)
    hidden = np.random.default_rng(0).normal(0, 1000 * noise, other.data.shape).astype(np.float32)
    scans = prepared(rigid_pair.fixed, other.with_data(other.data + hidden))
    assert relation(*scans, WORLD, "scaled") == Comparison("scaled", counts)
    start = Search("rigid", 3.0, any_pose=False)._by_a_curve(*scans, Start(WORLD, 0.8), "scaled")
    assert start.comparison == Comparison("scaled", counts)
    assert (OF_TWO_CONTRASTS in start.steps) == (counts < 1)


def test_the_deformation_takes_intensities_of_two_contrasts_for_less(rigid_pair):
    method = Convex(SearchConfig(intensity_weight=8.0))
    for moving, weight in ((rigid_pair.moving, 8.0), (recoloured(rigid_pair.moving), 8.0 * OTHER_CONTRAST)):
        for start in (None, rigid_pair.true_fixed_to_moving):
            pair = Pair(rigid_pair.fixed, moving, start=start)
            started = method._start(pair, prepared(pair.fixed, pair.moving), Run())
            assert started.config.intensity_weight == weight


def test_structure_is_that_of_the_scans_as_they_are_and_intensities_go_by_the_curve(rigid_pair):
    pair = Pair(rigid_pair.fixed, recoloured(rigid_pair.moving), start=rigid_pair.true_fixed_to_moving)
    started = Convex(SearchConfig(intensity_weight=8.0))._start(pair, prepared(pair.fixed, pair.moving), Run())
    assert started.comparison.curve.of_fixed
    as_is = started.fixed.onto(started.pyramid.working)
    settings, pool = started.config.descriptor(), started.pyramid.pool
    structure, changed = (
        describe(one.channels, settings, "scaled", pool) for one in (as_is, started.comparison.curve.of(as_is))
    )
    assert np.abs(structure - changed)[..., :ENTRIES].max() > 0.1
    found = started.described.fixed
    np.testing.assert_allclose(found[..., :ENTRIES], structure[..., :ENTRIES], atol=1e-6)
    np.testing.assert_allclose(found[..., ENTRIES:], changed[..., ENTRIES:], atol=1e-6)


@pytest.mark.parametrize("init", ["world", "centres"])
def test_a_start_that_was_asked_for_sees_two_contrasts(rigid_pair, init):
    scans = prepared(rigid_pair.fixed, recoloured(rigid_pair.fixed))
    there = linear_start(*scans, init).comparison
    assert there.counts == OTHER_CONTRAST
    assert there.curve is not None
    assert linear_start(scans[0], scans[0], init).comparison == Comparison("scaled")


def test_scans_of_nothing_in_common_have_no_curve(rigid_pair):
    rng = np.random.default_rng(0)
    noise = rigid_pair.fixed.with_data(rng.normal(100, 10, rigid_pair.fixed.data.shape).astype(np.float32))
    fixed, other = prepared(rigid_pair.fixed, noise)
    assert curve_between(fixed, other, WORLD).share < 0.1
    assert relation(fixed, other, WORLD, "none") == Comparison("none")


def test_the_start_of_two_contrasts_is_that_of_one_and_gives_the_curve(rigid_pair):
    fixed, moving = prepared(rigid_pair.fixed, rigid_pair.moving.with_data(1000 - rigid_pair.moving.data))
    start = linear_start(fixed, moving, "rigid")
    points = rigid_pair.fixed_points.positions_mm
    apart = start.transform.map_world(points) - rigid_pair.true_fixed_to_moving.map_world(points)
    assert np.linalg.norm(apart, axis=1).mean() < 0.1 * rigid_pair.fixed.grid.voxel_mm
    assert (start.comparison.kind, start.comparison.counts) == ("scaled", OTHER_CONTRAST)
    assert start.comparison.curve is not None
    back = linear_start(moving, fixed, "rigid")
    assert back.comparison.curve.of_fixed != start.comparison.curve.of_fixed
    np.testing.assert_allclose(back.transform.matrix, start.transform.inverse().matrix, atol=1e-6)


def test_a_part_of_a_scan_gets_the_brightness_of_the_whole(rigid_pair):
    image = rigid_pair.fixed
    rows, columns = (slice(0, n) for n in image.grid.shape[1:])
    part = image.cropped((slice(0, 18), rows, columns))
    part = part.with_data(300 + 2 * part.data)
    whole, other = prepared(image, part)
    curve = line_where_apart(other, whole, WORLD)
    assert not curve.of_fixed
    here, there = common_values(*curve.applied(other, whole), WORLD)
    assert np.abs(here - there).max() < 0.02 < np.abs(np.subtract(*common_values(other, whole, WORLD))).max()
    assert line_where_apart(whole, whole, WORLD) is None
    most = Scan.prepare(image.cropped((slice(0, 36), rows, columns)), None)
    assert line_where_apart(most, whole, WORLD) is None


def test_a_part_of_a_body_on_an_empty_ground_gets_the_brightness_of_the_whole(rigid_pair):
    image = rigid_pair.fixed
    ball = np.linalg.norm(np.stack(np.indices(image.grid.shape)).T / np.array(image.grid.shape) - 0.5, axis=-1).T < 0.4
    ball[0, 0, 0] = ball[-1, -1, -1] = True  # else the ground around would be padding
    image = image.with_data(np.where(ball, image.data - image.data.min() + 50, 0).astype(np.float32))
    size = np.array(image.grid.shape)
    closer = image.cropped(tuple(slice(n // 10, n - n // 10) for n in size))
    half = image.cropped((slice(0, size[0] // 2), *(slice(0, n) for n in size[1:])))
    whole, tight, part = prepared(image, closer, half.with_data(2 * half.data))
    assert whole.is_masked
    assert part.is_masked
    # Half of the field of view, but all of the body.
    assert np.prod(tight.grid.shape) < 0.75 * np.prod(whole.grid.shape)
    assert line_where_apart(whole, tight, WORLD) is None
    curve = line_where_apart(whole, part, WORLD)
    here, there = common_values(*curve.applied(whole, part), WORLD)
    assert np.abs(here - there).max() < 0.03
    # A start that is given is compared like one that is found.
    np.testing.assert_array_equal(compared_at(whole, part, WORLD).curve.values, curve.values)


def ct_of(image):
    """Air below 0, tissue, and a little bone."""
    return image.with_data(
        np.interp(level_of(image), [0, 0.2, 0.3, 0.9, 1], [-1000, -900, 0, 80, 700]).astype(np.float32)
    )


def test_quantiles_give_a_scan_the_units_of_a_ct(rigid_pair):
    ct = ct_of(rigid_pair.fixed)
    assert looks_like_ct(ct)
    for reverse in (False, True):
        sign = -1 if reverse else 1
        without_units = ct.with_data(500 + sign * 0.4 * ct.data)
        assert not looks_like_ct(without_units)
        fixed, moving = prepared(ct, without_units)
        curve = quantiles_of_ct(fixed, moving, reverse)
        one, other = curve.applied(fixed, moving)
        assert one is fixed
        assert np.abs(other.channels - np.clip(ct.data, CT_AIR_HU, CT_CEILING_HU)).mean() < 25
        assert quantiles_of_ct(moving, fixed, reverse).of_fixed
    assert quantiles_of_ct(fixed, fixed, False) is None


def test_no_units_are_looked_for_where_structure_shows_nothing_or_headers_are_kept(rigid_pair):
    ct = ct_of(rigid_pair.fixed)
    fixed, moving = prepared(ct, ct.with_data(500 - 0.4 * ct.data))
    search = Search("rigid", 3.0, any_pose=False)
    for explained, keeps_world, is_kept in (
        (STRUCTURE_SHOWS / 2, False, True),
        (2 * STRUCTURE_SHOWS, True, True),
        (2 * STRUCTURE_SHOWS, False, False),
    ):
        by_structure = Start(WORLD, explained, keeps_world=keeps_world)
        assert (search._by_quantiles(fixed, moving, by_structure) is by_structure) == is_kept


def test_ct_and_mr_of_one_patient_stay_where_their_headers_put_them(shared_data: Path):
    ct, mr = (read_image(shared_data / "ct_mr" / f"STS_002_{name}_image.nii.gz") for name in ("CT", "MR_T1"))
    start = linear_start(*prepared(ct, mr), "auto")
    assert start.comparison.kind == "none"
    np.testing.assert_allclose(start.transform.matrix, np.eye(4), atol=1e-6)


def test_a_ct_with_its_values_reversed_is_none():
    rng = np.random.default_rng(1)
    values = rng.choice([-1000.0, 0.0, 40.0, 900.0], (1, 30, 30, 30), p=[0.4, 0.3, 0.298, 0.002]).astype(np.float32)
    grid = make_pair((30, 30, 30), seed=0).fixed.grid
    assert looks_like_ct(Image(values, grid))
    assert not looks_like_ct(Image(-values, grid))
