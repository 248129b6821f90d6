from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
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
    assert again.labels == POINTS.labels
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


ANTS = "x,y,z,t,label,comment\n" + "".join(f"{x},{y},{z},0,p{n},\n" for n, (x, y, z) in enumerate(LPS))


def test_tables_of_ants_are_lps_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(ANTS)
    points = read_points(path)
    np.testing.assert_allclose(points.positions_mm, RAS, atol=1e-5)
    assert points.labels == ("p0", "p1", "p2")
    assert "p.csv: columns x,y,z,t are those of ANTs, so taken as LPS mm" in points.notes[0]
    path.write_text("# frame: RAS\n" + ANTS)
    stated = read_points(path)
    np.testing.assert_allclose(stated.positions_mm, LPS, atol=1e-5)
    assert stated.notes == ()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("# lps", RAS),
        ("#LPS", RAS),
        ("# RAS", LPS),
        ("# points in LPS mm", RAS),
        ("# coordinate system: lps", RAS),
        ("# space = left-posterior-superior", RAS),
        ("// frame: ras", LPS),
    ],
)
@pytest.mark.parametrize("heading", ["x,y,z\n", ""])
def test_first_lines_state_the_frame(tmp_path: Path, first: str, expected: np.ndarray, heading: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"{first}\n{heading}" + "".join(f"{x},{y},{z}\n" for x, y, z in LPS))
    np.testing.assert_allclose(read_points(path).positions_mm, expected, atol=1e-5)


def test_text_may_be_a_table_and_elastix_may_state_its_frame(tmp_path: Path) -> None:
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in LPS)
    for name, text, expected in (
        ("a.txt", f"# lps\n{rows}", RAS),
        ("b.txt", f"x y z\n{rows}", LPS),
        ("c.pts", f"# RAS\npoint\n3\n{rows}", LPS),
    ):
        (tmp_path / name).write_text(text)
        np.testing.assert_allclose(read_points(tmp_path / name).positions_mm, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "# RAS to LPS\nx,y,z\n1,2,3\n", "name both RAS and LPS"),
        ("p.csv", "# lps\nx_ras,y_ras,z_ras\n1,2,3\n", "are ras, but the file says lps"),
        ("p.csv", "x,y,z\n1,2,3\n4,5\n", "row 3 has 2 columns"),
        ("p.csv", "x,y,z\n1,2,nan\n", "not finite numbers"),
        ("p.csv", "x,y,z\n1,2,1e300\n", "not finite numbers"),
        ("p.csv", b"x,y,z\n" + b"\xff\xfe1,2,3\n", "damaged point file"),
        ("p.csv", "x,y,z\n1,2,3\n".encode("utf-16"), "damaged point file"),
        ("p.fcsv", "# columns = id,label\n1,a\n", "damaged point file"),
        ("p.txt", "point\n-1\n", "announces -1 points but holds 0"),
        ("p.txt", "point\n99999999999\n1 2 3\n", "announces 99999999999 points but holds 1"),
        ("p.txt", "point\n1\n1 2\n", "holds 0.666667; is it complete"),
        ("p.mrk.json", "[" * 100_000, "nested too deeply"),
        ("p.mrk.json", "[]", "holds no list of markups"),
        ("p.mrk.json", '{"markups": [[]]}', "holds no list of markups"),
        ("p.mrk.json", '{"markups": [{"controlPoints": null}]}', "'controlPoints' is not what 3D Slicer writes"),
        ("p.mrk.json", '{"markups": [{"controlPoints": [1]}]}', "'controlPoints' is not what 3D Slicer writes"),
        ("p.mrk.json", '{"markups": [{"controlPoints": [{"position": null}]}]}', "'position' is not what"),
        ("p.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, "2", 3]}]}]}', "'position' is not what"),
        ("p.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', "a point has 2 coordinates"),
        ("p.mrk.json", '{"markups": [{"coordinateSystem": [], "controlPoints": []}]}', "unknown coordinate frame"),
        ("p.mrk.json", '{"markups": [{"coordinateUnits": "um", "controlPoints": []}]}', "the points are in um"),
    ],
)
def test_damaged_point_files_give_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        read_points(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("label", ["a,b", 'say "a"', "x;y", "\u00e9\u4e2d", ""])
@pytest.mark.parametrize("suffix", [".csv", ".fcsv", ".mrk.json"])
def test_names_of_points_come_back(tmp_path: Path, suffix: str, label: str) -> None:
    path = tmp_path / f"p{suffix}"
    write_points(Points(RAS, (label, "b", "c")), path)
    assert read_points(path).labels == (() if suffix == ".mrk.json" and not label else (label, "b", "c"))


@pytest.mark.parametrize("label", ["two\nlines", "# a comment", "half \ud800"])
def test_names_that_no_table_holds_are_refused(tmp_path: Path, label: str) -> None:
    points = Points(RAS, (label, "b", "c"))
    for suffix in (".csv", ".fcsv"):
        with pytest.raises(UserError, match="write \\.mrk\\.json"):
            write_points(points, tmp_path / f"p{suffix}")
    write_points(points, tmp_path / "p.mrk.json")
    assert read_points(tmp_path / "p.mrk.json").labels == points.labels
    assert [path.name for path in tmp_path.iterdir()] == ["p.mrk.json"]


@pytest.mark.parametrize(
    ("positions", "remedy"),
    [
        (np.array([[900.0, 0, 0]]), "check which scan"),
        (LPS, "LPS taken for RAS, or the reverse"),
        (VOXELS, "taken as voxel indices all lie inside; name the columns i,j,k"),
    ],
)
def test_points_outside_say_what_would_bring_them_inside(positions: np.ndarray, remedy: str) -> None:
    moved = GRID.affine.copy()
    moved[:3, 3] += (300, 400, 0)
    far = Grid(GRID.shape, moved)
    given = positions if remedy != "LPS taken for RAS, or the reverse" else flip_ras_lps(far.voxel_to_world(VOXELS))
    with pytest.raises(UserError, match=remedy) as caught:
        Points(given).check_inside(far, "scan.nii")
    assert f"{len(given)} of {len(given)} points lie outside scan.nii" in str(caught.value)
    Points(far.voxel_to_world(VOXELS)).check_inside(far, "scan.nii")
