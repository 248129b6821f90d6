"""Landmarks, outlines and labels that pull, through whole registrations."""

from __future__ import annotations

import json

import numpy as np
import pytest

import anamorph
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.image.outlines import Outline
from anamorph.methods.affine import NOT_REFINED
from anamorph.methods.guided_start import PULLING_LABELS
from anamorph.methods.linear_start import BY_MARKS, FAR_FROM_MARKS
from anamorph.phantom.pair import PhantomPair, make_pair
from anamorph.registration.request import Request
from anamorph.registration.run import run_to_folder
from anamorph.transforms import Affine
from tiny_models import save_tiny

NO_SAY = "no field was refined, so what was given to pull had no say"
AWAY = np.array([7.0, -5.0, 6.0])
"""Where landmarks pull to, off the truth: only they can say so."""


@pytest.fixture(scope="module")
def phantom() -> PhantomPair:
    return make_pair((56, 48, 52), seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)


def places_of(phantom: PhantomPair, count: int = 6) -> np.ndarray:
    """Places in labels of the fixed scan, far apart."""
    inside = phantom.fixed.grid.voxel_to_world(np.argwhere(phantom.fixed_labels.data[0] > 0))
    chosen = [0]
    for _ in range(count - 1):
        apart = np.linalg.norm(inside[:, None] - inside[chosen], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    return inside[chosen]


def left_mm(result, fixed: np.ndarray, moving: np.ndarray) -> float:
    return float(np.linalg.norm(result.fixed_to_moving.map_world(fixed) - moving, axis=1).mean())


def registered(phantom: PhantomPair, exchanged: bool = False, **given):
    scans = phantom.fixed, phantom.moving
    return anamorph.register(*(scans[::-1] if exchanged else scans), threads=1, **given)


@pytest.mark.parametrize("method", ["convex", "deeds", "symmetric"])
def test_landmarks_pull_by_how_exactly_they_are_known(phantom, tmp_path, method):
    settings = {"model": save_tiny(tmp_path / "tiny", bend=0.02)} if method == "symmetric" else {}
    here = places_of(phantom)
    there = phantom.true_fixed_to_moving.map_world(here) + AWAY
    free = registered(phantom, method=method, settings=settings)
    left = [left_mm(free, here, there)]
    for sigma_mm in (20.0, 1.0):
        pulled = registered(
            phantom, method=method, settings=settings, fixed_points=here, moving_points=there, use_points=sigma_mm
        )
        assert pulled.metrics.after.mean("folding_percent") == 0
        assert pulled.metrics.after.mean("inverse_consistency_mm_mean") < 0.5
        left.append(left_mm(pulled, here, there))
    assert left[0] > 7
    assert left[2] < 1.2 < left[1] < left[0]


def test_exchanging_the_scans_inverts_the_map(phantom):
    here = places_of(phantom)
    there = phantom.true_fixed_to_moving.map_world(here) + AWAY
    one = registered(phantom, fixed_points=here, moving_points=there, use_points=2.0)
    other = registered(phantom, True, fixed_points=there, moving_points=here, use_points=2.0)
    at = places_of(phantom, 30)
    apart = one.fixed_to_moving.map_world(at) - other.moving_to_fixed.map_world(at)
    assert np.abs(apart).max() < 0.01


def test_a_point_may_say_for_itself_how_exactly_it_is_known(phantom):
    here = places_of(phantom)
    there = phantom.true_fixed_to_moving.map_world(here) + AWAY
    sigma_mm = np.array([0.5, 50.0] * 3)
    pulled = registered(
        phantom, fixed_points=anamorph.Points(here, sigma_mm=sigma_mm), moving_points=there, use_points=1.0
    )
    apart = np.linalg.norm(pulled.fixed_to_moving.map_world(here) - there, axis=1)
    assert apart[::2].max() < 1.5
    assert apart[1::2].min() > 1.5


def test_a_wrong_pair_is_named_and_does_no_harm(phantom):
    here = places_of(phantom, 12)
    there = phantom.true_fixed_to_moving.map_world(here)
    there[[2, 8]] = there[[8, 2]]
    result = registered(phantom, fixed_points=here, moving_points=there, use_points=1.0)
    assert sorted(line.split()[1] for line in result.warnings if "all others place it" in line) == ["3", "9"]
    true = phantom.true_fixed_to_moving.map_world(here)
    assert np.linalg.norm(result.fixed_to_moving.map_world(here) - true, axis=1).mean() < 3


def test_what_pulls_measures_nothing(phantom, tmp_path):
    here = places_of(phantom)
    given = {
        "fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels, "fixed_points": here,
        "moving_points": phantom.true_fixed_to_moving.map_world(here), "use_points": 1.0, "use_labels": [1, 2],
    }  # fmt: skip
    result, saved = run_to_folder(Request(phantom.fixed, phantom.moving, **given), tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "result.json").read_text())["metrics"]
    assert {"1", "2"}.isdisjoint(numbers["after"]["dice"])
    assert numbers["used"]["after"]["dice"].keys() == {"1", "2"}
    assert "mean_tre_mm" not in numbers["after"] or numbers["after"]["mean_tre_mm"] is None
    assert numbers["used"]["after"]["mean_tre_mm"] < 1
    assert "landmark" not in result.verdict.headline
    assert "Dice, mean (used)" in (tmp_path / "out" / "report.html").read_text()
    everything = registered(phantom, **given | {"use_labels": "all"})
    assert everything.verdict.accuracy.measured is False
    assert "keep some back" in everything.verdict.headline
    assert everything.verdict.to_dict()["accuracy"].keys() == {"measured", "status", "summary"}
    assert saved.record["metrics"]["before"].keys() >= {"dice"}


