from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.image import Points
from anamorph.image.read import read_image, read_points
from anamorph.image.write import write_points
from geometries import GRIDS

GRID = GRIDS["oblique"]
VOXELS = np.array([[1.0, 2, 3], [4, 5, 6], [10, 11, 12]])
POINTS = Points.from_voxel(VOXELS, GRID, ("liver dome", "L1, left", "apex"))
RAS, LPS = POINTS.positions_mm, POINTS.positions_mm * (-1, -1, 1)


def text_file(path: Path, header: str, rows: np.ndarray, separator: str = ",") -> Path:
    lines = [separator.join(f"{v:.9g}" for v in row) for row in rows]
    path.write_text("\n".join(([header] if header else []) + lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("x,y,z", RAS),
        ("x_ras,y_ras,z_ras", RAS),
        ("X_LPS,Y_LPS,Z_LPS", LPS),
        ("# frame: LPS\nx,y,z", LPS),
        ("# CoordinateSystem = RAS\nx,y,z", RAS),
        ("i,j,k", VOXELS),
        ("", VOXELS),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_frames(tmp_path: Path, header: str, rows: np.ndarray, separator: str) -> None:
    path = text_file(tmp_path / "p.csv", header.replace(",", separator), rows, separator)
    points = read_points(path, GRID)
    np.testing.assert_allclose(points.positions_mm, RAS, atol=1e-5)
    assert points.labels == ()


def test_csv_frame_column_argument_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{x},{y},{z},LPS,p{n}" for n, (x, y, z) in enumerate(LPS)]
    path.write_text("\n".join(["x,y,z,frame,name", *rows]))
    points = read_points(path)
    np.testing.assert_allclose(points.positions_mm, RAS)
    assert points.labels == ("p0", "p1", "p2")
    plain = text_file(tmp_path / "plain.csv", "x,y,z", VOXELS)
    np.testing.assert_allclose(read_points(plain, GRID, frame="voxel").positions_mm, RAS)


@pytest.mark.parametrize("suffix", [".csv", ".fcsv", ".mrk.json"])
def test_written_points_are_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    write_points(POINTS, path)
    again = read_points(path)
    np.testing.assert_allclose(again.positions_mm, RAS, atol=1e-5)
    expected = [label.replace(",", " ") if suffix == ".fcsv" else label for label in POINTS.labels]
    assert list(again.labels) == expected
    write_points(Points(RAS), path)
    assert read_points(path).labels == ("1", "2", "3")


def test_slicer_files_are_lps_and_say_so(tmp_path: Path) -> None:
    write_points(POINTS, tmp_path / "p.mrk.json")
    markup = json.loads((tmp_path / "p.mrk.json").read_text())["markups"][0]
    assert markup["coordinateSystem"] == "LPS"
    np.testing.assert_allclose(markup["controlPoints"][1]["position"], LPS[1], atol=1e-5)
    write_points(POINTS, tmp_path / "p.fcsv")
    lines = (tmp_path / "p.fcsv").read_text().splitlines()
    assert "# CoordinateSystem = LPS" in lines
    np.testing.assert_allclose([float(v) for v in lines[4].split(",")[1:4]], LPS[1], atol=1e-5)


@pytest.mark.parametrize(("word", "rows"), [("RAS", RAS), ("0", RAS), ("LPS", LPS), ("1", LPS)])
def test_fcsv_coordinate_systems(tmp_path: Path, word: str, rows: np.ndarray) -> None:
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    lines = [f"vtk_{n},{x},{y},{z},0,0,0,1,1,1,0,F-{n},," for n, (x, y, z) in enumerate(rows)]
    path = tmp_path / "p.fcsv"
    path.write_text(
        "\n".join(["# Markups fiducial file version = 4.10", f"# CoordinateSystem = {word}", columns, *lines])
    )
    np.testing.assert_allclose(read_points(path).positions_mm, RAS)
    assert read_points(path).labels == ("F-0", "F-1", "F-2")


def test_markups_in_ras_without_undefined_points(tmp_path: Path) -> None:
    control = [{"label": f"F-{n}", "position": p.tolist(), "positionStatus": "defined"} for n, p in enumerate(RAS)]
    control.insert(1, {"label": "preview", "position": [0, 0, 0], "positionStatus": "undefined"})
    path = tmp_path / "p.mrk.json"
    path.write_text(json.dumps({"markups": [{"coordinateSystem": "RAS", "controlPoints": control}]}))
    np.testing.assert_allclose(read_points(path).positions_mm, RAS)


def test_elastix_text(tmp_path: Path) -> None:
    index = text_file(tmp_path / "index.txt", "index\n3", VOXELS, " ")
    np.testing.assert_allclose(read_points(index, GRID).positions_mm, RAS)
    with pytest.raises(UserError, match="voxel indices need the image"):
        read_points(index)
    point = text_file(tmp_path / "point.pts", "point\n3", LPS, " ")
    np.testing.assert_allclose(read_points(point).positions_mm, RAS, atol=1e-5)
    with pytest.raises(UserError, match="announces 4 points but holds 3"):
        read_points(text_file(tmp_path / "short.txt", "point\n4", LPS, " "))


def test_labelled_voxels_are_points_named_by_their_value(tmp_path: Path) -> None:
    volume = np.zeros(GRID.shape, np.float32)
    for value, voxel in zip((5, 2, 11), VOXELS.astype(int), strict=True):
        volume[tuple(voxel)] = value
    nibabel.Nifti1Image(volume, GRID.affine).to_filename(tmp_path / "p.nii.gz")
    points = read_points(tmp_path / "p.nii.gz")
    assert points.labels == ("2", "5", "11")
    np.testing.assert_allclose(points.positions_mm, RAS[[1, 0, 2]], atol=1e-4)


def test_voxel_indices_are_written_when_a_grid_is_given(tmp_path: Path) -> None:
    write_points(POINTS, tmp_path / "p.csv", GRID)
    assert (tmp_path / "p.csv").read_text().startswith("label,i,j,k\n")
    np.testing.assert_allclose(read_points(tmp_path / "p.csv", GRID).positions_mm, RAS, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "a,b,c\n1,2,3\n", "name them x_ras"),
        ("p.csv", "x,y,z\n1,2,three\n", "damaged point file"),
        ("p.csv", "x,y,z\n", "holds no points"),
        ("p.csv", "", "holds no points"),
        ("p.csv", "x,y,z,frame\n1,2,3,RAS\n1,2,3,LPS\n", "mixes coordinate frames"),
        ("p.csv", "# frame: talairach\nx,y,z\n1,2,3\n", "unknown coordinate frame"),
        ("p.csv", "i,j,k\n1,2,3\n", "need the image"),
        ("p.mrk.json", "{", "damaged point file"),
        ("p.fcsv", "1,2\n", "damaged point file"),
        ("p.txt", "hello\n", "starts with 'index' or 'point'"),
        ("p.xls", "", "unknown point format"),
    ],
)
def test_bad_point_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_points(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_missing_file_and_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_points(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match=r"use \.csv"):
        write_points(POINTS, tmp_path / "p.vtk")


def test_real_landmarks_lie_in_their_scan(shared_data: Path) -> None:
    grid = read_image(shared_data / "lung_ct" / "baseline.mha").grid
    points = read_points(shared_data / "lung_ct" / "baseline_landmarks_vox.txt", grid)
    assert len(points) == 10
    np.testing.assert_allclose(points.to_voxel(grid)[0], [94, 92, 114])
    assert grid.contains(points.positions_mm).all()
