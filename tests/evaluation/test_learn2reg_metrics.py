"""Equality with plain implementations of Learn2Reg's evaluator, and with figures of the published programs."""

from __future__ import annotations

import numpy as np
import pytest

import anamorph
import learn2reg_reference as reference
from anamorph.evaluation import learn2reg
from anamorph.evaluation.learn2reg.surface import areas_by_code
from anamorph.geometry import Grid
from anamorph.image.read import read_image, read_labels
from anamorph.transforms import Displacement
from arrays import smooth_vectors

LABELS = range(1, 7)


def blobs(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Labels 1 to 5 in ragged blobs, which touch each other and the border."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, [n // 4 + 1 for n in shape])
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
    return np.where(rng.random(shape) < 0.1, 0, fine).astype(np.uint16)


def hd95(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray) -> list[float]:
    surfaces = [learn2reg.surface_elements(one) for one in (fixed, warped)]
    return learn2reg.hd95_vox(*surfaces, set(np.unique(moving)), LABELS)


def determinants(disp: np.ndarray) -> np.ndarray:
    return Displacement(disp, Grid(disp.shape[1:], np.eye(4))).jacobian_determinant()


def assert_labels_measured_alike(fixed: np.ndarray, moving: np.ndarray, disp: np.ndarray) -> None:
    ours, theirs = learn2reg.warp_labels(moving, disp), reference.warped(moving, disp)
    np.testing.assert_array_equal(ours, theirs)
    args = fixed, moving, ours
    np.testing.assert_allclose(learn2reg.dice(*args, LABELS), reference.dice(*args, LABELS), rtol=0, atol=1e-12)
    np.testing.assert_allclose(hd95(*args), reference.hd95(*args, LABELS), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_random_fields_and_labels(seed):
    rng = np.random.default_rng(seed)
    shape = (17, 22, 13)
    disp = rng.normal(0, 2, (3, *shape)).astype(np.float32) if seed % 2 else smooth_vectors(shape, 5, seed=seed)
    assert_labels_measured_alike(blobs(shape, seed), blobs(shape, seed + 100), disp)
    assert learn2reg.sdlogj(determinants(disp)) == pytest.approx(reference.sdlogj(disp), abs=1e-6)
    mask = rng.random(shape) < 0.4
    assert learn2reg.sdlogj(determinants(disp), mask) == pytest.approx(reference.sdlogj(disp, mask), abs=1e-6)
    fixed = np.concatenate([rng.uniform(-1, 13, (20, 3)), rng.uniform(0, 12, (20, 3)), [[0, 0, 0], [16, 21, 12]]])
    moving, spacing = fixed + rng.normal(0, 3, fixed.shape), np.array([1.5, 2.0, 0.7])
    ours, theirs = (f(fixed, moving, disp, spacing) for f in (learn2reg.tre_mm, reference.tre))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_registered_pair_of_real_scans(shared_data):
    folder = shared_data / "hippocampus"
    names = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))[:2]
    fixed, moving = (read_image(folder / "images" / name) for name in names)
    labels = [read_labels(folder / "labels" / name).data[0] for name in names]
    transform = anamorph.register(fixed, moving, device="cpu").fixed_to_moving
    places = transform.moving_positions(fixed.grid, moving.grid)
    disp = (places - np.indices(fixed.grid.shape)).astype(np.float32)
    assert_labels_measured_alike(*labels, disp)
    assert np.nanmean(learn2reg.dice(*labels, learn2reg.warp_labels(labels[1], disp), LABELS)) > 0.6
    assert learn2reg.sdlogj(determinants(disp)) == pytest.approx(reference.sdlogj(disp), abs=1e-6)


def test_halves_are_rounded_up_and_beyond_the_outermost_centres_is_background():
    moving = np.arange(1, 6, dtype=np.uint16).reshape(5, 1, 1)
    disp = np.zeros((3, 5, 1, 1), np.float32)
    disp[0, :, 0, 0] = [0.5, 0.49, 1.5, 1.001, -4.001]
    np.testing.assert_array_equal(learn2reg.warp_labels(moving, disp).ravel(), [2, 2, 5, 0, 0])


def test_a_translation_by_whole_voxels_is_exact():
    moving = blobs((12, 12, 12), 3)
    fixed = np.roll(moving, 2, axis=1)
    fixed[:, :2] = 0
    disp = np.zeros((3, 12, 12, 12), np.float32)
    disp[1] = -2
    warped = learn2reg.warp_labels(moving, disp)
    assert set(learn2reg.dice(fixed, moving, warped, range(1, 6))) == {1.0}
    assert set(hd95(fixed, moving, warped)[:5]) == {0.0}
    assert learn2reg.sdlogj(determinants(disp)) == pytest.approx(0, abs=1e-9)


def test_absent_and_lost_labels():
    fixed, moving, warped = (np.zeros((8, 8, 8), np.uint16) for _ in range(3))
    fixed[2:4, 2:4, 2:4], moving[2:4, 2:4, 2:4] = 1, 1  # lost in warping
    fixed[5:7, 5:7, 5:7] = 2  # absent in the moving scan, though present after warping
    warped[5:7, 5:7, 5:7] = 2
    moving[0, 0, 0] = 3  # absent in the fixed scan
    np.testing.assert_array_equal(learn2reg.dice(fixed, moving, warped, LABELS), [0, *[np.nan] * 5])
    np.testing.assert_array_equal(hd95(fixed, moving, warped), [np.inf, *[np.nan] * 5])


def test_areas_are_those_of_the_published_table():
    np.testing.assert_allclose(areas_by_code(), reference.published_areas(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("radii", "shift", "published"),
    [
        ((8, 9, 3), (-2, 3, -1), 6.082762530298219),
        ((4, 3, 5), (-4, -3, 3), 5.385164807134504),
        ((4, 7, 5), (3, 4, -2), 4.58257569495584),
        ((6, 2, 7), (-2, 0, -1), 2.23606797749979),
        ((2, 3, 6), (3, -4, 2), 6.708203932499369),
    ],
)
def test_hd95_of_the_published_program(radii, shift, published):
    """Computed by surface-distance 0.1; without the weights by area every one would be larger."""
    sites = np.stack(np.indices((24, 24, 24)), -1) - 11
    a = ((sites / radii) ** 2).sum(axis=-1) < 1
    b = (((sites - shift) / radii[::-1]) ** 2).sum(axis=-1) < 1
    surfaces = [learn2reg.surface_elements(one.astype(np.uint16)) for one in (a, b)]
    assert learn2reg.hd95_vox(*surfaces, [1], [1]) == [pytest.approx(published, abs=1e-9)]


def test_foldings_are_never_counted_by_the_evaluator():
    disp = np.zeros((3, 9, 9, 9), np.float32)
    disp[0, 4] = -3.0
    assert determinants(disp).min() < 0
    assert learn2reg.foldings_counted(determinants(disp)) == 0


def test_aggregates_take_the_tails_of_the_evaluator():
    values = [0.1, 0.9, 0.5, 0.3]
    for metric, quantile in (("dice", 0.3), ("hd95", 0.3), ("sdlogj", 0.7), ("tre", 0.7)):
        found = learn2reg.aggregate(values, metric)
        assert found == {"mean": 0.45, "std": pytest.approx(np.sqrt(0.0875)), "30": np.quantile(values, quantile)}
    assert learn2reg.aggregate([1.0, np.inf], "hd95")["mean"] == np.inf
    assert np.isnan(learn2reg.aggregate([1.0, np.nan], "dice")["mean"])
