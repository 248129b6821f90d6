from __future__ import annotations

import json

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.methods.working_frame import Scan
from anamorph.networks.preprocessing import Preprocessing, canonical
from anamorph.transforms import Affine, Displacement

OBLIQUE = np.array([[0.0, -1.9, 0.3, 5], [-1.5, 0, 0, 7], [0, 0.2, 2.8, -3], [0, 0, 0, 1]])


def scan(shape=(8, 9, 7), affine=OBLIQUE, low=0, high=1000) -> Image:
    return Image(np.random.default_rng(0).integers(low, high, shape).astype(np.int16), Grid(shape, affine), "scan")


def test_canonical_axes_name_the_same_voxels():
    grid = Grid((8, 9, 7), OBLIQUE)
    turned = canonical(grid)
    assert turned.orientation == "RAS"
    assert turned.shape == (9, 8, 7)
    np.testing.assert_allclose(turned.voxel_to_world(np.array([8.0, 7, 0])), grid.voxel_to_world(np.zeros(3)))
    np.testing.assert_allclose(turned.voxel_to_world(np.array([3.0, 2, 5])), grid.voxel_to_world(np.array([5.0, 5, 5])))


def test_axes_at_45_degrees_are_each_named_once():
    turn = np.eye(4)
    turn[:2, :2] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    turned = canonical(Grid((4, 5, 6), turn))
    assert sorted(turned.shape) == [4, 5, 6]
    assert abs(np.linalg.det(turned.affine[:3, :3])) == pytest.approx(1)


def test_a_frame_at_the_spacing_of_the_scan_copies_voxels():
    image = scan()
    preprocessing = Preprocessing(shape=(12, 12, 4), normalise="none")
    frame = preprocessing.frame(image.grid)
    channels = preprocessing.channels(image, frame)
    assert set(np.unique(channels)) <= set(np.unique(image.data).astype(np.float32))
    for voxel in ([5, 6, 2], [3, 2, 1]):
        place = image.grid.world_to_voxel(frame.voxel_to_world(np.array(voxel, float)))
        np.testing.assert_allclose(place, np.rint(place), atol=1e-9)
        assert channels[(0, *voxel)] == image.data[(0, *np.rint(place).astype(int))]


def test_a_frame_of_another_spacing_has_the_middle_of_the_scan():
    image = scan()
    frame = Preprocessing(spacing_mm=2.0, multiple=8).frame(image.grid)
    np.testing.assert_allclose(frame.spacing_mm, 2.0)
    np.testing.assert_allclose(frame.centre_mm, image.grid.centre_mm)
    assert all(n % 8 == 0 for n in frame.shape)


def test_percentiles_leave_out_the_background():
    image = scan(low=100, high=1100)
    image.data[0, :4] = 0
    channels = Preprocessing(shape=(9, 8, 7)).channels(image, Preprocessing(shape=(9, 8, 7)).frame(image.grid))
    inside = image.data[image.data > 0]
    low, high = np.percentile(inside, (1, 99))
    expected = np.clip((image.data[0, 6, 4, 3] - low) / (high - low), 0, 1)
    frame = Preprocessing(shape=(9, 8, 7)).frame(image.grid)
    place = np.rint(frame.world_to_voxel(image.grid.voxel_to_world(np.array([6.0, 4, 3])))).astype(int)
    assert channels[(0, *place)] == pytest.approx(expected, abs=1e-5)


def test_windows_make_a_channel_each():
    image = scan(low=-1000, high=1500)
    preprocessing = Preprocessing(shape=(9, 8, 7), normalise="windows", windows=((-160, 240), (-100, 900)))
    channels = preprocessing.channels(image, preprocessing.frame(image.grid))
    assert channels.shape == (2, 9, 8, 7)
    assert np.mean(channels[0] == 1) == pytest.approx(np.mean(image.data >= 240), abs=1e-9)
    assert np.mean(channels[1] == 0) == pytest.approx(np.mean(image.data <= -100), abs=1e-9)


def test_zscores_are_clipped_and_brought_to_the_unit_interval():
    preprocessing = Preprocessing(shape=(9, 8, 7), normalise="zscore")
    image = scan(low=1, high=1000)
    image.data[0, 0, 0, 0] = 32000
    channels = preprocessing.channels(image, preprocessing.frame(image.grid))
    inside = image.data[image.data > image.data.min()].astype(float)
    z = np.clip((image.data - inside.mean()) / inside.std(), -5, 5)
    np.testing.assert_allclose(np.sort(channels.ravel()), np.sort(((z - z.min()) / np.ptp(z)).ravel()), atol=1e-5)


