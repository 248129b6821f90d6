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
    shift, turned, scale = parts.in_words()
    assert shift == "13.0 mm (3.0 right, 4.0 back, 12.0 up)"
    assert turned == "30.0 degrees about the feet-head axis"
    assert scale == "-10.0 to +10.0 % by direction, -1.0 % in volume"


def test_an_oblique_axis_is_given_in_numbers():
    axis = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    cross = np.array([[0, 0, axis[1]], [0, 0, -axis[0]], [-axis[1], axis[0], 0]])
    quarter = np.eye(3) + cross + cross @ cross
    parts = AffineParts.of(about_middle(quarter), MIDDLE)
    assert parts.in_words()[1] == "90.0 degrees about (0.71, 0.71, 0.00) in RAS"


def test_nothing_and_a_mirror_image():
    nothing = AffineParts.of(Affine.identity(), MIDDLE)
    assert nothing.in_words() == ("0.0 mm (0.0 right, 0.0 front, 0.0 up)", "none", "none")
    mirror = AffineParts.of(about_middle(np.diag([-1.0, 1, 1])), MIDDLE)
    assert mirror.mirrored
    assert mirror.in_words()[2] == "none, mirrored"
