from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from anamorph.evaluation import Measured, Numbers, RegisteredPair, failed, measure, verdict
from anamorph.evaluation.gates import change
from anamorph.evaluation.verdict import all_gates, gates_markdown
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.transforms import Affine
from anamorph.types import GraveWarning

OF_THE_MAP = {
    "folding_percent": 0.0,
    "extreme_volume_percent": 0.0,
    "inverse_consistency_mm_mean": 0.2,
    "inverse_consistency_mm_p95": 0.5,
    "inverse_consistency_mm_max": 2.0,
    "outside_percent": 10.0,
}


def points(*errors: float) -> dict[str, object]:
    return {
        "tre_mm_landmarks": errors,
        "p95_tre_mm_landmarks": np.percentile(errors, 95),
        "max_tre_mm_landmarks": max(errors),
    }


def pair(before: dict, after: dict, **more) -> Measured:
    """A pair with numbers of its map, and those that compare."""
    return Measured(Numbers.of(**before), Numbers.of(**OF_THE_MAP | after), **more)


BEFORE = {"dice": {1: 0.5, 2: 0.7}, "hd95_mm": {1: 9.0, 2: 9.0}, "similarity": 0.4, **points(5.0, 7.0)}
KEPT = {"kept_volume_percent": 0.1, "kept_deviation_mm": 0.1}
AFTER = {"dice": {1: 0.8, 2: 0.9}, "hd95_mm": {1: 3.0, 2: 3.0}, "similarity": 0.7, **KEPT, **points(1.0, 2.0)}
GOOD = pair(BEFORE, AFTER)


def changed(**after) -> Measured:
    return pair(BEFORE, AFTER | after)


def overlaps(before: dict[int, float], after: dict[int, float]) -> Measured:
    """A pair that has labels alone."""
    return pair({"dice": before}, {"dice": after})


def landmarks(before: tuple[float, ...], after: tuple[float, ...], voxel_mm: float = 1.0) -> Measured:
    """A pair that has landmarks alone."""
    return pair(points(*before), points(*after), voxel_mm=voxel_mm)


FLIPS = [
    ("folding", changed(folding_percent=0.11), "WARN"),
    ("folding", changed(folding_percent=1.01), "FAIL"),
    ("volume_change", changed(extreme_volume_percent=1.1), "WARN"),
    ("volume_change", changed(extreme_volume_percent=10.1), "FAIL"),
    ("inverse_consistency", changed(inverse_consistency_mm_mean=1.1), "WARN"),
    ("inverse_consistency", changed(inverse_consistency_mm_mean=5.1), "FAIL"),
    ("inverse_consistency", changed(inverse_consistency_mm_mean=float("nan")), "FAIL"),
    ("field_of_view", changed(outside_percent=61.0), "WARN"),
    ("field_of_view", changed(outside_percent=96.0), "FAIL"),
    ("kept_volume", changed(kept_volume_percent=0.6), "WARN"),
    ("kept_rigid", changed(kept_deviation_mm=0.6), "WARN"),
    ("similarity_loss", changed(similarity=0.39), "WARN"),
    ("similarity_loss", changed(similarity=0.3), "FAIL"),
    ("dice_loss", changed(dice={1: 0.49, 2: 0.69}), "WARN"),
    ("dice_loss", changed(dice={1: 0.43, 2: 0.61}), "FAIL"),
    ("label_loss", changed(dice={1: 0.9, 2: 0.59}), "WARN"),
    ("tre_increase", landmarks((1.0, 2.0), (1.3, 2.0)), "WARN"),
    ("tre_increase", landmarks((1.0, 1.0), (2.1, 2.1)), "FAIL"),
    ("labels_lost", dataclasses.replace(GOOD, labels_lost=(2,)), "WARN"),
    ("mean_dice", overlaps({1: 0.0}, {1: 0.49}), "WARN"),
    ("mean_dice", overlaps({1: 0.0, 2: 0.1}, {1: 0.29, 2: 0.3}), "FAIL"),
    ("labels_missed", overlaps({1: 0.0, 2: 0.1, 3: 0.1}, {1: 0.009, 2: 0.9, 3: 0.9}), "WARN"),
    ("labels_missed", overlaps({1: 0.0, 2: 0.0, 3: 0.1}, {1: 0.0, 2: 0.0, 3: 1.0}), "FAIL", "mean_dice"),
    ("landmark_error", landmarks((5.0, 7.0), (2.6, 2.5)), "WARN"),
    ("landmark_error", landmarks((50.0, 70.0), (11.0, 9.5)), "FAIL", "landmark_far"),
    ("landmark_far", landmarks((20.0,) * 5, (0.5, 0.5, 0.5, 0.5, 10.1)), "WARN"),
]


def test_a_good_pair_passes_every_gate():
    good = verdict(GOOD)
    assert good.status == "PASS"
    assert good.reasons == []
    assert [check.name for check in good.checks] == [gate.name for gate in all_gates()]
    assert good.signs_of_failure == "none"
    assert good.accuracy.status == "PASS"


