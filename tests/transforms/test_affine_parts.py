from __future__ import annotations

import numpy as np
import pytest

from anamorph.transforms import Affine
from anamorph.transforms.affine import AffineParts
from geometries import rotation

MIDDLE = np.array([10.0, -20.0, 30.0])


def about_middle(linear: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = MIDDLE - linear @ MIDDLE + shift
    return Affine(matrix)


def test_the_parts_of_a_map_are_those_it_was_made_of():
    turn, stretch = rotation((0, 0, 30)), np.diag([1.1, 1.0, 0.9])
    parts = AffineParts.of(about_middle(turn @ stretch, (3, -4, 12)), MIDDLE)
    assert parts.shift_mm == pytest.approx((3, -4, 12))
    assert parts.turn_deg == pytest.approx(30)
    assert np.abs(parts.turn_axis) == pytest.approx((0, 0, 1))
    assert parts.stretches == pytest.approx((0.9, 1.0, 1.1))
    assert parts.volume_percent == pytest.approx(99)
    assert not parts.mirrored
    shift, turned, scale = parts.in_words(1.0)
    assert shift == "13.0 mm (3.0 right, 4.0 back, 12.0 up)"
    assert turned == "30.0 degrees about the feet-head axis"
    assert scale == "-10.0 to +10.0 % by direction, -1.0 % in volume"


def test_an_oblique_axis_is_given_in_numbers():
    axis = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    cross = np.array([[0, 0, axis[1]], [0, 0, -axis[0]], [-axis[1], axis[0], 0]])
    quarter = np.eye(3) + cross + cross @ cross
    parts = AffineParts.of(about_middle(quarter), MIDDLE)
    assert parts.in_words(1.0)[1] == "90.0 degrees about (0.71, 0.71, 0.00) in RAS"


def test_nothing_and_a_mirror_image():
    nothing = AffineParts.of(Affine.identity(), MIDDLE)
    assert nothing.in_words(1.0) == ("none", "none", "none")
    mirror = AffineParts.of(about_middle(np.diag([-1.0, 1, 1])), MIDDLE)
    assert mirror.mirrored
    assert mirror.in_words(1.0)[2] == "none, mirrored"


def test_what_says_nothing_is_left_out():
    """What is alike in all directions is said once; sides without a shift, and less than 0.01 voxel, not at all."""
    parts = AffineParts.of(about_middle(1.245 * np.eye(3), (0.0, -6.1, 0.004)), MIDDLE)
    assert parts.in_words(1.0) == ("6.1 mm (6.1 back)", "none", "+24.5 % in every direction, +93.0 % in volume")
    little = AffineParts.of(about_middle(np.eye(3), (0.0, 0.003, 0.004)), MIDDLE)
    assert little.in_words(0.51)[0] == "none"
    assert little.in_words(0.49)[0] == "0.0050 mm (0.0030 front, 0.0040 up)"
