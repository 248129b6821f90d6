from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.image import Image, Labels, Points
from anamorph.image.background import background_value, cast_like, looks_like_ct
from anamorph.transforms import Affine
from geometries import GRIDS

GRID = GRIDS["flipped"]


def test_three_axes_are_one_channel() -> None:
    image = Image(np.zeros(GRID.shape, np.int16), GRID, "scan")
    assert image.channels == 1
    assert image.data.shape == (1, *GRID.shape)
    assert image.with_data(np.ones((2, *GRID.shape))).channels == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [(np.zeros((3, 3, 3)), "does not fit"), (np.zeros(GRID.shape, complex), "not real numbers")],
)
def test_data_must_fit_and_be_real(data: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Image(data, GRID)


def test_labels_are_whole_numbers_of_one_channel() -> None:
    values = np.zeros(GRID.shape)
    values[0, 0, :3] = 7, 2, 7
    labels = Labels(values, GRID)
    assert labels.data.dtype == np.int32
    assert labels.present() == [2, 7]
    with pytest.raises(UserError, match="whole numbers"):
        Labels(values + 0.5, GRID)
    with pytest.raises(UserError, match="one channel"):
        Labels(np.zeros((2, *GRID.shape), np.uint8), GRID)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint32, np.int64, np.uint64])
def test_ids_beyond_31_bits_keep_their_value(dtype: type) -> None:
    values = np.zeros(GRID.shape, dtype)
    values[0, 0, :3] = 2**31 + 2**20, 614454272, 2**31 + 2**21
    labels = Labels(values, GRID)
    assert labels.present() == [614454272, 2**31 + 2**20, 2**31 + 2**21]
    assert Affine.identity().warp_labels(labels, GRID).present() == labels.present()
    assert dice(labels, labels) == dict.fromkeys(labels.present(), 1.0)


@pytest.mark.parametrize(("value", "dtype"), [(2**63, np.uint64), (1e19, np.float64), (-1e30, np.float32)])
def test_ids_beyond_64_bits_are_refused(value: float, dtype: type) -> None:
    values = np.zeros(GRID.shape, dtype)
    values[0, 0, 0] = value
    with pytest.raises(UserError, match="do not fit into 64 bits"):
        Labels(values, GRID)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_labels_that_are_no_whole_numbers_are_refused(value: float) -> None:
    values = np.zeros(GRID.shape, np.float32)
    values[0, 0, 0] = value
    with pytest.raises(UserError, match="whole numbers"):
        Labels(values, GRID)


def test_background_of_ct_and_of_the_rest() -> None:
    ct = Image(np.linspace(-1000, 2000, np.prod(GRID.shape)).reshape(GRID.shape), GRID)
    assert looks_like_ct(ct)
    assert background_value(ct) == -1000
    assert background_value(ct.with_data(np.where(ct.data < -900, -3024, ct.data))) == -1024
    mr = Image(np.linspace(3, 2000, np.prod(GRID.shape)).reshape(GRID.shape), GRID)
    assert not looks_like_ct(mr)
    assert background_value(mr) == 3


def test_values_return_to_their_type_rounded_and_clipped() -> None:
    values = np.array([-3.6, 0.4, 254.5001, 300], np.float32)
    np.testing.assert_array_equal(cast_like(values, np.dtype(np.uint8)), [0, 0, 255, 255])
    np.testing.assert_array_equal(cast_like(values, np.dtype(np.int16)), [-4, 0, 255, 300])
    np.testing.assert_array_equal(cast_like(values, np.dtype(bool)), [False, False, True, True])
    assert cast_like(np.array([1e20], np.float32), np.dtype(np.int64))[0] > 9e18


def test_points_match_by_name_or_order() -> None:
    a = Points([[1, 0, 0], [2, 0, 0], [3, 0, 0]], ("a", "b", "c"))
    b = Points([[30, 0, 0], [10, 0, 0]], ("c", "a"))
    left, right = a.matched(b)
    assert left.labels == right.labels == ("a", "c")
    np.testing.assert_array_equal(left.positions_mm[:, 0], [1, 3])
    np.testing.assert_array_equal(right.positions_mm[:, 0], [10, 30])
    with pytest.raises(UserError, match="3 fixed but 2 moving"):
        a.matched(Points(b.positions_mm))
    with pytest.raises(UserError, match="share no point name"):
        a.matched(Points([[0, 0, 0]], ("z",)))


def test_points_in_voxels_and_back() -> None:
    vox = np.array([[1.5, 2, 3], [0, 0, 0]])
    points = Points.from_voxel(vox, GRID)
    np.testing.assert_allclose(points.positions_mm[1], GRID.origin_mm)
    np.testing.assert_allclose(points.to_voxel(GRID), vox)
    with pytest.raises(UserError, match="not finite"):
        Points([[np.nan, 0, 0]])
    with pytest.raises(UserError, match=r"\(N, 3\)"):
        Points([[0, 0]])