def test_labels_keep_their_values():
    labels = np.zeros((8, 9, 7), np.uint8)
    labels[2:5, 3:6, 2:4] = 6
    image = Labels(labels, Grid((8, 9, 7), OBLIQUE))
    preprocessing = Preprocessing(multiple=4)
    read = preprocessing.labels(image, preprocessing.frame(image.grid))
    assert (read == 6).sum() == 18
    assert set(np.unique(read)) == {0, 6}


def test_a_card_keeps_the_preprocessing():
    preprocessing = Preprocessing(2.0, (8, 8, 8), "windows", ((-160.0, 240.0),), 8)
    assert Preprocessing.from_json(preprocessing.as_json()) == preprocessing


def test_what_cannot_be_used_is_refused():
    with pytest.raises(UserError, match="windows and a list of windows go together"):
        Preprocessing(normalise="windows")
    two = Image(np.stack([np.zeros((4, 4, 4)), np.random.default_rng(0).random((4, 4, 4))]), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(UserError, match="one value everywhere"):
        Preprocessing().channels(two, two.grid)
    with pytest.raises(UserError, match="2 channels; windows are for scans of one"):
        Preprocessing(normalise="windows", windows=((0, 1),)).channels(two, two.grid)


def test_axes_may_differ_in_spacing():
    stack = Grid((60, 50, 7), np.diag([1.4, 1.4, 8.0, 1.0]))
    preprocessing = Preprocessing((2.0, 2.0, 8.0), (24, 24, 8))
    frame = preprocessing.frame(stack)
    assert frame.shape == (24, 24, 8)
    np.testing.assert_allclose(frame.spacing_mm, (2, 2, 8))
    np.testing.assert_allclose(frame.centre_mm, stack.centre_mm)
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.as_json()))) == preprocessing


def test_a_card_says_that_scans_are_cropped_only_if_they_are():
    assert "crop_in_use" not in Preprocessing().as_json()
    cropped = Preprocessing(crop_in_use=True)
    assert Preprocessing.from_json(cropped.as_json()) == cropped


def test_averaged_reading_keeps_means_where_points_alias():
    """Stripes of one voxel, finer than the frame, vanish when averaged and stay when read at points."""
    data = np.zeros((32, 32, 32), np.float32)
    data[::2] = 1000
    image = Image(data, Grid(data.shape, np.eye(4)), "stripes")
    averaged, point = (Preprocessing(4.0, (8, 8, 8), "none", reading=one) for one in ("averaged", "point"))
    frame = averaged.frame(image.grid)
    np.testing.assert_allclose(averaged.channels(image, frame), 500, atol=1e-3)
    moved = Affine.translation(np.array([0.5, 0, 0]))
    assert abs(point.channels(image, frame, moved).mean() - 500) > 400
    np.testing.assert_allclose(averaged.channels(image, frame, moved)[:, 1:-1], 500, atol=1e-3)


def test_networks_and_methods_read_a_scan_alike():
    """One anti-aliased reading: what a network sees of a scan is what a method compares, through any transform."""
    image = scan((20, 18, 16))
    preprocessing = Preprocessing(6.0, (8, 8, 8), "none", reading="averaged")
    frame = preprocessing.frame(image.grid)
    of_method = Scan(image.data.astype(np.float32), np.ones(image.grid.shape, np.float32), image.grid)
    bent = Displacement(np.random.default_rng(1).normal(0, 0.3, (3, *frame.shape)).astype(np.float32), frame)
    for transform in (None, Affine.translation(np.array([3.0, -2, 1])), bent):
        seen, compared = preprocessing.channels(image, frame, transform), of_method.onto(frame, transform)
        inside = compared.weight == 1
        assert inside.sum() > 50
        np.testing.assert_allclose(seen[:, inside], compared.channels[:, inside], rtol=1e-5)


def test_cards_without_a_reading_take_points_and_keep_their_content():
    assert Preprocessing.from_json({"spacing_mm": 2.0}).reading == "point"
    assert "reading" not in Preprocessing(2.0).as_json()
    averaged = Preprocessing(2.0, reading="averaged")
    assert Preprocessing.from_json(averaged.as_json()) == averaged
    with pytest.raises(UserError, match="reading is nearest; choose one of averaged, point"):
        Preprocessing(reading="nearest")
