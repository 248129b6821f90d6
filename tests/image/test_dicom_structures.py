"""Structure sets, segmentations and doses of DICOM as labels, masks and images on the grid of their scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Outline

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.polygons import coverage, fill, trace
from anamorph.image.image import Image, Labels
from anamorph.image.read import read_image, read_labels, read_mask
from anamorph.image.structures import matched_by_name
from anamorph.registration.request import Request
from dicom_files import UID, classic_series, ramp
from geometries import rotation
from radiotherapy_files import FRAME, ct_series, dose_file, outlines, segmentation, sphere, structure_set

VOXELS = (36, 30, 20)


def scan(folder: Path, **options) -> Image:
    ct_series(folder, ramp(*VOXELS[::-1]), **options)
    return read_image(f"{folder}::{UID}7")


def refused(source: object, **options) -> str:
    with pytest.raises(UserError) as caught:
        read_labels(source, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


# ---- polygons ----


def star(points: int, seed: int) -> np.ndarray:
    """A polygon that crosses itself or not, with vertices on and off voxels."""
    random = np.random.default_rng(seed)
    return np.round(random.uniform(-3, 24, (points, 2)), random.integers(0, 3))


@pytest.mark.parametrize("seed", range(8))
def test_voxels_are_inside_a_polygon_where_matplotlib_says_so(seed: int) -> None:
    polygon = star(3 + seed, seed)
    voxels = np.moveaxis(np.indices((20, 15)), 0, -1).reshape(-1, 2)
    filled = fill([polygon], (20, 15)).ravel()
    # Off the edges, where either answer would do; Matplotlib fills by the same even-odd rule.
    closed = np.vstack([polygon, polygon[:1]])
    theirs = [Outline(closed).contains_points(voxels, radius=r) for r in (-1e-6, 1e-6)]
    certain = theirs[0] == theirs[1]
    np.testing.assert_array_equal(filled[certain], theirs[0][certain])


def test_inner_outlines_are_holes_and_islands_in_them_are_not() -> None:
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    filled = fill([8.2 * square + 10, 5.2 * square + 10, 2.2 * square + 10], (21, 21))
    assert filled.sum() == 17**2 - 11**2 + 5**2


def test_the_covered_share_of_a_circle_is_its_area() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.column_stack([10.3 + 6.1 * np.cos(angle), 9.8 + 6.1 * np.sin(angle)])
    assert coverage([circle], (20, 20), 8).sum() == pytest.approx(np.pi * 6.1**2, rel=2e-3)


def test_the_covered_share_of_a_shape_that_leaves_the_slice_is_that_of_its_voxels() -> None:
    square = np.array([[-4.0, 2.25], [3.5, 2.25], [3.5, 30], [-4, 30]])
    expected = np.zeros((8, 6))
    expected[:4, 3:], expected[:4, 2] = 1, 0.25
    np.testing.assert_allclose(coverage([square], (8, 6)), expected)
    assert not coverage([square + 50], (8, 6)).any()


@pytest.mark.parametrize("seed", range(4))
def test_what_was_traced_fills_to_the_same_voxels(seed: int) -> None:
    mask = np.random.default_rng(seed).random((14, 11)) > 0.6
    np.testing.assert_array_equal(fill(trace(mask), mask.shape), mask)


# ---- structure sets ----


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -10, 35)])
def test_a_sphere_is_filled_to_less_than_a_voxel(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    turned = rotation(angles)
    image = scan(tmp_path, orientation=(*turned[:, 0], *turned[:, 1]))
    centre = image.grid.voxel_to_world([[17.3, 14.6, 9.2]])[0]
    depth = sphere(image.grid, centre, 22.0)
    structure_set(tmp_path / "rs.dcm", {"Liver": outlines(image.grid, depth)})
    labels = read_labels(tmp_path)
    assert [(one.label, one.name, one.colour) for one in labels.structures] == [(1, "Liver", (255, 10, 0))]
    assert labels.grid == image.grid
    wrong = (labels.data[0] == 1) != (depth > 0)
    assert abs(depth[wrong]).max(initial=0) < 0.15 < image.grid.finest_mm
    mask = read_mask(f"{tmp_path}::RTSTRUCT", scan=image)
    voxel_ml = abs(np.linalg.det(image.grid.affine[:3, :3])) / 1000
    assert mask.data.sum() * voxel_ml == pytest.approx(4 / 3 * np.pi * 2.2**3, rel=0.02)
    # SimpleITK measures the centroid of the voxels where the sphere is.
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.Cast(labels.to_simpleitk(), sitk.sitkUInt8))
    assert np.linalg.norm(np.array(shape.GetCentroid(1)) * [-1, -1, 1] - centre) < 0.25


def test_holes_and_several_contours_of_a_slice(tmp_path: Path) -> None:
    image = scan(tmp_path)
    grid = image.grid
    outer = sphere(grid, grid.voxel_to_world([[17, 14, 9]])[0], 24.0)
    inner = sphere(grid, grid.voxel_to_world([[17, 14, 9]])[0], 12.0)
    apart = sphere(grid, grid.voxel_to_world([[32, 26, 9]])[0], 5.0)
    shell = outlines(grid, outer) + outlines(grid, inner) + outlines(grid, apart)
    structure_set(tmp_path / "rs.dcm", {"Shell": shell})
    expected = ((outer > 0) & (inner <= 0)) | (apart > 0)
    found = read_labels(tmp_path).data[0] != 0
    assert np.count_nonzero(found != expected) < 0.01 * expected.sum()


def test_smaller_structures_are_seen_over_larger_ones_and_a_note_says_so(tmp_path: Path) -> None:
    image = scan(tmp_path)
    middle = image.grid.voxel_to_world([[17, 14, 9]])[0]
    body, organ = sphere(image.grid, middle, 28.0), sphere(image.grid, middle, 15.0)
    path = structure_set(
        tmp_path / "rs.dcm",
        {"Organ": outlines(image.grid, organ), "Body": outlines(image.grid, body)},
        numbers={"Organ": 7, "Body": 3},
    )
    labels = read_labels(path, scan=image)
    assert labels.present() == [3, 7]
    assert abs(np.count_nonzero(labels.data == 7) - np.count_nonzero(organ > 0)) < 10
    assert "16 % of 'Body' lies under smaller structures" in labels.notes[-1]
    alone = read_labels(f"{path}::roi=body", scan=image)
    assert alone.present() == [3]
    assert abs(np.count_nonzero(alone.data) - np.count_nonzero(body > 0)) < 40
    assert "no structure 'spleen'; there is Organ, Body" in refused(f"{path}::roi=spleen", scan=image)


def test_structures_are_compared_by_name(tmp_path: Path) -> None:
    image = scan(tmp_path / "a")
    shapes = {
        name: outlines(image.grid, sphere(image.grid, image.grid.voxel_to_world([[i, 14, 9]])[0], 12.0))
        for name, i in (("Left", 8), ("Right", 24))
    }
    one = structure_set(tmp_path / "a" / "rs.dcm", shapes)
    other = structure_set(tmp_path / "b" / "rs.dcm", {name.upper(): shapes[name] for name in ("Right", "Left")})
    fixed, moving = read_labels(one), read_labels(other, scan=image)
    assert not np.array_equal(fixed.data, moving.data)
    np.testing.assert_array_equal(matched_by_name(moving, fixed).data, fixed.data)
    numbers = Labels(moving.data, moving.grid)
    assert matched_by_name(numbers, fixed) is numbers
    folder = str(tmp_path / "a")
    inputs = Request(folder, folder, fixed_labels=one, moving_labels=other).read()
    np.testing.assert_array_equal(inputs.moving_labels.data, inputs.fixed_labels.data)
    assert "1 Left, 2 Right" in inputs.label_notes[0]


# ---- what does not fit ----


def ball(image: Image, lift_mm: float = 0.0) -> list[np.ndarray]:
    middle = image.grid.voxel_to_world([[17, 14, 9]])[0]
    return [line + np.array([0, 0, lift_mm]) for line in outlines(image.grid, sphere(image.grid, middle, 15.0))]


def test_contours_of_another_frame_of_reference_are_refused(tmp_path: Path) -> None:
    image = scan(tmp_path / "ct")
    path = structure_set(tmp_path / "rs.dcm", {"Organ": ball(image)}, frame="1.2.3")
    assert f"its frame of reference (1.2.3) is not that of the scan ({FRAME})" in refused(path, scan=image)
    mixed = structure_set(tmp_path / "mixed.dcm", {"A": ball(image), "B": ball(image)}, frames={"B": "1.2.3"})
    assert read_labels(mixed, scan=image).structures[0].name == "A"
    unknown = Image(image.data, image.grid)
    assert "contours in 2 frames of reference" in refused(mixed, scan=unknown)


def test_contours_between_slices_are_refused(tmp_path: Path) -> None:
    image = scan(tmp_path / "ct")
    path = structure_set(tmp_path / "rs.dcm", {"Organ": ball(image, lift_mm=1.5)})
    assert "the contours of 'Organ' lie on other slices than the scan's (1.5 mm off)" in refused(path, scan=image)
    tilted = [line @ rotation((20, 0, 0)).T for line in ball(image)]
    structure_set(path, {"Organ": tilted})
    assert "run across the slices of the scan" in refused(path, scan=image)
    structure_set(path, {"Organ": ball(image, lift_mm=400.0)})
    assert "no contour lies where the scan is" in refused(path, scan=image)


def test_contours_drawn_on_another_series_are_filled_there_and_resampled_when_asked(tmp_path: Path) -> None:
    plan = scan(tmp_path / "plan")
    path = structure_set(tmp_path / "plan" / "rs.dcm", {"Organ": ball(plan)})
    thick = ramp(9, 30, 36)
    ct_series(tmp_path / "other", thick, series="8", spacing_mm=(2.0, 3.0, 7.0))
    other = read_image(tmp_path / "other")
    assert read_labels(path, scan=other).grid == plan.grid
    request = Request(str(tmp_path / "other"), str(tmp_path / "other"), fixed_labels=path, moving_labels=path)
    with pytest.raises(UserError, match="pass --resample"):
        request.read()


def test_open_contours_and_points_are_left_out(tmp_path: Path) -> None:
    image = scan(tmp_path)
    shapes = {"Organ": ball(image), "Catheter": ball(image)[:2], "Iso": [ball(image)[0][:1]]}
    path = structure_set(tmp_path / "rs.dcm", shapes, kinds={"Catheter": "OPEN_NONPLANAR", "Iso": "POINT"})
    labels = read_labels(path)
    assert [one.name for one in labels.structures] == ["Organ"]
    assert "left out regions without closed contours: Catheter, Iso" in labels.notes[1]
    structure_set(path, {"Catheter": shapes["Catheter"]}, kinds={"Catheter": "OPEN_PLANAR"})
    assert "no closed contours, which alone hold voxels, but OPEN_PLANAR" in refused(path)


def test_slices_without_a_contour_are_left_empty_and_named(tmp_path: Path) -> None:
    image = scan(tmp_path)
    structure_set(tmp_path / "rs.dcm", {"Organ": ball(image)[::2]})
    labels = read_labels(tmp_path)
    assert "slices without a contour between others are left empty: Organ" in labels.notes[1]
    assert not labels.data[0][:, :, 9].any() or not labels.data[0][:, :, 8].any()


def test_contours_without_their_scan_ask_for_it(tmp_path: Path) -> None:
    image = scan(tmp_path / "ct")
    path = structure_set(tmp_path / "rs.dcm", {"Organ": ball(image)})
    assert "put the series into the same folder, or name the scan" in refused(path)


def test_damaged_structure_sets_give_one_line(tmp_path: Path) -> None:
    image = scan(tmp_path)
    path = structure_set(tmp_path / "rs.dcm", {"Organ": ball(image)})
    sound = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(20):
        broken = bytearray(sound)
        for place in random.integers(200, len(sound), 6):
            broken[place] = random.integers(256)
        path.write_bytes(bytes(broken))
        line = ""
        try:
            read_labels(path, scan=image)
        except UserError as error:
            line = str(error)
        assert "\n" not in line


# ---- segmentations ----


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -10, 35)])
def test_segments_lie_at_the_voxels_of_their_scan(tmp_path: Path, kind: str, angles: tuple[float, ...]) -> None:
    pytest.importorskip("highdicom")
    turned = rotation(angles)
    image = scan(tmp_path, orientation=(*turned[:, 0], *turned[:, 1]))
    masks = {
        name: sphere(image.grid, image.grid.voxel_to_world([[i, 14, 9]])[0], 10.0) > 0
        for name, i in (("Liver", 9), ("Spleen", 24))
    }
    path = segmentation(tmp_path / "seg.dcm", tmp_path, masks, kind)
    labels = read_labels(path, scan=image)
    assert labels.grid == image.grid
    np.testing.assert_array_equal(labels.data[0], masks["Liver"] + 2 * masks["Spleen"])
    assert [one.name for one in labels.structures] == ["Liver", "Spleen"]
    assert np.abs(np.subtract(labels.structures[1].colour, (10, 200, 30))).max() <= 3
    alone = read_labels(f"{path}::roi=spleen")  # without the scan on its own grid, which the slices of liver shape
    assert alone.present() == [2]
    places = alone.grid.voxel_to_world(np.argwhere(alone.data[0] == 2))
    expected = image.grid.voxel_to_world(np.argwhere(masks["Spleen"]))
    assert np.linalg.norm(places.mean(axis=0) - expected.mean(axis=0)) < 0.01
    elsewhere = Image(image.data, image.grid, frame_uid="1.2.3")
    assert "is not that of the scan (1.2.3)" in refused(path, scan=elsewhere)


def test_a_damaged_segmentation_gives_one_line(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    image = scan(tmp_path)
    path = segmentation(tmp_path / "seg.dcm", tmp_path, {"Liver": image.data[0] > 900}, "BINARY")
    path.write_bytes(path.read_bytes()[:-2000])
    assert "a segmentation that cannot be read" in refused(path, scan=image)


# ---- folders with several series ----


def test_a_folder_of_a_plan_is_read_as_its_scan_and_its_labels(tmp_path: Path) -> None:
    image = scan(tmp_path)
    structure_set(tmp_path / "rs.dcm", {"Organ": ball(image)})
    gray = sphere(image.grid, image.grid.centre_mm, 60.0).clip(0)
    coarse = Grid((12, 10, 6), np.diag([-5.0, -5.0, 9.0, 1.0]) + np.array([[0, 0, 0, 3.0]] * 3 + [[0] * 4]))
    dose_file(tmp_path / "rd.dcm", np.resize(gray, coarse.shape), coarse)
    assert read_image(tmp_path).grid == image.grid
    assert read_labels(tmp_path).grid == image.grid
    dose = read_image(f"{tmp_path}::RTDOSE")
    assert dose.grid.matches(coarse)
    np.testing.assert_allclose(dose.data[0], np.resize(gray, coarse.shape), atol=1e-3)
    assert dose.frame_uid == FRAME


@pytest.mark.parametrize("words", [f"{UID}8", "8", "series 8", "RIES 8", "MR"])
def test_series_are_chosen_by_uid_number_description_or_modality(tmp_path: Path, words: str) -> None:
    ct_series(tmp_path, ramp(4))
    ct_series(tmp_path, ramp(6), series="8", Modality="MR")
    line = refused(tmp_path)
    assert f"2 DICOM series: {UID}7 (7 CT series 7, 4 files); {UID}8 (8 MR series 8, 6 files)" in line
    assert read_image(f"{tmp_path}::{words}").grid.shape[2] == 6


def test_slices_in_several_frames_of_reference_are_refused(tmp_path: Path) -> None:
    classic_series(tmp_path, ramp(4), each=lambda n: {"FrameOfReferenceUID": f"1.2.{n // 2}"})
    assert "slices of one series in 2 frames of reference (1.2.0, 1.2.1)" in refused(tmp_path)
