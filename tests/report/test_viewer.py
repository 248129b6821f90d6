"""What the viewer of a report is given: volumes, maps, places, landmarks and labels."""

from __future__ import annotations

import gzip
import re
from base64 import b64decode

import nibabel
import numpy as np
import pytest

from anamorph.evaluation.verdict import Verdict
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.report import PairReport
from anamorph.report.colours import FOLD_COLOUR
from anamorph.report.pair import colours_of_labels, render
from anamorph.report.viewer import page
from anamorph.report.viewer.maps import FOLDED, STEPS, mismatch
from anamorph.report.viewer.scene import make_scene
from anamorph.transforms import Affine, Displacement

GRID = Grid((40, 36, 30), np.array([[-2.0, 0, 0, 40], [0, -2, 0, 30], [0, 0, 2.5, -35], [0, 0, 0, 1.0]]))
BUMP = (20, 18, 15)
"""Where the map deforms most."""


def make_report(**changes) -> PairReport:
    """A body of random texture; the map shifts by 20 mm, and by up to 4 mm more around one place."""
    values = np.random.default_rng(0).uniform(100, 200, GRID.shape).astype(np.float32)
    values[:3], values[-3:] = 0, 0
    apart = np.linalg.norm((np.indices(GRID.shape).T - BUMP).T, axis=0)
    vectors = np.zeros((3, *GRID.shape))
    vectors[0] = 20 + 4 * np.exp(-((apart / 4) ** 2))
    there = Displacement.from_world(vectors, GRID)
    labels = np.zeros(GRID.shape, np.uint16)
    labels[10:15, 10:15, 10:15], labels[25:30, 20:25, 15:20] = 7, 2000
    fixed = Image(values[None], GRID, "fixed")
    given = {
        "title": "a pair",
        "fixed": fixed,
        "moving": fixed,
        "verdict": Verdict("PASS", []),
        "warped": fixed,
        "fixed_to_moving": there,
        "moving_to_fixed": Affine.translation([-20.0, 0, 0]),
        "fixed_labels": Labels(labels, GRID),
        "moving_labels": Labels(labels, GRID),
        "warped_labels": Labels(labels, GRID),
        "label_names": {7: "liver"},
        "label_colours": {7: "#123456"},
    }
    return PairReport(**(given | changes))


def scene_of(report: PairReport, most: int = 10**6):
    return make_scene(report, colours_of_labels(report), most, most)


def volume(scene, key: str) -> np.ndarray:
    return np.asarray(nibabel.Nifti1Image.from_bytes(scene.files()[key]).dataobj)


def test_the_place_that_deforms_most_is_found_without_the_shift_of_all():
    scene = scene_of(make_report())
    place = next(one for one in scene.content["places"] if one["key"] == "deformation")
    assert np.linalg.norm(place["ras_mm"] - GRID.voxel_to_world(np.array(BUMP, float))) < 2.6
    assert 2.5 < float(place["value"].split()[0]) < 4
    whole = next(one for one in scene.maps if one.key == "displacement")
    assert whole.values.max() == pytest.approx(24, abs=0.1)
    alone = next(one for one in scene.maps if one.key == "deformation")
    assert alone.values.max() < 4


def test_maps_are_steps_of_their_scale_and_folding_has_its_own():
    determinants = np.full(GRID.shape, 1.0, np.float32)
    determinants[20, 18, 15], determinants[10, 18, 15] = -1, 100
    scene = scene_of(make_report(jacobian=Image(determinants[None], GRID)))
    shown = volume(scene, "jacobian")
    assert shown[20, 18, 15] == FOLDED
    assert shown[10, 18, 15] == STEPS
    assert shown[15, 18, 15] in (STEPS // 2, STEPS // 2 + 1)
    assert shown[0, 18, 15] == 0  # outside the body
    described = next(one for one in scene.described()["maps"] if one["key"] == "jacobian")
    colours = np.frombuffer(bytes.fromhex(described["colours"]), np.uint8).reshape(-1, 3)
    assert len(colours) == STEPS + 2
    assert tuple(colours[-1]) == FOLD_COLOUR


def test_structure_that_is_explained_leaves_nothing():
    values = np.random.default_rng(1).uniform(0, 100, (20, 20, 20)).astype(np.float32)
    assert mismatch(values, values).max() == 0
    other = values.copy()
    other[8:12, 8:12, 8:12] = np.random.default_rng(2).uniform(0, 100, (4, 4, 4))
    found = mismatch(values, other)
    assert np.linalg.norm(np.array(np.unravel_index(found.argmax(), found.shape)) - 9.5) < 4
    assert found[0, 0, 0] == 0


def test_labels_are_counted_named_and_placed():
    scene = scene_of(make_report())
    first, second = scene.content["labels"]
    assert (first["value"], first["name"], first["colour"]) == (7, "liver", "#123456")
    assert (second["value"], second["name"]) == (2000, "")
    assert first["ras_mm"] == pytest.approx(GRID.voxel_to_world(np.array([12.0, 12, 12])).tolist())
    shown = volume(scene, "fixed_labels")
    assert set(np.unique(shown)) == {0, 1, 2}
    assert (shown[25:30, 20:25, 15:20] == 2).all()


def test_landmarks_have_their_errors_and_come_home():
    fixed = Points(np.array([[0.0, 0, 0]]), ("apex",))
    moving = Points(np.array([[20.0, 3, 0]]), ("apex",))
    report = make_report(fixed_points=fixed, moving_points=moving, fixed_to_moving=Affine.translation([20.0, 0, 0]))
    mark = scene_of(report).content["landmarks"][0]
    assert mark["name"] == "apex"
    assert mark["before_mm"] == pytest.approx(np.hypot(20, 3))
    assert mark["after_mm"] == pytest.approx(3)
    assert mark["warped_mm"] == pytest.approx([0, 3, 0])


def test_a_coarser_volume_is_the_scan_averaged_where_it_lies():
    i, j, k = GRID.voxel_to_world(np.moveaxis(np.indices(GRID.shape), 0, -1)).transpose(3, 0, 1, 2)
    ramp = Image((300 + i + 2 * j + 3 * k)[None].astype(np.float32), GRID, "ramp")
    report = make_report(fixed=ramp, warped=ramp, moving=ramp)
    scene = scene_of(report, 6000)
    image = nibabel.Nifti1Image.from_bytes(scene.files()["fixed"])
    assert np.prod(image.shape) <= 6000
    inner = np.array(np.meshgrid(*(np.arange(2, n - 2) for n in image.shape), indexing="ij")).reshape(3, -1).T
    grey = np.asarray(image.dataobj)[tuple(inner.T)].astype(float)
    x, y, z = nibabel.affines.apply_affine(image.affine, inner).T
    truth = 300 + x + 2 * y + 3 * z
    used = (grey > 0) & (grey < 255)
    slope, start = np.polyfit(truth[used], grey[used], 1)
    assert np.abs(start + slope * truth[used] - grey[used]).max() < 1.2  # half a step, and the rounding of 8 bits
    assert scene.content["reduced"].startswith("The volumes have voxels of")


def test_a_page_grows_no_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(page, "MOST_CHARACTERS", 60_000)
    text = render(make_report())
    packed = re.findall(r'id="volume-\w+">([^<]+)<', text)
    assert 20_000 < sum(map(len, packed)) <= 60_000
    first = nibabel.Nifti1Image.from_bytes(gzip.decompress(b64decode(packed[0])))
    assert np.prod(first.shape) < np.prod(GRID.shape)
