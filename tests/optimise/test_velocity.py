from __future__ import annotations

import numpy as np
import torch

from anamorph.optimise.velocity import VelocitySettings, optimise_velocity
from anamorph.transforms.fields import exponential, upsample, warp_descriptor
from arrays import inner, smooth_descriptor, smooth_vectors

SHAPE = (24, 26, 23)
CONTROL = (2, 2, 2)
CELLS = (12, 13, 12)
SETTINGS = VelocitySettings(iterations=40, rate=0.5, diffusion=0.05, smoothing=1)
ONES = np.ones(SHAPE, np.float32)
START = np.zeros((3, *CELLS), np.float32)


def optimise(fixed, moving, start=START, fixed_weight=ONES, moving_weight=ONES, settings=SETTINGS, as_torch=False):
    arrays = (fixed, fixed_weight, moving, moving_weight, start)
    if as_torch:
        arrays = tuple(torch.from_numpy(a.copy()) for a in arrays)
    *arrays, start = arrays
    fractions = []
    (velocity,), trace = optimise_velocity(
        *arrays, [start], CONTROL, np.full(3, 4.0), (1, 1, 1), settings, progress=fractions.append
    )
    assert fractions[-1] == 1
    return np.asarray(velocity), trace


def a_pair():
    moving = smooth_descriptor(SHAPE)
    truth = upsample(exponential(smooth_vectors(CELLS, 1.5, sigma=3.0)), CONTROL, SHAPE)
    return warp_descriptor(moving, truth), moving, truth


def test_a_known_deformation_is_found():
    fixed, moving, truth = a_pair()
    velocity, trace = optimise(fixed, moving)
    found = upsample(exponential(velocity), CONTROL, SHAPE)
    before = np.linalg.norm(truth, axis=0)[inner(3)[1:]].mean()
    after = np.linalg.norm(found - truth, axis=0)[inner(3)[1:]].mean()
    assert before > 0.4
    assert after < 0.2 * before
    assert len(trace) == SETTINGS.iterations
    assert trace[-1] < 0.2 * trace[0]


def test_swapping_the_images_negates_the_velocity():
    fixed, moving, _ = a_pair()
    start = smooth_vectors(CELLS, 0.3, seed=4)
    weights = ONES.copy(), ONES.copy()
    weights[0][:5] = 0
    forward, _ = optimise(fixed, moving, start, *weights)
    backward, _ = optimise(moving, fixed, -start, *reversed(weights))
    np.testing.assert_allclose(backward, -forward, atol=1e-3)


def test_kernels_and_twins_take_the_same_way():
    fixed, moving, _ = a_pair()
    few = VelocitySettings(iterations=10, rate=0.5, diffusion=0.05, smoothing=1)
    start = smooth_vectors(CELLS, 0.3, seed=4)
    velocity, trace = optimise(fixed, moving, start, settings=few)
    twin, twin_trace = optimise(fixed, moving, start, settings=few, as_torch=True)
    np.testing.assert_allclose(twin_trace, trace, rtol=1e-3)
    assert np.abs(twin - velocity).mean() < 0.005


def test_nothing_moves_without_weight():
    fixed, moving, _ = a_pair()
    velocity, _ = optimise(fixed, moving, fixed_weight=0 * ONES, moving_weight=0 * ONES)
    assert not velocity.any()


def test_a_stiffer_field_is_smoother():
    fixed, moving, _ = a_pair()
    roughness = [
        np.abs(np.diff(optimise(fixed, moving, settings=VelocitySettings(20, 0.5, weight, 1))[0], axis=1)).mean()
        for weight in (0.01, 100.0)
    ]
    assert roughness[1] < 0.5 * roughness[0]
