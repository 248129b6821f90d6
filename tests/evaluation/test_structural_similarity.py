"""Structural similarity is one for the same scan, falls with misplacement, and ignores what intensities mean."""

import numpy as np
import pytest

from anamorph.evaluation.metrics.structural_similarity import UNMATCHED, structural_similarity
from anamorph.image import Image
from anamorph.phantom import make_pair
from anamorph.transforms import Affine


@pytest.fixture(scope="module")
def pair():
    return make_pair((48, 40, 40), seed=2)


def test_a_scan_is_like_itself(pair):
    (value,) = structural_similarity(pair.fixed, pair.fixed, (Affine.identity(),))
    assert value == pytest.approx(1.0, abs=1e-6)


def test_the_true_transform_beats_the_identity_and_shifts(pair):
    shifts = (Affine.translation([30.0, 0.0, 0.0]), Affine.translation([60.0, 0.0, 0.0]))
    true, *others = structural_similarity(
        pair.fixed, pair.moving, (pair.true_fixed_to_moving, Affine.identity(), *shifts)
    )
    assert true > 0.97
    assert true > max(others) + 0.05


@pytest.mark.parametrize("shift_mm", [2000.0, 0.97])
def test_where_nothing_is_in_view_nothing_is_measured(pair, shift_mm):
    if shift_mm < 1:  # a sliver is left
        shift_mm *= pair.fixed.grid.spacing_mm[0] * pair.fixed.grid.shape[0]
    gone = Affine.translation([shift_mm, 0.0, 0.0])
    value, whole = structural_similarity(pair.fixed, pair.fixed, (gone, Affine.identity()))
    assert value is None
    assert whole == pytest.approx(1.0, abs=1e-6)


def test_what_is_out_of_view_is_charged(pair):
    half = Affine.translation([0.5 * pair.fixed.grid.spacing_mm[0] * pair.fixed.grid.shape[0], 0.0, 0.0])
    flat = pair.fixed.with_data(np.zeros_like(pair.fixed.data))
    (value,) = structural_similarity(flat, flat, (half,))
    assert value == pytest.approx(1 - UNMATCHED / 2, abs=0.01)


def test_inverted_contrast_changes_nothing():
    values = np.random.default_rng(0).random((20, 21, 22)).astype(np.float32)
    grid = make_pair((20, 21, 22), seed=0).fixed.grid
    (value,) = structural_similarity(Image(values, grid), Image(1 - values, grid), (Affine.identity(),))
    assert value > 0.98