@pytest.mark.parametrize("flip", FLIPS, ids=[f"{f[0]}-{f[2]}-{i}" for i, f in enumerate(FLIPS)])
def test_each_gate_is_flipped_by_its_own_number(flip):
    gate, metrics, status, *also = flip
    judged = verdict(metrics)
    tripped = {check.name: check for check in judged.checks if check.status != "PASS"}
    assert judged.status == tripped[gate].status == status
    assert set(tripped) == {gate, *also}
    assert len(judged.reasons) == len(tripped)
    question = next(one.question for one in all_gates() if one.name == gate)
    assert judged.reasons_for[question]
    if question == "accuracy":
        assert (judged.signs_of_failure, judged.accuracy.status) == ("none", status)
    else:
        assert judged.signs_of_failure == {"WARN": "some", "FAIL": "clear"}[status]
        assert judged.accuracy.status == "PASS"


def test_every_gate_is_flipped():
    assert {gate.name for gate in all_gates()} == {flip[0] for flip in FLIPS}


def test_a_number_at_the_limit_passes():
    assert verdict(changed(folding_percent=0.1)).status == "PASS"


def test_gates_without_a_number_are_left_out():
    bare = pair({}, {})
    names = {check.name for check in verdict(bare).checks}
    assert names == {"folding", "volume_change", "inverse_consistency", "field_of_view"}


def test_without_labels_and_landmarks_nothing_is_said_of_accuracy():
    judged = verdict(pair({"similarity": 0.4}, {"similarity": 0.9}))
    assert (judged.status, judged.signs_of_failure, judged.accuracy.word) == ("PASS", "none", "not measured")
    assert judged.headline == ("no signs of failure; accuracy not measured (give labels or landmarks of both scans)")
    assert judged.to_dict()["accuracy"] == {
        "measured": False,
        "status": None,
        "summary": "not measured (give labels or landmarks of both scans)",
    }
    (told,) = [check.message for check in judged.checks if check.name == "similarity_loss"]
    assert told == "image similarity did not fall, which says nothing about accuracy"


def test_a_similarity_that_cannot_be_measured_is_no_success():
    nothing = pair({}, {})
    assert "similarity_loss" not in {check.name for check in verdict(nothing).checks}
    found = pair({"similarity": math.nan}, {"similarity": 0.88})
    assert "similarity_loss" not in {check.name for check in verdict(found).checks}
    lost = verdict(pair({"similarity": 0.7}, {"similarity": math.nan}))
    assert (lost.status, lost.signs_of_failure) == ("FAIL", "clear")
    assert lost.reasons == ["loss of image similarity: could not be measured"]


def test_label_maps_without_a_label_in_common_measure_nothing():
    judged = verdict(pair({"dice": {}}, {"dice": {}}, labels_only_fixed=(1,), labels_only_moving=(2,)))
    assert judged.headline.endswith("accuracy not measured (the two label maps have no label in common)")


def test_a_pair_whose_labels_never_overlap_fails():
    judged = verdict(overlaps({1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}))
    assert (judged.status, judged.signs_of_failure, judged.accuracy.word) == ("FAIL", "none", "poor")
    assert judged.headline == "no signs of failure; accuracy poor: mean Dice 0.000 (lowest 0.000, label 1)"
    assert judged.reasons == [
        "the labels overlap little: mean Dice of 2 labels is 0.000, the lowest 0.000 (label 1)",
        "2 of 2 labels end without overlap: labels 1, 2",
    ]


def test_three_of_five_labels_without_overlap_are_named():
    judged = verdict(overlaps(dict.fromkeys(range(1, 6), 0.0), {1: 0.9, 2: 0.0, 3: 0.001, 4: 0.9, 5: 0.0}))
    assert judged.status == "FAIL"
    assert "3 of 5 labels end without overlap: labels 2, 3, 5" in judged.reasons


def test_many_labels_are_named_in_part():
    judged = verdict(overlaps(dict.fromkeys(range(30), 0.0), dict.fromkeys(range(30), 0.0)))
    assert "30 of 30 labels end without overlap: labels 0, 1, 2, 3, 4, 5, 6, 7 and 22 more" in judged.reasons


def test_a_label_that_loses_much_is_named_though_the_mean_rises():
    judged = verdict(overlaps({3: 0.8, 7: 0.4}, {3: 0.65, 7: 0.9}))
    assert (judged.status, judged.signs_of_failure) == ("WARN", "some")
    assert judged.reasons == ["label 3 lost overlap: Dice of label 3 fell by 0.150 (0.800 to 0.650)"]


