"""Pieces that must not deform, through whole registrations."""

from __future__ import annotations

import numpy as np
import pytest

import anamorph
from anamorph.errors import UserError
from anamorph.image.image import Image, Labels
from anamorph.image.pieces import pieces_of
from anamorph.phantom.inserts import InsertPair, make_insert_pair
from anamorph.transforms.piece_change import rigid_deviation_mm, volume_change_percent
from tiny_models import save_tiny

EXACT_MM, EXACT_PERCENT = 2e-4, 0.01
WEIGHED_PERCENT = 0.5
GROWTH = 1.5


@pytest.fixture(scope="module")
def phantom() -> InsertPair:
    return make_insert_pair((64, 52, 56), seed=1, growth=GROWTH)


def registered(phantom: InsertPair, exchanged: bool = False, **given):
    scans = phantom.scans.fixed, phantom.scans.moving
    return anamorph.register(*(scans[::-1] if exchanged else scans), threads=1, **given)


def worst(labels: Labels, transform) -> tuple[float, float]:
    """Largest change of volume in per cent and largest distance from a rigid motion in mm."""
    pieces, _ = pieces_of(labels)
    assert pieces
    return (
        max(abs(volume_change_percent(piece, transform)) for piece in pieces),
        max(rigid_deviation_mm(piece, transform) for piece in pieces),
    )


@pytest.fixture(scope="module")
def free(phantom):
    return registered(phantom)


def test_the_phantom_is_what_it_says(phantom):
    true = phantom.scans.true_fixed_to_moving
    assert worst(phantom.rods, true) < (1e-3, 1e-3)
    assert volume_change_percent(pieces_of(phantom.lesion)[0][0], true) == pytest.approx(100 * (GROWTH - 1), abs=4)
    for piece, motion in zip(pieces_of(phantom.rods)[0], phantom.motions, strict=True):
        np.testing.assert_allclose(true.map_world(piece.centres_mm), motion.map_world(piece.centres_mm), atol=1e-3)
    assert phantom.scans.true_fixed_to_moving.jacobian_determinant(phantom.scans.fixed.grid).min() > 0.1
    assert (phantom.scans.moving.data[0][phantom.moving_rods.data[0] > 0]).mean() > 1000


def test_without_masks_rods_bend_and_the_lesion_grows(phantom, free):
    percent, mm = worst(phantom.rods, free.pair.fixed_to_moving)
    assert percent > 2
    assert mm > 1
    assert worst(phantom.lesion, free.pair.fixed_to_moving)[0] > 20


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_pieces_are_exact_whichever_scan_leads(phantom, free, method, exchanged):
    fixed_masks = (phantom.moving_rods, phantom.moving_lesion) if exchanged else (phantom.rods, phantom.lesion)
    result = registered(phantom, exchanged, method=method, keep_rigid=fixed_masks[0], keep_volume=fixed_masks[1])
    onward, back = result.pair.fixed_to_moving, result.pair.moving_to_fixed
    percent, mm = worst(fixed_masks[0], onward)
    assert percent < EXACT_PERCENT
    assert mm < EXACT_MM
    assert worst(fixed_masks[1], onward)[0] < EXACT_PERCENT
    for piece in pieces_of(fixed_masks[0])[0]:
        there = onward.map_world(piece.centres_mm)
        np.testing.assert_allclose(back.map_world(there), piece.centres_mm, atol=1e-3)
    assert result.metrics.after.mean("folding_percent") == 0
    assert result.metrics.after.mean("inverse_consistency_mm_mean") < 0.1
    assert result.warnings == []


def test_masks_of_the_moving_scan_hold_there(phantom):
    result = registered(phantom, moving_keep_rigid=phantom.moving_rods, moving_keep_volume=phantom.moving_lesion)
    back = result.pair.moving_to_fixed
    percent, mm = worst(phantom.moving_rods, back)
    assert percent < EXACT_PERCENT
    assert mm < EXACT_MM
    assert worst(phantom.moving_lesion, back)[0] < EXACT_PERCENT


def test_a_weight_brings_the_pieces_near(phantom, free):
    result = registered(phantom, keep_rigid=[(phantom.rods, 10.0)], keep_volume=[(phantom.lesion, 10.0)])
    onward = result.pair.fixed_to_moving
    assert EXACT_MM < worst(phantom.rods, onward)[1] < 0.2 * worst(phantom.rods, free.pair.fixed_to_moving)[1]
    assert worst(phantom.rods, onward)[0] < WEIGHED_PERCENT
    assert worst(phantom.lesion, onward)[0] < WEIGHED_PERCENT


