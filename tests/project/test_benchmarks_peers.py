"""The evaluation that all tools share, and the runner that survives failures and interruptions."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.__main__ import run  # noqa: E402
from benchmarks.peers.evaluate import hd95, jacobian, target_error, warped  # noqa: E402
from benchmarks.peers.geometry import Geometry  # noqa: E402
from benchmarks.peers.pairs import Pair, prepared, read_points  # noqa: E402
from benchmarks.peers.summary import read_rows, tables  # noqa: E402

SHAPE = (12, 10, 8)
FLIPPED = Geometry(SHAPE, np.array([[-2.0, 0, 0, 30], [0, -1.5, 0, 7], [0, 0, 3.0, -5], [0, 0, 0, 1]]))


def constant_field(vector_mm):
    return np.broadcast_to(np.float32(vector_mm), (*SHAPE, 3))


def test_labels_are_pulled_along_the_displacement():
    moving = np.zeros(SHAPE, np.int32)
    moving[5:8, 4:6, 3:5] = 2
    # +2 mm along x is one voxel back on an axis that runs towards -x; +6 mm along z is two voxels on.
    result = warped(moving, constant_field((2, 0, 6)), FLIPPED, FLIPPED)
    expected = np.zeros(SHAPE, np.int32)
    expected[6:9, 4:6, 1:3] = 2
    np.testing.assert_array_equal(result, expected)


def test_jacobian_of_a_uniform_scaling_and_of_a_mirror():
    vox = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1).astype(float)
    world = FLIPPED.to_world(vox)
    np.testing.assert_allclose(FLIPPED.to_voxel(world), vox, atol=1e-12)
    scaled = jacobian((0.2 * world).astype(np.float32), FLIPPED)
    assert scaled == pytest.approx({"sdlogj": 0, "folding_percent": 0}, abs=1e-4)
    mirrored = np.where(np.arange(3) == 1, -2 * world, 0).astype(np.float32)
    assert jacobian(mirrored, FLIPPED)["folding_percent"] == 100
    # det J is 1.5 in one half and 1 in the other, apart from the plane between them.
    half = np.zeros((*SHAPE, 3), np.float32)
    half[6:, :, :, 0] = -2 * 0.5 * (np.arange(6) + 0.5)[:, None, None]
    dets = np.array([1] * 4 + [1.125, 1.375] + [1.5] * 4)
    assert jacobian(half, FLIPPED)["sdlogj"] == pytest.approx(np.log(dets).std(), abs=0.05)


def test_surface_distance_is_in_millimetres_and_the_diagonal_for_a_vanished_organ():
    a, b = np.zeros((2, 20, 20, 20), bool)
    a[5:10, 5:10, 5:10] = True
    b[8:13, 5:10, 5:10] = True
    geometry = Geometry((20, 20, 20), np.diag([2.0, 1.0, 1.0, 1.0]))
    assert hd95(a, a, geometry) == 0
    assert hd95(a, b, geometry) == 6
    assert hd95(a, np.zeros_like(a), geometry) == pytest.approx(np.sqrt(40**2 + 20**2 + 20**2))


def test_landmarks_are_matched_by_name_and_follow_the_field():
    fixed_points = {1: np.array([2.0, 3, 4]), 2: np.array([5.0, 5, 5]), 9: np.zeros(3)}
    moving_points = {2: np.array([5.0, 5, 5]), 1: np.array([2.0, 3, 4])}
    error = target_error(fixed_points, moving_points, constant_field((3, 4, 0)), FLIPPED, FLIPPED)
    assert error == pytest.approx(5)


def test_point_files_and_point_images(tmp_path):
    (tmp_path / "points.txt").write_text("index\n2\n4 5 6\n7 8 9\n")
    points = read_points(tmp_path / "points.txt")
    np.testing.assert_array_equal([points[1], points[2]], [[4, 5, 6], [7, 8, 9]])
    image = np.zeros((8, 10, 12), np.uint8)
    image[6, 5, 4] = 11
    sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "points.nii.gz"))
    np.testing.assert_array_equal(read_points(tmp_path / "points.nii.gz")[11], [4, 5, 6])


def write(path, array, origin=(0.0, 0.0, 0.0)):
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def pair(tmp_path):
    values = np.random.default_rng(0).random((8, 10, 12)).astype(np.float32)
    labels = (values > 0.5).astype(np.uint8)
    files = {
        "fixed": write(tmp_path / "fixed.nii.gz", values),
        "moving": write(tmp_path / "moving.nii.gz", 1000 * values, (100.0, 0.0, 0.0)),
        "fixed_labels": write(tmp_path / "fixed_labels.nii.gz", labels),
        "moving_labels": write(tmp_path / "moving_labels.nii.gz", labels),
    }
    return Pair("hippocampus", "a__b", files)


def test_pairs_without_world_position_start_from_aligned_centres_and_one_intensity_scale(pair, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    fixed, moving = prepared(pair, start)
    np.testing.assert_allclose(Geometry.of_file(fixed).affine, Geometry.of_file(moving).affine)
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (fixed, moving)]
    np.testing.assert_allclose(*arrays, atol=1e-2)


def test_runner_records_results_and_failures_once(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    odd = write(tmp_path / "odd.nii.gz", np.ones((3, 3, 3), np.uint8))
    broken = Pair("hippocampus", "a__c", pair.files | {"moving_labels": odd})
    results = tmp_path / "results.csv"
    for _ in range(2):
        run([pair, broken], ["identity"], results, threads=1, timeout_s=60)
    good, bad = read_rows(results)
    assert (good["dice"], good["hd95_mm"], good["folding_percent"], good["error"]) == ("1.0000", "0.0000", "0.0000", "")
    assert float(good["process_s"]) > float(good["registration_s"]) >= 0
    assert float(good["peak_mb"]) > 10
    assert "(3, 3, 3)" in bad["error"]
    assert bad["dice"] == ""
    assert "| 1 | 1 | 1.000 | 0.00 |" in tables(read_rows(results))


def test_every_pair_list_names_each_pair_once_with_relative_paths():
    for path in (ROOT / "benchmarks" / "pairs").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len({row["pair_id"] for row in rows}) == len(rows) > 0
        for row in rows:
            assert row["fixed"] != row["moving"]
            assert all(
                value.startswith(f"{path.stem}/")
                for key, value in row.items()
                if key[:5] in ("fixed", "movin") and value
            )