@pytest.mark.parametrize("voxel_mm", [0.8, 1.67, 2.0, 4.0])
def test_a_landmark_error_of_eleven_millimetres_does_not_pass(voxel_mm):
    judged = verdict(landmarks((20.0,), (11.0,), voxel_mm))
    assert judged.status != "PASS"
    assert judged.reasons[0].startswith("the landmarks are far apart: 11 mm on average, ")


@pytest.mark.parametrize("scale", [5.0, 1.0, 0.025, 0.0005])
@pytest.mark.parametrize(("voxels", "status"), [(2.4, "PASS"), (2.6, "WARN"), (10.2, "FAIL")])
def test_landmark_errors_are_judged_in_voxels_whatever_their_size(scale, voxels, status):
    judged = verdict(landmarks((scale * 40,), (scale * voxels,), scale))
    assert judged.accuracy.status == status
    (check,) = [check for check in judged.checks if check.name == "landmark_error"]
    assert check.measured == pytest.approx(scale * voxels)
    assert check.threshold == pytest.approx(scale * (10 if status == "FAIL" else 2.5))
    assert f"{scale * voxels:.3g} mm" in check.message


def test_a_landmark_that_was_mapped_nowhere_fails():
    assert verdict(landmarks((1.0, 1.0), (1.0, float("nan")))).status == "FAIL"


def test_the_words_say_what_is_good():
    told = {check.name: check.message for check in verdict(overlaps({1: 0.0}, {1: 0.643})).checks}
    assert told["dice_loss"] == "mean Dice rose by 0.643 (0.000 to 0.643)"
    assert told["mean_dice"] == "Dice of label 1 is 0.643"
    assert told["folding"] == "the map does not fold"
    assert not any("loss" in message for message in told.values())
    told = {check.name: check for check in verdict(landmarks((5.0, 7.0), (1.0, 2.0))).checks}
    assert told["tre_increase"].message == "the mean landmark error fell by 4.5 mm (6 to 1.5 mm)"
    assert told["tre_increase"].measured == 0
    assert change("mean Dice", 0.5, 0.5) == "mean Dice stayed at 0.500"


def test_the_accuracy_holds_its_numbers():
    accuracy = verdict(GOOD).to_dict()["accuracy"]
    assert accuracy["status"] == "PASS"
    assert accuracy["mean_dice"] == pytest.approx(0.85)
    assert (accuracy["lowest_dice_label"], accuracy["lowest_dice"]) == (1, 0.8)
    assert (accuracy["mean_hd95_mm"], accuracy["mean_tre_mm"]) == (3.0, 1.5)
    assert accuracy["p95_tre_mm"] == pytest.approx(1.95)
    assert accuracy["summary"] == (
        "within limits: mean Dice 0.850 (lowest 0.800, label 1), HD95 3 mm, "
        "mean landmark error 1.5 mm (95 % below 1.95)"
    )


def test_the_ruler_is_the_voxel_of_the_coarser_scan():
    fine, coarse = Grid((4, 4, 4), np.diag([1.0, 1, 1, 1])), Grid((4, 4, 4), np.diag([1.0, 1, 8, 1]))
    image = {grid: Image(np.zeros(grid.shape, np.float32), grid) for grid in (fine, coarse)}
    for fixed, moving in ((fine, coarse), (coarse, fine)):
        registered = RegisteredPair(image[fixed], image[moving], Affine.identity(), Affine.identity())
        metrics = measure(registered, metrics=[])
        assert metrics.voxel_mm == pytest.approx(2.0)
    assert Grid((4, 4, 1), np.diag([2.0, 2, 90, 1])).voxel_mm == pytest.approx(2.0)


def test_reasons_come_worst_first_and_warnings_of_the_method_count():
    judged = verdict(changed(folding_percent=2.0), ["the header has no orientation"])
    assert judged.status == "FAIL"
    assert judged.reasons == ["the map folds in 2.00 % of the voxels", "the header has no orientation"]
    warned = verdict(GOOD, ["the header has no orientation"])
    assert (warned.status, warned.signs_of_failure, warned.accuracy.status) == ("WARN", "some", "PASS")
    grave = verdict(GOOD, ["the header has no orientation", GraveWarning("nothing relates the scans")])
    assert (grave.status, grave.signs_of_failure, grave.accuracy.status) == ("FAIL", "clear", "PASS")
    assert grave.reasons[0] == "nothing relates the scans"


def test_a_verdict_is_plain_json():
    values = json.loads(
        json.dumps(verdict(changed(inverse_consistency_mm_mean=float("nan"))).to_dict(), allow_nan=False)
    )
    assert values["status"] == "FAIL"
    values = json.loads(json.dumps(failed("out of memory").to_dict()))
    assert values["reasons"] == ["out of memory"]
    assert (values["signs_of_failure"], values["accuracy"]["measured"]) == ("clear", False)


def test_the_documentation_shows_the_gates_as_they_are():
    page = Path(__file__).parents[2] / "docs" / "reference" / "verdict.md"
    assert gates_markdown() in page.read_text(encoding="utf-8")
