from __future__ import annotations

import json

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.evaluation import (
    RegisteredPair,
    dice,
    hd95_mm,
    inverse_consistency_mm,
    jacobian_summary,
    measure,
    tre_axes_mm,
    tre_mm,
)
from anamorph.evaluation.label_regions import _planes, _planes_numpy, label_boxes, voxel_counts
from anamorph.evaluation.metrics.hausdorff import diagonal_mm
from anamorph.evaluation.metrics.inverse_consistency import summary
from anamorph.geometry import Grid
from anamorph.image import Labels, Points
from anamorph.transforms import Affine, Displacement

SHEARED = np.array([[2.0, 0.3, 0, 5], [0, -1.5, 0.2, 7], [0.1, 0, 3.0, -9], [0, 0, 0, 1]])


def grid(shape=(24, 20, 16), spacing=(1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


def box_labels(start, stop, on: Grid, value: int = 1) -> Labels:
    data = np.zeros(on.shape, np.uint8)
    data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return Labels(data, on)


def random_blobs(seed: int, on: Grid) -> Labels:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(4, *on.shape))
    return Labels(np.stack([gaussian_filter(n, 2) for n in noise]).argmax(0).astype(np.int16), on)


def brute_force_hd95(a: Labels, b: Labels, name: int) -> float:
    def surface(labels: Labels) -> np.ndarray:
        mask = labels.data[0] == name
        voxels = []
        for index in np.argwhere(mask):
            for axis in range(3):
                for step in (-1, 1):
                    other = index.copy()
                    other[axis] += step
                    if not (0 <= other[axis] < mask.shape[axis]) or not mask[tuple(other)]:
                        voxels.append(index)
        return labels.grid.voxel_to_world(np.unique(voxels, axis=0))

    distances = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=-1)
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


def test_dice_of_half_shifted_boxes_is_one_half():
    on = grid()
    assert dice(box_labels((2, 2, 2), (10, 10, 10), on), box_labels((6, 2, 2), (14, 10, 10), on)) == {1: 0.5}


def test_dice_counts_a_vanished_label_as_zero_and_leaves_out_what_nobody_has():
    on = grid()
    assert dice(box_labels((2, 2, 2), (5, 5, 5), on), box_labels((2, 2, 2), (5, 5, 5), on, 2), [1, 2, 9]) == {
        1: 0,
        2: 0,
    }


def test_dice_matches_the_definition_on_random_maps():
    a, b = random_blobs(0, grid()), random_blobs(1, grid())
    for name, value in dice(a, b).items():
        in_a, in_b = a.data == name, b.data == name
        assert value == pytest.approx(2 * (in_a & in_b).sum() / (in_a.sum() + in_b.sum()))


def test_dice_refuses_maps_on_other_grids():
    with pytest.raises(ValueError, match="same grid"):
        dice(box_labels((0, 0, 0), (2, 2, 2), grid()), box_labels((0, 0, 0), (2, 2, 2), grid((9, 9, 9))))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, ">u2"])
