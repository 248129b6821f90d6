"""The two-dimensional ladder: its networks learn a known shift, and what is said of a few seeds is not too sure."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import discrete_2d
from benchmarks.seeds import half_interval

SHIFT = (8, -4)
"""Pixels: two features along the first axis, one back along the second."""


def one_slice(grey: Tensor) -> discrete_2d.Slice:
    """With four bands of brightness as its labels."""
    made = discrete_2d.Slice.__new__(discrete_2d.Slice)
    made.grey, made.labels = grey, one_hot((grey[0] * 3.999).long(), 4).permute(2, 0, 1).float()
    return made


@pytest.fixture(scope="module")
def shifted() -> list[discrete_2d.Slice]:
    """A smooth random slice, and the same with its tissue elsewhere."""
    coarse = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    grey = interpolate(coarse, size=(96, 80), mode="bilinear")[0].clamp(0, 1)
    return [one_slice(grey), one_slice(grey.roll(SHIFT, dims=(1, 2)))]


def test_the_mean_field_learns_a_known_shift(shifted):
    network = discrete_2d.trained(partial(discrete_2d.Discrete, "minimum first"), shifted, 30, 0)
    for pair, sign in ((shifted, 1), (shifted[::-1], -1)):
        with torch.no_grad():
            field = network.field(*pair)
        assert field.shape == (2, 24, 20)
        off = field[:, 6:-6, 6:-6] - sign * torch.tensor(SHIFT)[:, None, None]
        assert off.norm(dim=0).mean() < 1.5, "pixels, of the 8.9 of the shift"


def test_flownet_c_learns_a_known_shift(shifted):
    assert discrete_2d.measured(discrete_2d.still, shifted) == pytest.approx(31.48, abs=0.01)
    network = discrete_2d.trained(discrete_2d.FlowNetC, shifted, 60, 0, rate=5e-3)
    with torch.no_grad():
        field = network.field(*shifted)
    assert field.shape == (2, 24, 20)
    assert field[0, 6:-6, 6:-6].mean() > 4
    assert field[1, 6:-6, 6:-6].mean() < -2
    assert discrete_2d.measured(network.field, shifted) > 55


def test_weights_move_once_for_the_pairs_that_are_accumulated(shifted):
    """Of Adam's first step the length alone is known: the rate, and ten times the rate for the temperature."""
    make = partial(discrete_2d.Discrete, None)
    begun, short, whole = (discrete_2d.trained(make, shifted, n, 0, rate=1e-3, accumulate=4) for n in (1, 3, 4))
    assert torch.equal(begun.features[3].weight, short.features[3].weight)
    assert (whole.features[3].weight - begun.features[3].weight).abs().max().item() == pytest.approx(1e-3, rel=0.01)
    assert abs(whole.log_temperature - begun.log_temperature).item() == pytest.approx(1e-2, rel=0.01)


def test_three_seeds_are_less_sure_than_many():
    assert half_interval([1, 2, 3]) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert half_interval([1, 2, 3] * 400) == pytest.approx(1.962 * np.sqrt(2 / 3 / 1199), rel=1e-3)
    assert np.isnan(half_interval([1]))
    assert discrete_2d.over_seeds([1, 2, 3], "+") == "+1.0, +2.0, +3.0 | +2.0 +- 2.5"
