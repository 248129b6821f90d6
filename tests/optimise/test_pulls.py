from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.geometry.grid import Grid
from anamorph.optimise.pulls import MarkPull, Pulls, RigidPull, VolumePull, add_divergence_slope, divergence
from anamorph.transforms.fields import exponential
from anamorph.transforms.marks import Links, Marks
from arrays import smooth_vectors

CELLS = (12, 10, 11)
VOXELS = np.diag([4.0, 4.0, 4.0, 1.0])


def box(low: int = 3, high: int = 7) -> np.ndarray:
    cover = np.zeros(CELLS, np.float32)
    cover[low:high, low:high, low:high] = 1
    return cover


def rigid_pull(weight: float = 2.0, to_target: np.ndarray = VOXELS, is_forward: bool = True) -> RigidPull:
    cover = box()
    return RigidPull(weight, cover, np.argwhere(cover > 0).astype(float), VOXELS, to_target, is_forward)


def affine_field(matrix: np.ndarray) -> np.ndarray:
    at = np.indices(CELLS).reshape(3, -1)
    return ((matrix - np.eye(3)) @ at).reshape(3, *CELLS).astype(np.float32)


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def add(pulls: Pulls, velocity: np.ndarray) -> tuple[float, np.ndarray]:
    gradient = np.zeros_like(velocity)
    energy = pulls.add(velocity, exponential(velocity), exponential(-velocity), gradient, 3.0)
    return energy, gradient


def test_a_rigid_motion_is_left_alone():
    apart, _, _ = rigid_pull().missing(affine_field(turned(0.2)) + 1.5)
    assert np.abs(apart).max() < 1e-4


def test_with_a_start_that_scales_the_deformation_takes_the_scaling_back():
    start = np.diag([1.25, 1.25, 1.25, 1.0])
    pull = rigid_pull(to_target=start @ VOXELS)
    assert np.abs(pull.missing(affine_field(np.eye(3)))[0]).max() > 0.2
    apart, _, _ = pull.missing(affine_field(np.eye(3) / 1.25))
    assert np.abs(apart).max() < 1e-4


def test_the_energy_is_the_weighed_sum_of_squares_and_the_gradient_its_slope():
    field = smooth_vectors(CELLS, 1.0, sigma=2.0)
    pull = rigid_pull(2.0)
    apart, _, cells = pull.missing(field)
    gradient = np.zeros_like(field)
    energy = Pulls([pull], []).add(field, field, field, gradient, 3.0)
    assert energy == pytest.approx(3 * 2 * (apart**2).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient.reshape(3, -1)[:, cells], 12 * apart, rtol=1e-4)
    assert not np.delete(gradient.reshape(3, -1), cells, axis=1).any()


def test_the_other_scan_pulls_the_other_way():
    field = smooth_vectors(CELLS, 1.0, sigma=2.0)
    here, there = np.zeros_like(field), np.zeros_like(field)
    Pulls([rigid_pull()], []).add(field, field, -field, here, 1.0)
    Pulls([rigid_pull(is_forward=False)], []).add(field, -field, field, there, 1.0)
    np.testing.assert_allclose(here, -there, atol=1e-6)
    assert np.abs(here).max() > 0.01


def test_a_field_begins_nearer_to_rigid_motions():
    field = smooth_vectors(CELLS, 1.0, sigma=2.0)
    pull = rigid_pull(3.0)
    before, after = (np.abs(pull.missing(one)[0]).max() for one in (field, Pulls([pull], []).begin(field)))
    assert after == pytest.approx(before / 4, rel=0.05)


def test_the_divergence_has_the_slope_of_finite_differences():
    rng = np.random.default_rng(0)
    velocity = rng.standard_normal((3, *CELLS))
    weight = rng.random(CELLS)
    gradient = np.zeros_like(velocity)
    add_divergence_slope(weight, gradient)
    for place in [(0, 0, 0, 0), (1, 4, 9, 3), (2, 5, 5, 1), (0, 11, 2, 2)]:
        step = np.zeros_like(velocity)
        step[place] = 1e-3
        change = (weight * (divergence(velocity + step) - divergence(velocity - step))).sum() / 2e-3
        assert change == pytest.approx(gradient[place], abs=1e-9)


def test_a_swelling_is_pulled_together_and_a_turn_is_not():
    at = np.indices(CELLS).astype(np.float32)
    swelling = 0.05 * (at - 5)
    pulls = Pulls([], [VolumePull(1.0, box(), 0.0, True)])
    energy, gradient = add(pulls, swelling)
    inside = box() > 0
    assert energy > 3 * inside.sum() * 0.15**2 * 0.99
    assert (gradient[0, 7, 4:6, 4:6] > 0).all()  # smaller outwards, so the swelling goes down
    turn = np.stack([-(at[1] - 5), at[0] - 5, 0 * at[0]]) * 0.05
    assert add(Pulls([], [VolumePull(1.0, box(), 0.0, True)]), turn)[0] == pytest.approx(0, abs=1e-6)


def test_tensors_get_the_same():
    field = smooth_vectors(CELLS, 1.0, sigma=2.0)
    pulls = [Pulls([rigid_pull()], [VolumePull(1.0, box(), 0.1, False)]) for _ in range(2)]
    energy, gradient = add(pulls[0], field)
    tensors = [torch.from_numpy(one.copy()) for one in (field, exponential(field), exponential(-field))]
    slope = torch.zeros_like(tensors[0])
    assert pulls[1].add(*tensors, slope, 3.0) == pytest.approx(energy, rel=1e-5)
    np.testing.assert_allclose(slope, gradient, atol=1e-4)


def marks_pull(shift: float = 1.0) -> MarkPull:
    control = Grid(CELLS, VOXELS)
    here = control.voxel_to_world(np.array([[3.2, 4.0, 5.5], [6.7, 2.1, 4.4], [6.6, 2.2, 4.3], [8.0, 7.0, 6.0]]))
    return MarkPull(2.0, Marks(Links(here, here + shift, np.array([1.0, 2.0, 2.0, 4.0]))), control)


def test_marks_pull_by_their_distance_in_standard_deviations():
    field = np.zeros((3, *CELLS), np.float32)
    energy, gradient = add(Pulls([], [], marks_pull()), field)
    # Both directions; two marks of one cell count as one, and each has 3 squared mm.
    assert energy == pytest.approx(3 * 2 * 2 * 3 * (1 / 1 + (1 / 4 + 1 / 4) / 2 + 1 / 16), rel=1e-5)
    assert gradient.sum() == pytest.approx(-3 * 2 * 2 * 2 * 3 * 4 * (1 + 1 / 4 + 1 / 16), rel=1e-4)
    assert add(Pulls([], [], marks_pull(0.0)), field)[0] == pytest.approx(0)


def test_marks_have_the_slope_of_finite_differences():
    pull = marks_pull().add
    rng = np.random.default_rng(0)
    forward, backward, step = (rng.standard_normal((3, *CELLS)).astype(np.float32) for _ in range(3))
    gradient = np.zeros_like(forward)
    pull((forward, backward), gradient, 3.0)
    ends = [pull((forward + h * step, backward - h * step), np.zeros_like(step), 3.0) for h in (0.01, -0.01)]
    assert (ends[0] - ends[1]) / 0.02 == pytest.approx(float((gradient * step).sum()), rel=2e-3)
