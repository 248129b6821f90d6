"""Smoothing over time: jitter goes, motion stays, and what is known stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.workflows.series.motion import TemporalSmoother

FRAMES, VALUES = 20, 400


def beats(seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Courses of a squared sine of various heights, and the same with noise in all but the first frame."""
    rng = np.random.default_rng(seed)
    course = np.sin(np.pi * np.arange(FRAMES) / FRAMES)[:, None] ** 2 * rng.uniform(-5, 5, VALUES)
    noisy = course + noise * rng.standard_normal(course.shape)
    noisy[0] = 0
    return course.astype(np.float32), noisy.astype(np.float32)


@pytest.mark.parametrize("cyclic", [True, False])
def test_jitter_is_halved_without_bias_at_the_strength_of_cross_validation(cyclic):
    course, noisy = beats()
    smoother = TemporalSmoother(FRAMES, cyclic, still=0)
    strength = smoother.strength(noisy)
    smooth = smoother.smooth(noisy, strength)
    error = [np.sqrt(((one - course) ** 2).mean()) for one in (noisy, smooth)]
    assert error[1] < 0.6 * error[0]
    jitter = [np.abs(np.diff(one - course, 2, axis=0)).mean() for one in (noisy, smooth)]
    assert jitter[1] < 0.3 * jitter[0]
    highest = course[FRAMES // 2]
    slope = (smooth[FRAMES // 2] @ highest) / (highest @ highest)
    assert abs(slope - 1) < 0.04  # the height of the beat
    best = min(np.sqrt(((smoother.smooth(noisy, s) - course) ** 2).mean()) for s in np.geomspace(1e-3, 1e3, 40))
    assert error[1] < 1.05 * best


def test_little_noise_asks_for_little_smoothing():
    smoother = TemporalSmoother(FRAMES, True, 0)
    assert smoother.strength(beats(noise=0.02)[1]) < 0.05 * smoother.strength(beats(noise=1.0)[1])


def test_the_reference_stays_at_rest():
    _, noisy = beats()
    assert not TemporalSmoother(FRAMES, True, 0).smooth(noisy, 3.0)[0].any()
    assert TemporalSmoother(FRAMES, True).smooth(noisy, 3.0)[0].any()


def test_even_acceleration_costs_nothing():
    time = np.arange(9) - 4.0
    even = np.outer(time, np.linspace(-1, 1, 7)) + np.outer(time**2, np.linspace(-1, 2, 7))
    smooth = TemporalSmoother(9, still=4).smooth(even, 50.0)
    assert np.allclose(smooth, even, atol=1e-3)


def test_a_cycle_has_no_first_frame():
    _, noisy = beats()
    smoother = TemporalSmoother(FRAMES, cyclic=True)
    turned = smoother.smooth(np.roll(noisy, 7, axis=0), 2.0)
    assert np.allclose(turned, np.roll(smoother.smooth(noisy, 2.0), 7, axis=0), atol=1e-5)
    open_course = TemporalSmoother(FRAMES, cyclic=False)
    moved = open_course.smooth(np.roll(noisy, 7, axis=0), 2.0)
    assert not np.allclose(moved, np.roll(open_course.smooth(noisy, 2.0), 7, axis=0), atol=1e-2)


def test_time_may_run_backwards():
    _, noisy = beats()
    for cyclic in (True, False):
        smoother, mirrored = TemporalSmoother(FRAMES, cyclic, 0), TemporalSmoother(FRAMES, cyclic, FRAMES - 1)
        assert np.allclose(mirrored.smooth(noisy[::-1], 1.0), smoother.smooth(noisy, 1.0)[::-1], atol=1e-5)


def test_few_frames_give_no_strength():
    assert TemporalSmoother(5, still=0).strength(np.ones((5, 10))) == 0
