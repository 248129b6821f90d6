from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.image.image import Labels
from anamorph.image.outlines import Outline, read_outlines
from anamorph.image.read import read_points
from anamorph.image.write import write_image
from geometries import GRIDS, isotropic

CORNERS = np.array([[10.0, 20, 30], [40, 20, 30], [40, 60, 30]])


def write_markups(path: Path, kind: str, frame: str = "LPS", corners: np.ndarray = CORNERS, **more: object) -> Path:
    places = corners * (-1, -1, 1) if frame == "LPS" else corners
    points = [{"position": row, "label": str(n)} for n, row in enumerate(places.tolist())]
    markup = {"type": kind, "coordinateSystem": frame, "controlPoints": points, "label": "vessel", **more}
    path.write_text(json.dumps({"markups": [markup]}))
    return path


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize(("kind", "length"), [("Curve", 70.0), ("ClosedCurve", 120.0)])
def test_a_curve_runs_evenly_through_its_points(tmp_path, frame, kind, length):
    (curve,) = read_outlines(write_markups(tmp_path / "c.mrk.json", kind, frame))
    assert curve.name == "vessel"
    steps = np.linalg.norm(np.diff(curve.positions_mm, axis=0), axis=1)
    assert steps.sum() == pytest.approx(length, rel=2e-3)
    assert np.median(steps) == pytest.approx(length / (len(curve.positions_mm) - 1), rel=1e-6)
    np.testing.assert_allclose(curve.positions_mm[0], CORNERS[0])
    np.testing.assert_allclose(curve.positions_mm[-1], CORNERS[0 if kind == "ClosedCurve" else 2])


def test_points_of_a_curve_as_landmarks_are_told(tmp_path):
    points = read_points(write_markups(tmp_path / "c.mrk.json", "Curve"))
    np.testing.assert_allclose(points.positions_mm, CORNERS)
    assert "--fixed-outlines" in points.notes[0]
    assert read_points(write_markups(tmp_path / "f.mrk.json", "Fiducial")).notes == ()


SQUARE = np.array([[0.0, 0, 5], [30, 0, 5], [30, 20, 5], [0, 20, 5]])


@pytest.mark.parametrize("suffix", [".stl", ".vtk", ".ply", ".obj"])
def test_a_mesh_is_covered_by_its_area(tmp_path, suffix):
    meshio = pytest.importorskip("meshio")
    path = tmp_path / f"liver{suffix}"
    # One large and many small triangles: points lie where the surface is, not where the corners are.
    fine = np.array([[x, y, 5.0] for x in np.linspace(0, 3, 12) for y in np.linspace(20, 23, 12)])
    cells = [[n, n + 1, n + 12] for n in range(len(fine) - 13)]
    corners = np.concatenate([SQUARE, fine])
    faces = [[0, 1, 2], [0, 2, 3], *(np.array(cells) + 4).tolist()]
    meshio.write(path, meshio.Mesh(corners, [("triangle", faces)]))
    (found,) = read_outlines(path)
    lps = found.positions_mm * (-1, -1, 1)
    assert found.name == "liver"
    assert "taken as LPS" in found.notes[0]
    np.testing.assert_allclose(lps[:, 2], 5, atol=1e-4)
    assert (lps[:, 1] <= 20.001).mean() > 0.97
    np.testing.assert_allclose(lps[lps[:, 1] <= 20].mean(axis=0), (15, 10, 5), atol=1.5)


def test_a_mesh_says_its_frame_as_slicer_writes_it(tmp_path):
    meshio = pytest.importorskip("meshio")
    path = tmp_path / "one.vtk"
    meshio.write(path, meshio.Mesh(SQUARE, [("quad", [[0, 1, 2, 3]])]), file_format="vtk42", binary=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "3D Slicer output. SPACE=RAS", *lines[2:]]) + "\n")
    (found,) = read_outlines(path)
    assert found.notes == ()
    np.testing.assert_allclose(found.positions_mm.mean(axis=0), (15, 10, 5), atol=1.5)


def test_the_outline_of_a_label_lies_between_its_voxels_and_others(tmp_path):
    grid = GRIDS["oblique"]
    data = np.zeros(grid.shape, np.uint8)
    data[2:6, 3:7, 1:4] = 3
    labels = Labels(data, grid)
    found = grid.world_to_voxel(Outline.of_label(labels, 3).positions_mm)
    low, high = (1.5, 2.5, 0.5), (5.5, 6.5, 3.5)
    np.testing.assert_allclose(found.min(axis=0), low, atol=1e-6)
    np.testing.assert_allclose(found.max(axis=0), high, atol=1e-6)
    assert (np.isclose(found, low) | np.isclose(found, high)).any(axis=1).all()
    write_image(labels, tmp_path / "l.nii.gz")
    (again,) = read_outlines(tmp_path / "l.nii.gz")
    assert again.name == "3"
    with pytest.raises(UserError, match="no label 4"):
        Outline.of_label(labels, 4)


def test_where_a_scan_ends_is_no_outline():
    grid = GRIDS["oblique"]
    data = np.zeros(grid.shape, np.uint8)
    data[:5] = 1
    cut = grid.world_to_voxel(Outline.of_label(Labels(data, grid), 1).positions_mm)
    np.testing.assert_allclose(cut[:, 0], 4.5, atol=1e-6)
    slice_grid = isotropic((20, 20, 1))
    disk = np.zeros(slice_grid.shape, np.uint8)
    disk[5:15, 5:15] = 1
    found = slice_grid.world_to_voxel(Outline.of_label(Labels(disk, slice_grid), 1).positions_mm)
    assert len(found) == 40  # the rim alone
    with pytest.raises(UserError, match="is all 1"):
        Outline.of_label(Labels(np.ones(grid.shape, np.uint8), grid), 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.stl", None, "no such file"),
        ("p.mrk.json", '{"markups": [{"type": "Fiducial", "controlPoints": []}]}', "holds no curve"),
        ("c.mrk.json", '{"markups": [{"type": "Curve", "controlPoints": [{"position": [1, 2, 3]}]}]}', "has 1 points"),
        ("bad.vtk", "no mesh\n", "mesh"),
        ("bad.stl", "", "mesh|surface"),
        ("a.txt", "1 2 3", "cannot be read"),
    ],
)
def test_mistakes_get_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as told:
        read_outlines(path)
    assert name in str(told.value)
    assert "\n" not in str(told.value)


def test_without_meshio_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "meshio", None)
    (tmp_path / "a.stl").write_text("solid")
    with pytest.raises(UserError, match=r"anamorph\[mesh\]"):
        read_outlines(tmp_path / "a.stl")