def test_the_rods_lie_better_and_the_rest_no_worse(phantom, free):
    result = registered(phantom, keep_rigid=phantom.rods)
    true = phantom.scans.true_fixed_to_moving

    def error_mm(transform, points):
        return np.linalg.norm(transform.map_world(points) - true.map_world(points), axis=1).mean()

    rods = np.concatenate([piece.centres_mm for piece in pieces_of(phantom.rods)[0]])
    landmarks = phantom.scans.fixed_points.positions_mm
    assert error_mm(result.fixed_to_moving, rods) < 0.9 * error_mm(free.fixed_to_moving, rods)
    assert error_mm(result.fixed_to_moving, landmarks) < error_mm(free.fixed_to_moving, landmarks) + 0.1


def test_what_is_kept_is_told(phantom, free, tmp_path):
    result = registered(phantom, keep_rigid=phantom.rods, keep_volume=[(phantom.lesion, 10.0)])
    saved = result.save(tmp_path / "out")
    rod, *_, lesion = saved.record["kept"]
    assert (rod["keeps"], rod["scan"], rod["weight"], lesion["keeps"], lesion["weight"]) == (
        "rigid", "fixed", "exact", "volume", 10.0,
    )  # fmt: skip
    assert rod["deviation_mm"]["after"] < EXACT_MM < 0.5 < rod["deviation_mm"]["free"]
    assert abs(lesion["volume_percent"]["after"]) < WEIGHED_PERCENT < 15 < lesion["volume_percent"]["free"]
    assert saved.record["metrics"]["kept"]["deviation_mm"] < EXACT_MM
    checks = {check.name: check.status for check in result.verdict.checks}
    assert checks["kept_volume"] == checks["kept_rigid"] == "PASS"
    assert "Kept piece" in (tmp_path / "out" / "report.html").read_text()
    read = anamorph.read_transform(tmp_path / "out" / "fixed_to_moving.nii.gz")
    assert worst(phantom.rods, read)[1] < EXACT_MM
    assert free.metrics.after.mean("kept_volume_percent") is None


@pytest.mark.parametrize("refine", [False, True])
def test_after_a_network_too(phantom, tmp_path, refine):
    settings = {"model": save_tiny(tmp_path / "tiny", bend=0.02), "refine": refine, "refine_iterations": (5, 5)}
    given = {"method": "symmetric", "settings": settings}
    assert worst(phantom.rods, registered(phantom, **given).pair.fixed_to_moving)[1] > 0.2
    result = registered(phantom, **given, keep_rigid=phantom.rods, moving_keep_volume=phantom.moving_lesion)
    assert worst(phantom.rods, result.pair.fixed_to_moving)[1] < EXACT_MM
    assert worst(phantom.moving_lesion, result.pair.moving_to_fixed)[0] < EXACT_PERCENT


def test_a_linear_map_that_scales_keeps_pieces_too(phantom):
    assert worst(phantom.rods, registered(phantom, method="linear").fixed_to_moving)[0] > 1
    result = registered(phantom, method="linear", keep_rigid=phantom.rods)
    assert worst(phantom.rods, result.pair.fixed_to_moving) < (EXACT_PERCENT, EXACT_MM)


def test_stiff_tissue_bends_less(phantom, free):
    grid = phantom.scans.fixed.grid
    data = np.ones(grid.shape, np.float32)
    place = np.rint(grid.world_to_voxel(np.array([58.0, 20.0, -100.0]))).astype(int)
    box = tuple(slice(n - 8, n + 9) for n in place)
    data[box] = 50.0
    result = registered(phantom, stiffness=Image(data, grid))

    def roughness(one):
        inner = tuple(slice(n - 5, n + 6) for n in place)
        return np.log(one.pair.jacobian[inner]).std()

    assert roughness(result) < 0.6 * roughness(free)


def test_stiffness_without_a_refinement_is_told(phantom):
    stiffness = Image(1.0 + phantom.rods.data[0], phantom.rods.grid)
    result = registered(phantom, method="linear", stiffness=stiffness)
    assert any("stiffness had no say" in text for text in result.warnings)


def test_a_voxel_belongs_to_one_piece(phantom):
    with pytest.raises(UserError, match="share"):
        registered(phantom, keep_rigid=[phantom.rods, (phantom.rods, 2.0)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda p: {"keep_rigid": Labels(np.zeros(p.rods.grid.shape, np.uint8), p.rods.grid, "none")},
            "background only",
        ),
        (lambda p: {"keep_rigid": p.scans.fixed}, "no mask"),
        (lambda p: {"keep_volume": [(p.lesion, 0.0)]}, "positive"),
        (
            lambda p: {"moving_keep_rigid": p.rods.cropped((slice(0, 60), slice(0, 52), slice(0, 56)))},
            "not on the grid",
        ),
        (lambda p: {"stiffness": Image(p.rods.data[0] - 1.0, p.rods.grid)}, "positive number"),
    ],
)
def test_mistakes_get_one_line(phantom, given, message):
    with pytest.raises(UserError, match=message) as raised:
        registered(phantom, **given(phantom))
    assert "\n" not in str(raised.value)