def test_the_labels_of_each_plane_are_those_of_the_readable_twin(dtype):
    data = np.random.default_rng(0).integers(0, 4, (6, 5, 9)).astype(dtype)
    data[2, :, 3:], data[3] = 7, 0
    for found, expected in zip(_planes(data), _planes_numpy(data, 8), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert _planes(data)[0][3].tolist() == [45, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("offset", [0, 70000, -5])
def test_counts_and_boxes_of_any_label_value(offset):
    data = np.zeros((6, 7, 8), np.int32)
    data[1:3, 2:5, 3:8] = 3 + offset
    data[5, 6, 0] = 4 + offset
    assert voxel_counts(data) == {3 + offset: 30, 4 + offset: 1}
    boxes = label_boxes(data)
    assert boxes[3 + offset] == (slice(1, 3), slice(2, 5), slice(3, 8))
    assert boxes[4 + offset] == (slice(5, 6), slice(6, 7), slice(0, 1))


def test_hd95_of_a_shifted_box_is_the_shift_in_mm():
    on = grid(spacing=(1.0, 1.0, 2.5))
    fixed = box_labels((2, 2, 2), (20, 18, 8), on)
    assert hd95_mm(fixed, fixed) == {1: 0.0}
    shifted = box_labels((2, 2, 6), (20, 18, 12), on)
    assert hd95_mm(fixed, shifted)[1] == pytest.approx(4 * 2.5)


@pytest.mark.parametrize("affine", [np.diag([1.0, 2.0, 3.0, 1.0]), SHEARED])
def test_hd95_matches_brute_force(affine):
    on = Grid((14, 12, 10), affine)
    a, b = random_blobs(2, on), random_blobs(3, on)
    for name, value in hd95_mm(a, b).items():
        assert value == pytest.approx(brute_force_hd95(a, b, name), abs=1e-9)


def test_hd95_agrees_with_distance_transforms():
    from scipy.ndimage import binary_erosion, distance_transform_edt

    on = grid((30, 28, 26), (0.8, 1.2, 3.0))
    a, b = random_blobs(4, on), random_blobs(5, on)
    for name, value in hd95_mm(a, b).items():
        surfaces = [(m := labels.data[0] == name) & ~binary_erosion(m) for labels in (a, b)]
        to_b = distance_transform_edt(~surfaces[1], sampling=on.spacing_mm)[surfaces[0]]
        to_a = distance_transform_edt(~surfaces[0], sampling=on.spacing_mm)[surfaces[1]]
        assert value == pytest.approx(max(np.percentile(to_b, 95), np.percentile(to_a, 95)))


def test_hd95_of_a_vanished_label_is_the_diagonal_of_the_image():
    on = grid((10, 20, 20), (3.0, 2.0, 1.0))
    empty = Labels(np.zeros(on.shape, np.uint8), on)
    assert diagonal_mm(on) == pytest.approx(np.sqrt(30**2 + 40**2 + 20**2))
    assert hd95_mm(box_labels((1, 1, 1), (3, 3, 3), on), empty) == {1: pytest.approx(diagonal_mm(on))}


def test_hd95_in_2d_looks_at_outlines_only():
    on = grid((30, 30, 1))
    square = box_labels((5, 5, 0), (25, 25, 1), on)
    dotted = Labels(square.data.copy(), on)
    dotted.data[0, 12:18, 12:18] = 0  # a hole; were every voxel a surface, its centre would be 3 mm from the nearest
    hole_corner_to_outline = 12 - 5
    assert 4 < hd95_mm(square, dotted)[1] <= hole_corner_to_outline


def test_tre_is_the_distance_that_the_transform_leaves():
    fixed = Points(np.array([[0.0, 0, 0], [10, 0, 0]]), ("a", "b"))
    moving = Points(np.array([[10.0, 3, 0], [0, 0, 4]]), ("b", "a"))
    assert tre_mm(fixed, moving, Affine.identity()) == pytest.approx([4, 3])
    assert tre_axes_mm(fixed, moving, Affine.identity()) == pytest.approx(np.array([[0, 0, 4], [0, 3, 0]]))
    assert tre_mm(fixed, moving, Affine.translation(np.array([0, 0, 4.0]))) == pytest.approx([0, 5])
    with pytest.raises(UserError, match="one to one"):
        tre_mm(Points(np.zeros((2, 3))), Points(np.zeros((3, 3))), Affine.identity())


def test_jacobian_summary_counts_folds_and_extremes():
    jacobian = np.ones((10, 10, 10), np.float32)
    jacobian[5, 5, :4] = 0.0
    jacobian[5, 6, :6] = -2.0
    jacobian[4, 4, :5] = 11.0
    jacobian[4, 5, :5] = 0.09
    numbers = jacobian_summary(jacobian)
    assert numbers["folding_percent"] == pytest.approx(1.0)
    assert numbers["extreme_volume_percent"] == pytest.approx(1.0)
    assert (numbers["min"], numbers["max"]) == (-2.0, 11.0)
    mask = np.zeros(jacobian.shape)
    mask[5, 5:7, :10] = 1
    assert jacobian_summary(jacobian, mask)["folding_percent"] == pytest.approx(50.0)


def test_sdlogj_is_of_the_true_logarithm_and_learn2reg_has_its_own():
    jacobian = np.exp(np.random.default_rng(0).normal(0, 0.3, (30, 30, 30))).astype(np.float32)
    numbers = jacobian_summary(jacobian)
    assert numbers["sdlogj"] == pytest.approx(0.3, abs=0.01)
    # The challenge's formula, applied to the inner voxels.
    assert numbers["sdlogj_learn2reg"] == pytest.approx(np.log(jacobian[2:-2, 2:-2, 2:-2] + 3).std(), rel=1e-5)
    assert numbers["sdlogj_learn2reg"] < 0.1
    almost_folded = jacobian.copy()
    almost_folded[0, 0, 0] = 1e-30
    assert jacobian_summary(almost_folded)["sdlogj"] == pytest.approx(numbers["sdlogj"], abs=4e-3)


def test_learn2reg_sdlogj_matches_its_zero_padded_central_differences():
    from scipy.ndimage import correlate1d, gaussian_filter

    field = np.stack([gaussian_filter(n, 2) * 9 for n in np.random.default_rng(3).normal(size=(3, 18, 17, 16))])
    matrix = np.stack([[correlate1d(u, [-0.5, 0, 0.5], axis=a, mode="constant") for a in range(3)] for u in field])
    matrix = np.moveaxis(matrix[..., 2:-2, 2:-2, 2:-2], (0, 1), (-2, -1)) + np.eye(3)
    theirs = np.log(np.clip(np.linalg.det(matrix) + 3, 1e-9, 1e9)).std()
    ours = jacobian_summary(Displacement(field, grid(field.shape[1:])).jacobian_determinant())
    assert ours["sdlogj_learn2reg"] == pytest.approx(theirs, rel=1e-4)


def test_inverse_consistency_is_the_mismatch_of_the_two_directions():
    fixed, moving = Grid((12, 10, 8), SHEARED), Grid((40, 40, 40), np.diag([1.0, 1, 1, 1]) + 0)
    there = Affine.translation(np.array([1.0, 30.0, 30.0]))
    back = Affine.translation(np.array([-1.0, -30.0, -27.0]))
    error = inverse_consistency_mm(there, back, fixed, moving)
    landed = fixed.voxel_to_world(np.moveaxis(np.indices(fixed.shape), 0, -1)) + np.array([1, 30, 30])
    inside = moving.contains(landed)
    assert 0 < inside.sum() < inside.size
    assert np.array_equal(np.isfinite(error), inside)
    assert error[inside] == pytest.approx(3.0, abs=1e-4)
    assert summary(error) == pytest.approx({"mean": 3, "p95": 3, "max": 3}, abs=1e-4)


def test_inverse_consistency_does_not_depend_on_the_slabs(monkeypatch):
    from anamorph.geometry import slabs

    field = np.random.default_rng(1).normal(0, 0.4, (3, 9, 8, 7))
    there = Displacement(field, grid((9, 8, 7)))
    arguments = there, Affine.identity(), there.grid, there.grid
    whole = inverse_consistency_mm(*arguments)
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 2 * 8 * 7)
    assert np.allclose(inverse_consistency_mm(*arguments), whole, atol=1e-5, equal_nan=True)
    inside = np.isfinite(whole)
    assert whole[inside] == pytest.approx(np.linalg.norm(there.disp_vox, axis=0)[inside], abs=1e-5)


def test_a_pair_is_measured_before_and_after():
    on = grid()
    shift = Affine.translation(np.array([4.0, 0, 0]))
    fixed_labels = box_labels((2, 4, 4), (10, 12, 12), on)
    moving_labels = box_labels((6, 4, 4), (14, 12, 12), on)
    fixed_labels.data[0, 20, 1, 1] = 5
    moving_labels.data[0, 1, 1, 1] = 7
    points = Points(np.array([[3.0, 5, 5]]))
    pair = RegisteredPair(
        on,
        on,
        shift,
        shift.inverse(),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        points={"landmarks": (points, Points(np.array([[7.0, 5, 6]])))},
    )
    metrics = measure(pair)
    assert metrics.before.labels("dice") == {1: 0.5}
    assert metrics.after.labels("dice") == {1: 1.0}
    assert metrics.after.labels("hd95_mm") == {1: 0.0}
    assert metrics.before.mean("tre_mm_landmarks") == pytest.approx(np.sqrt(17))
    assert metrics.after.parts("tre_mm_landmarks") == pytest.approx([1.0])
    assert metrics.after.parts("tre_axes_mm_landmarks") == pytest.approx([0, 0, 1])
    assert (metrics.labels_only_fixed, metrics.labels_only_moving, metrics.labels_lost) == ((5,), (7,), ())
    assert metrics.after.mean("outside_percent") == pytest.approx(100 * 4 / 24)
    assert metrics.after.mean("inverse_consistency_mm_max") == pytest.approx(0, abs=1e-4)
    assert metrics.after.mean("folding_percent") == 0
    read_back = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert read_back["after"]["dice"] == {"1": 1.0}
    assert read_back["before"]["mean_dice"] == 0.5
    assert read_back["after"]["similarity"] is None  # grids alone have no images
    assert read_back["jacobian"]["min"] == 1


def test_a_label_warped_out_of_view_is_lost_and_as_far_as_can_be():
    on = grid()
    labels = box_labels((2, 4, 4), (10, 12, 12), on)
    away = Affine.translation(np.array([200.0, 0, 0]))
    pair = RegisteredPair(on, on, away, away.inverse(), fixed_labels=labels, moving_labels=labels)
    metrics = measure(pair)
    assert metrics.labels_lost == (1,)
    assert metrics.after.labels("dice") == {1: 0.0}
    assert metrics.after.labels("hd95_mm") == {1: pytest.approx(diagonal_mm(on))}
    assert metrics.after.mean("outside_percent") == 100
    assert metrics.to_dict()["inverse_consistency_mm"]["mean"] is None
