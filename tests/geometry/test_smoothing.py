from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from anamorph.geometry.averaging import box_smooth
from arrays import SHAPES


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [(1, 1, 1), (2, 0, 1), (0, 0, 3)])
@pytest.mark.parametrize("passes", [1, 3])
def test_passes_of_box_averages(shape, radius, passes):
    field = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    before = field.copy()
    expected = field.astype(float)
    for _ in range(passes):
        expected = uniform_filter(expected, (0, *(2 * r + 1 for r in radius)), mode="nearest")
    np.testing.assert_allclose(box_smooth(field, radius, passes), expected, atol=1e-5)
    np.testing.assert_allclose(box_smooth(torch.from_numpy(field), radius, passes), expected, atol=1e-5)
    np.testing.assert_array_equal(field, before)


def test_nothing_to_do_changes_nothing():
    field = np.random.default_rng(0).random((3, 4, 5, 6), np.float32)
    assert box_smooth(field, (0, 0, 0)) is field
    assert box_smooth(field, passes=0) is field