def test_the_result_says_what_pulled(phantom):
    here = places_of(phantom, 4)
    given = {"fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels, "use_labels": "2=5"}
    pulls = given | {
        "fixed_points": here,
        "moving_points": here,
        "use_points": 1.0,
        "keep_volume": phantom.fixed_labels,
    }
    told, other = (
        registered(phantom, **pulls | {"moving_points": here + shift}).provenance["given"] for shift in (0.0, 1.0)
    )
    assert (told["labels"]["values"], told["labels"]["weight"]) == ([2], 5.0)
    assert told["marks"]["landmarks"] == 4
    assert told["marks"]["sha256"] != other["marks"]["sha256"]
    assert told["fixed_tissue"] == other["fixed_tissue"]
    assert told["fixed_tissue"]["keep_volume"][0]["weight"] == "exact"
    assert "given" not in registered(phantom).provenance


def test_labels_pull_and_others_are_not_worse(phantom):
    labels = {"fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels}
    free = registered(phantom, **labels).metrics.after.labels("dice")
    for method in ("convex", "deeds"):
        result = registered(phantom, method=method, **labels, use_labels="1,2=20")
        used, others = result.metrics.used.after.labels("dice"), result.metrics.after.labels("dice")
        assert min(used[n] - free[n] for n in (1, 2)) > 0.005
        assert np.mean([others[n] - free[n] for n in others]) > -0.02


def unlike(phantom: PhantomPair) -> tuple[Image, Image]:
    """The scans with noise in place of one of them: nothing but what is given tells where they belong together."""
    noise = np.random.default_rng(0).normal(size=phantom.moving.grid.shape).astype(np.float32)
    return phantom.fixed, Image(noise, phantom.moving.grid)


@pytest.mark.parametrize("by", ["labels", "outlines", "landmarks"])
def test_between_scans_that_tell_nothing_what_is_given_leads_alone(phantom, by):
    labels = {"fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels}
    here = places_of(phantom, 10)
    there = phantom.true_fixed_to_moving.map_world(here)
    given: dict = {"use_points": 1.0}
    if by == "labels":
        given = labels | {"use_labels": "all"}
    elif by == "outlines":
        for side, one in (("fixed", phantom.fixed_labels), ("moving", phantom.moving_labels)):
            given[f"{side}_outlines"] = [Outline.of_label(one, value) for value in one.present()]
    else:
        given |= {"fixed_points": here, "moving_points": there}
    result = anamorph.register(*unlike(phantom), **given, threads=1)
    assert result.metrics.after.mean("folding_percent") == 0
    if by == "outlines":
        used = result.metrics.used
        assert used.after.mean("outline_distance_mm") < 0.7 * used.before.mean("outline_distance_mm")
    else:
        before = float(np.linalg.norm(here - there, axis=1).mean())
        assert left_mm(result, here, there) < (1.0 if by == "landmarks" else 0.75 * before)


AWAY_BY_HEADER = Affine.translation(np.array([0.0, 150, -220]))


def far_apart(phantom: PhantomPair) -> tuple[Image, Image, Labels]:
    """Scans that tell nothing of each other, the moving one and its labels moved far away."""
    fixed, noise = unlike(phantom)
    grid = Grid(noise.grid.shape, AWAY_BY_HEADER.matrix @ noise.grid.affine)
    return fixed, Image(noise.data, grid), Labels(phantom.moving_labels.data, grid)


def test_outlines_lead_where_a_start_by_the_images_is_far_from_them(phantom):
    fixed, moving, there = far_apart(phantom)
    outlines = {
        f"{side}_outlines": [Outline.of_label(one, value) for value in one.present()]
        for side, one in (("fixed", phantom.fixed_labels), ("moving", there))
    }
    result = anamorph.register(fixed, moving, **outlines, use_points=1.0, threads=1)
    here = places_of(phantom, 10)
    right = AWAY_BY_HEADER.map_world(phantom.true_fixed_to_moving.map_world(here))
    assert left_mm(result, here, right) < 10
    assert FAR_FROM_MARKS in result.warnings
    assert not any("far apart (" in line for line in result.warnings)


def test_what_pulls_has_no_say_in_a_start_that_is_given(phantom):
    here = places_of(phantom)
    pull = {"fixed_points": here, "moving_points": here, "use_points": 1.0}
    result = registered(phantom, method="linear", init=Affine.identity(), **pull)
    assert NO_SAY in result.warnings
    labels = {"fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels, "use_labels": "all"}
    by_name = registered(phantom, method="linear", init="world", **labels)
    np.testing.assert_array_equal(by_name.fixed_to_moving.matrix, np.eye(4))
    assert NO_SAY in by_name.warnings
    middle = phantom.fixed.grid.centre_mm + 10.0 * np.vstack([np.zeros((1, 3)), np.eye(3), np.ones((1, 3))])
    pull = {"fixed_points": middle, "moving_points": middle + np.array([100.0, 0.0, 0.0]), "use_points": 1.0}
    by_name, looked_for = (registered(phantom, method="linear", init=init, **pull) for init in ("world", "translation"))
    np.testing.assert_array_equal(by_name.fixed_to_moving.matrix, np.eye(4))
    assert NO_SAY in by_name.warnings
    np.testing.assert_allclose(looked_for.fixed_to_moving.matrix[:3, 3], (100.0, 0.0, 0.0), atol=1e-6)
    assert NO_SAY not in registered(phantom, method="linear", **labels).warnings


def test_landmarks_that_agree_with_the_start_leave_the_start_alone_as_it_is(phantom):
    here = places_of(phantom)
    by_images = registered(phantom, method="linear")
    pull = {"fixed_points": here, "moving_points": by_images.fixed_to_moving.map_world(here), "use_points": 1.0}
    result = registered(phantom, method="linear", **pull)
    np.testing.assert_array_equal(result.fixed_to_moving.matrix, by_images.fixed_to_moving.matrix)
    assert result.provenance["start"][-1] == NOT_REFINED
    assert result.warnings == by_images.warnings


@pytest.mark.parametrize("by", ["labels", "outlines", "landmarks"])
def test_what_pulls_corrects_the_start_alone_as_that_of_a_deformation(phantom, by):
    fixed, moving, there = far_apart(phantom)
    here = places_of(phantom, 10)
    right = AWAY_BY_HEADER.map_world(phantom.true_fixed_to_moving.map_world(here))
    given: dict = {"use_points": 1.0}
    if by == "labels":
        given = {"fixed_labels": phantom.fixed_labels, "moving_labels": there, "use_labels": "all"}
    elif by == "outlines":
        for side, one in (("fixed", phantom.fixed_labels), ("moving", there)):
            given[f"{side}_outlines"] = [Outline.of_label(one, value) for value in one.present()]
    else:
        given |= {"fixed_points": here, "moving_points": right}
    alone, deformed = (
        anamorph.register(fixed, moving, method=method, init="affine", **given, threads=1)
        for method in ("linear", "convex")
    )
    np.testing.assert_allclose(alone.fixed_to_moving.matrix, deformed.outcome.start.matrix, atol=1e-6)
    assert left_mm(alone, here, right) < 10
    assert alone.provenance["start"][0] == (PULLING_LABELS if by == "labels" else BY_MARKS)
    assert (FAR_FROM_MARKS in alone.warnings) == (by != "labels")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"use_points": 1.0}, "has nothing to use"),
        ({"use_points": -1.0}, "positive number of mm"),
        ({"use_labels": "all"}, "needs labels of both scans"),
        ({"use_labels": "1;2", "labels": True}, "takes all or numbers"),
        ({"use_labels": "1=x", "labels": True}, "takes all or numbers"),
        ({"use_labels": "1=-2", "labels": True}, "must be a positive number"),
        ({"use_labels": "77", "labels": True}, "label 77 is not in both"),
        ({"fixed_outlines": [Outline(np.zeros((5, 3)), "a")]}, "1 outlines of the fixed and 0 of the moving"),
        ({"fixed_outlines": Outline(np.full((5, 3), 9000.0), "a")}, "lie outside"),
    ],
)
def test_mistakes_get_one_line(phantom, given, message):
    if given.pop("labels", False):
        given |= {"fixed_labels": phantom.fixed_labels, "moving_labels": phantom.moving_labels}
    if "use_points" in given and given["use_points"] < 0:
        given |= {"fixed_points": [[0, 0, 0.0]], "moving_points": [[0, 0, 0.0]]}
    with pytest.raises(UserError, match=message):
        registered(phantom, **given)


def test_more_labels_than_can_pull_are_refused(phantom):
    many = (np.arange(phantom.fixed_labels.data[0].size) % 40).reshape(phantom.fixed.grid.shape).astype(np.uint8)
    labels = Labels(many, phantom.fixed.grid), Labels(many, phantom.moving.grid)
    with pytest.raises(UserError, match="39 labels are more than the 32"):
        registered(phantom, fixed_labels=labels[0], moving_labels=labels[1], use_labels="all")
