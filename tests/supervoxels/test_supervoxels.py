"""The parts of the layers, and the layers: counts, connection, background, and the same again by the seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import generate_binary_structure, label

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Mask
from anamorph.image.read import read_image, read_labels
from anamorph.phantom import make_pair
from anamorph.supervoxels import Layers, make_layers, warp_layers
from anamorph.supervoxels.files import load_layers, save_layers
from anamorph.supervoxels.layers import jitter, merge_smallest, slic_segments, split_pieces, touching
from anamorph.supervoxels.mask import body, near_organs
from anamorph.transforms import Affine
from geometries import affine_of, rotation

OBLIQUE = affine_of(rotation((5, 20, -12)), (2.0, 2.0, 2.0), (10, -20, 300))
COUNT = 40


@pytest.fixture(scope="module")
def scan() -> Image:
    return make_pair(shape=(56, 48, 60), spacing_mm=(6.0, 6.0, 6.0), seed=3).fixed


@pytest.fixture(scope="module")
def layers(scan: Image) -> Layers:
    return make_layers(scan, layers=3, supervoxels=COUNT, seed=5)


def pieces_of(mask: np.ndarray) -> int:
    return label(mask, generate_binary_structure(3, 1))[1]


def test_every_layer_holds_exactly_the_wanted_supervoxels_each_of_one_piece(layers: Layers):
    for one in layers.labels:
        assert np.array_equal(np.unique(one), np.arange(COUNT + 1))
        assert [pieces_of(one == number) for number in range(1, COUNT + 1)] == [1] * COUNT
    sizes = [np.bincount(one.ravel())[1:] for one in layers.labels]
    assert all(0.5 * np.median(size) < size.min() and size.max() < 2 * np.median(size) for size in sizes)


def test_the_background_is_what_lies_outside_the_mask(scan: Image):
    inside = np.zeros(scan.grid.shape, np.uint8)
    inside[10:40, 8:40, 12:44] = 1
    made = make_layers(scan, layers=2, supervoxels=20, mask=Mask(inside, scan.grid))
    assert made.grid.shape == (28, 24, 30)
    expected = np.zeros(made.grid.shape, bool)
    expected[5:20, 4:20, 6:22] = True
    for one in made.labels:
        np.testing.assert_array_equal(one > 0, expected)


def test_the_layers_of_a_scan_differ_and_come_again_by_the_seed(scan: Image, layers: Layers):
    again = make_layers(scan, layers=2, supervoxels=COUNT, seed=5)
    np.testing.assert_array_equal(again.labels, layers.labels[:2])
    assert not np.array_equal(make_layers(scan, layers=1, supervoxels=COUNT, seed=6).labels[0], layers.labels[0])
    # Two layers of one segmentation would have COUNT pairs of numbers; independent ones tell places apart far better.
    pairs = np.unique(layers.labels[:2].reshape(2, -1), axis=1).shape[1]
    assert pairs > 3 * COUNT


def test_the_voxels_of_the_layers_cover_those_of_the_scan(scan: Image, layers: Layers):
    assert layers.grid.shape == (28, 24, 30)
    np.testing.assert_allclose(layers.grid.spacing_mm, 12)
    np.testing.assert_allclose(layers.grid.corners_mm(), scan.grid.corners_mm())
    assert make_layers(scan, layers=1, supervoxels=9, spacing_mm=24.0).grid.shape == (14, 12, 15)


def test_a_mask_too_small_for_the_first_try_gets_more_segments():
    rng = np.random.default_rng(0)
    grid = Grid((12, 12, 12), np.diag([1.0, 1, 1, 1]))
    image = Image(rng.normal(size=grid.shape).astype(np.float32), grid)
    made = make_layers(image, layers=1, supervoxels=200, spacing_mm=1.0, mask=Mask(np.ones(grid.shape), grid))
    assert np.array_equal(np.unique(made.labels), np.arange(1, 201))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"supervoxels": 256}, "1 to 255"),
        ({"layers": 0}, "not 0 of 127"),
        ({"spacing_mm": -1.0}, "positive number of mm"),
        ({"spacing_mm": 100.0}, "too few for 127 supervoxels"),
    ],
)
def test_numbers_that_cannot_be_are_told_in_one_line(scan: Image, arguments: dict, message: str):
    with pytest.raises(UserError, match=message):
        make_layers(scan, **arguments)


def test_slices_and_several_channels_are_cut_too():
    grid = Grid((40, 36, 1), np.diag([1.0, 1, 5, 1]))
    i, j, _ = np.indices(grid.shape)
    one = (400 + 200 * np.sin(i / 9) + 100 * np.cos(j / 7)).astype(np.float32)
    made = make_layers(Image(np.stack([one, one**2]), grid), layers=2, supervoxels=12)
    assert made.grid.shape == (20, 18, 1)
    assert all(np.array_equal(np.unique(labels), np.arange(13)) for labels in made.labels)


def test_without_scikit_image_it_is_told_what_to_install(scan: Image, monkeypatch):
    monkeypatch.setattr("anamorph.supervoxels.layers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'anamorph\[slicreg\]'"):
        make_layers(scan)


@pytest.mark.parametrize(
    ("folder", "least"),
    [("abdomen_ct", 0.995), ("head_neck_ct", 0.999), ("hippocampus", 0.97), ("fetal_brain_mr", 0.97)],
)
def test_the_body_of_real_scans_holds_what_is_labelled_and_no_air(shared_data: Path, folder: str, least: float):
    for path in sorted((shared_data / folder / "images").glob("*.nii.gz"))[:3]:
        image = read_image(path)
        labelled = read_labels(shared_data / folder / "labels" / path.name).data[0] > 0
        inside = body(image).data[0] > 0
        assert inside[labelled].mean() > least
        assert pieces_of(inside) == 1
        if folder == "abdomen_ct":
            assert (image.data[0][~inside] < -300).mean() > 0.97
            assert (inside & (image.data[0] == image.data.min())).sum() < 0.02 * inside.sum()


def test_the_least_join_their_smallest_neighbours_and_take_along_what_joined_them():
    sizes = {1: 5, 2: 1, 3: 2, 4: 4, 5: 9}
    line = np.repeat(list(sizes), list(sizes.values()))[:, None, None]
    # 2 joins 3, the smaller of its neighbours 1 and 3; the two join 4 rather than 1: what was 2 ends where 4 is.
    np.testing.assert_array_equal(
        np.unique(merge_smallest(line, 4)[line == 2]), np.unique(merge_smallest(line, 4)[line == 3])
    )
    merged = merge_smallest(line, 3)
    assert [int(np.unique(merged[line == n]).item()) for n in sizes] == [1, 2, 2, 2, 3]
    np.testing.assert_array_equal(merge_smallest(line, 5), line)
    assert len(np.unique(merge_smallest(line, 1))) == 1


def test_merging_agrees_with_the_rule_carried_out_on_the_map():
    """The rule on whole label maps: relabel the smallest piece as its smallest neighbour, look again."""
    rng = np.random.default_rng(1)
    pieces = split_pieces(rng.integers(0, 5, (9, 8, 7)))
    expected = pieces.copy()
    for _ in range(pieces.max() - 30):
        sizes = {n: int((expected == n).sum()) for n in np.unique(expected) if n > 0}
        edges = touching(expected)
        for n in sorted(sizes, key=lambda n: (sizes[n], n)):
            around = {int(other) for pair in edges if n in pair for other in pair} - {n}
            if around:
                break
        expected[expected == n] = min(around, key=lambda other: (sizes[other], other))
    ours = merge_smallest(pieces, 30)
    assert ours.max() == 30
    pairs = np.unique(np.stack([ours.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == 31  # background and 30 labels correspond one to one


def test_parts_that_touch_nothing_cannot_be_merged():
    islands = np.zeros((9, 1, 1), int)
    islands[::2, 0, 0] = np.arange(1, 6)
    with pytest.raises(UserError, match="5 separate parts, more than 4"):
        merge_smallest(islands, 4)
    np.testing.assert_array_equal(merge_smallest(islands, 5), islands)


def test_pieces_are_of_one_value_and_touch_across_faces():
    values = np.array([[1, 1, 0], [2, 1, 0], [1, 0, 2]])[..., None]
    np.testing.assert_array_equal(split_pieces(values)[..., 0], [[1, 1, 0], [2, 1, 0], [3, 0, 4]])


def test_compactness_counts_in_the_unit_of_the_image():
    """A step in intensity that is worth less than a step in space is not followed, one that is worth more is."""
    image = np.zeros((1, 12, 12, 12), np.float32)
    image[:, 4:] = 1
    mask = np.ones(image.shape[1:], bool)
    mixed = [
        sum(len(np.unique(image[0][segments == n])) > 1 for n in np.unique(segments))
        for segments in (slic_segments(image * scale, mask, 8, 1.5) for scale in (0.01, 30.0))
    ]
    assert mixed[0] > 0
    assert mixed[1] == 0


def test_the_jitter_is_small_in_halves_of_the_field_of_view():
    grid = Grid((40, 30, 50), OBLIQUE)
    rng = np.random.default_rng(0)
    centre, corner = np.array([19.5, 14.5, 24.5]), np.array([39.5, 29.5, 49.5])
    half = np.array(grid.shape) / 2
    moves = [jitter(grid, 0.05, rng) for _ in range(400)]
    ends = grid.voxel_to_world(np.stack([centre, corner]))
    moved = np.stack([(grid.world_to_voxel(move.map_world(ends)) - [centre, corner]) / half for move in moves])
    np.testing.assert_allclose(moved[:, 0].std(axis=0), 0.05, rtol=0.12)
    np.testing.assert_allclose(moved[:, 1].std(axis=0), 0.1, rtol=0.12)  # translation and three columns
    assert np.array_equal(jitter(grid, 0.0, rng).matrix.round(12), np.eye(4))


def test_the_body_is_one_piece_without_table_and_without_holes():
    grid = Grid((40, 40, 30), np.diag([4.0, 4, 4, 1]))
    i, j, _ = np.indices(grid.shape)
    torso = np.hypot(i - 20, j - 16) < 12
    lungs = np.hypot(i - 15, j - 16) < 4  # open at both ends of the scan
    table = (j == 32) | (j == 33)
    data = np.where((torso & ~lungs) | table, 40, -1000).astype(np.int16)
    data[0, 0, 0] = 400
    found = body(Image(data, grid)).data[0] > 0
    assert found[lungs].all()
    assert not found[table].any()
    assert (found != torso).mean() < 0.01


def test_a_scan_that_is_all_tissue_is_all_body():
    rng = np.random.default_rng(2)
    smooth = 500 + 100 * np.cos(np.indices((20, 24, 18)).sum(axis=0) / 5) + rng.normal(0, 10, (20, 24, 18))
    data = smooth.astype(np.float32)
    data[:, :4] = 0
    found = body(Image(data, Grid(data.shape, np.eye(4)))).data[0] > 0
    assert not found[:, :4].any()
    assert found[:, 4:].all()


def test_the_published_mask_reaches_60_mm_around_organs():
    grid = Grid((41, 41, 41), np.diag([4.0, 4, 5, 1]))
    organ = np.zeros(grid.shape, np.uint8)
    organ[20, 20, 20] = 3
    distance = np.linalg.norm((np.stack(np.indices(grid.shape), -1) - 20) * (4, 4, 5), axis=-1)
    np.testing.assert_array_equal(near_organs(Labels(organ, grid)).data[0] > 0, distance < 60)
    with pytest.raises(UserError, match="holds no label"):
        near_organs(Labels(np.zeros_like(organ), grid, "empty"))


def test_layers_follow_a_transform_and_end_where_the_template_ends(layers: Layers):
    step = layers.grid.affine[:3, 0] * 2
    warped = warp_layers(layers, Affine.translation(step), layers.grid)
    np.testing.assert_array_equal(warped.labels[:, :-2], layers.labels[:, 2:])
    assert not warped.labels[:, -2:].any()
    assert warped.supervoxels == COUNT
    finer = layers.grid.resampled(6.0)
    np.testing.assert_array_equal(
        warp_layers(layers, Affine.identity(), finer).labels[:, ::2, 1::2, ::2], layers.labels
    )


def test_files_hold_the_layers_their_grid_and_how_they_were_made(layers: Layers, tmp_path: Path):
    save_layers(layers, tmp_path / "a.npz")
    read = load_layers(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.labels, layers.labels)
    assert read.grid == layers.grid
    assert read.provenance == json.loads(json.dumps(layers.provenance))
    assert read.provenance["seed"] == 5
    with pytest.raises(UserError, match=r"must end in \.npz"):
        save_layers(layers, tmp_path / "a.nii.gz")


def test_other_files_are_no_layers(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_layers(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(UserError, match=r"text.npz: cannot be read as layers"):
        load_layers(tmp_path / "text.npz")
    np.savez(tmp_path / "pickle.npz", labels=np.array([{}], object), affine=np.eye(4), about=np.array("{}"))
    with pytest.raises(UserError, match="cannot be read as layers"):
        load_layers(tmp_path / "pickle.npz")
    np.savez(tmp_path / "old.npz", labels=np.zeros((1, 2, 2, 2), np.uint8), affine=np.eye(4), about=np.array("{}"))
    with pytest.raises(UserError, match="is of format None"):
        load_layers(tmp_path / "old.npz")
