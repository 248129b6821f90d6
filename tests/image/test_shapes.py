"""Meshes and streamlines moved as points, with all else in their files kept, against the libraries that know them."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.streamlines.array_sequence import ArraySequence
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.image.shape_files import read_shape
from anamorph.transforms import Composite
from anamorph.transforms.files import write_transform
from geometries import GRIDS, other_grid, points_inside, small_affine, smooth_field

GRID = GRIDS["oblique"]
TRANSFORM = Composite.of(smooth_field(GRID), small_affine(GRID))
POINTS = points_inside(GRID, 12)
MOVED = TRANSFORM.map_world(POINTS)
LPS = np.array([-1, -1, 1])
FACES = np.arange(12).reshape(4, 3)


def applied(folder: Path, source: Path, *options: str, out: str | None = None) -> tuple[Path, str]:
    """The file that ``anamorph apply`` writes, and what it says."""
    if not (folder / "t.h5").exists():
        write_transform(TRANSFORM, folder / "t.h5", "itk-h5", GRID)
        nibabel.save(nibabel.Nifti1Image(np.indices(GRID.shape).sum(0, np.int16), GRID.affine), folder / "fixed.nii.gz")
    target = folder / (out or f"moved{source.suffix}")
    arguments = ["apply", folder / "t.h5", "--to", source, "--like", folder / "fixed.nii.gz", "-o", target, *options]
    run = CliRunner().invoke(app, [str(one) for one in arguments])
    assert run.exit_code == 0, run.output
    return target, run.output


def vtk_text(points: np.ndarray, title: str, binary: bool) -> bytes:
    kind = "BINARY" if binary else "ASCII"
    numbers = (
        points.astype(">f4").tobytes()
        if binary
        else "\n".join(" ".join(map(repr, row)) for row in points.tolist()).encode()
    )
    head = f"# vtk DataFile Version 3.0\n{title}\n{kind}\nDATASET POLYDATA\nPOINTS {len(points)} float\n".encode()
    rest = (
        np.array([[6, *range(6)], [6, *range(6, 12)]], ">i4").tobytes() if binary else b"6 0 1 2 3 4 5\n6 6 7 8 9 10 11"
    )
    return head + numbers + b"\nLINES 2 14\n" + rest + b"\nPOINT_DATA 12\n"


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("title", "sign"), [("tracts SPACE=RAS", 1), ("SPACE=LPS", LPS), ("mesh", LPS)])
def test_streamlines_and_surfaces_of_vtk(tmp_path: Path, binary: bool, title: str, sign: np.ndarray) -> None:
    source = tmp_path / "lines.vtk"
    source.write_bytes(vtk_text(POINTS * sign, title, binary))
    target, said = applied(tmp_path, source)
    assert ("does not say its frame" in said) == (title == "mesh")
    again = read_shape(target, "ras" if sign is not LPS else "lps")
    np.testing.assert_allclose(again.positions_mm, MOVED, atol=0.01)
    assert target.read_bytes().partition(b"\nLINES")[2] == source.read_bytes().partition(b"\nLINES")[2]
    as_ras, said = applied(tmp_path, source, "--frame", "lps" if sign is LPS else "ras", out="again.vtk")
    assert as_ras.read_bytes() == target.read_bytes()
    assert "does not say its frame" not in said


def test_the_points_of_vtk_are_those_of_the_vtk_library(tmp_path: Path) -> None:
    vtk = pytest.importorskip("vtk")
    for name, binary in (("text.vtk", False), ("binary.vtk", True)):
        (tmp_path / name).write_bytes(vtk_text(POINTS, "SPACE=RAS", binary))
        target, _ = applied(tmp_path, tmp_path / name, out=f"moved_{name}")
        reader = vtk.vtkPolyDataReader()
        reader.SetFileName(os.fspath(target))
        reader.Update()
        lines = reader.GetOutput()
        assert lines.GetNumberOfLines() == 2
        np.testing.assert_allclose([lines.GetPoint(n) for n in range(12)], MOVED, atol=0.01)


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_meshes_that_meshio_reads(tmp_path: Path, suffix: str) -> None:
    meshio = pytest.importorskip("meshio")
    source = tmp_path / f"mesh{suffix}"
    meshio.Mesh(POINTS * LPS, [("triangle", FACES)]).write(source)
    target, said = applied(tmp_path, source)
    assert "taken as LPS" in said
    mesh = meshio.read(target)
    corners = (mesh.points[mesh.cells_dict["triangle"]] * LPS).reshape(-1, 3)
    np.testing.assert_allclose(corners, MOVED, atol=0.01)


def test_surfaces_of_gifti_are_ras(tmp_path: Path) -> None:
    source = tmp_path / "lh.white.surf.gii"
    arrays = [
        nibabel.gifti.GiftiDataArray(POINTS.astype(np.float32), "NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(FACES.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), source)
    target, said = applied(tmp_path, source, out="moved.surf.gii")
    points, faces = nibabel.load(target).agg_data()
    np.testing.assert_allclose(points, MOVED, atol=0.01)
    np.testing.assert_array_equal(faces, FACES)
    assert "note" not in said
    arrays[0].meta["VolGeomC_R"] = "4.5"
    nibabel.save(nibabel.GiftiImage(darrays=arrays), source)
    assert "4.5, 0, 0 mm" in read_shape(source).notes[0]
    with pytest.raises(UserError, match="does not fit"):
        read_shape(source, "lps")


@pytest.mark.parametrize("suffix", [".tck", ".trk"])
def test_streamlines_keep_their_lengths_and_values(tmp_path: Path, suffix: str) -> None:
    source, moving = tmp_path / f"lines{suffix}", other_grid(GRID)
    lines = ArraySequence([POINTS[:5].astype(np.float32), POINTS[5:].astype(np.float32)])
    tractogram = nibabel.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4))
    header = {
        "voxel_to_rasmm": GRID.affine.astype(np.float32),
        "dimensions": GRID.shape,
        "voxel_sizes": GRID.spacing_mm,
    }
    if suffix == ".trk":
        tractogram.data_per_streamline["length"] = np.array([[5.0], [7.0]])
    nibabel.streamlines.save(tractogram, os.fspath(source), header=header | {"voxel_order": GRID.orientation})
    nibabel.save(
        nibabel.Nifti1Image(np.indices(moving.shape).sum(0, np.int16), moving.affine), tmp_path / "moving.nii.gz"
    )
    assert ("still counts in voxels of the fixed scan" in applied(tmp_path, source, out=f"again{suffix}")[1]) == (
        suffix == ".trk"
    )
    target, said = applied(tmp_path, source, "--moving", str(tmp_path / "moving.nii.gz"))
    assert "note" not in said
    moved = nibabel.streamlines.load(target)
    assert [len(line) for line in moved.streamlines] == [5, 7]
    np.testing.assert_allclose(np.concatenate(list(moved.streamlines)), MOVED, atol=0.01)
    if suffix == ".trk":
        np.testing.assert_allclose(moved.header["voxel_to_rasmm"], moving.affine, atol=1e-4)
        assert tuple(moved.header["dimensions"]) == moving.shape
        np.testing.assert_array_equal(moved.tractogram.data_per_streamline["length"], [[5], [7]])


def test_a_wrong_frame_and_damaged_files_are_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    applied(tmp_path, _saved(tmp_path / "right.vtk", vtk_text(POINTS * LPS, "mesh", False)))
    grid, text = GRID, vtk_text(POINTS * LPS, "mesh", True)
    for name, content, message in (
        ("wrong.vtk", vtk_text(POINTS, "mesh", False), "LPS taken for RAS"),
        ("cut.vtk", text[: text.index(b"float") + 40], "is it complete"),
        ("none.vtk", b"# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\n", "no legacy VTK file"),
        ("x.trk", b"TRACK", "damaged file"),
        ("x.surf.gii", b"<GIFTI", "damaged file"),
    ):
        source = _saved(tmp_path / name, content)
        arguments = [
            "apply",
            tmp_path / "t.h5",
            "--to",
            source,
            "--like",
            tmp_path / "fixed.nii.gz",
            "-o",
            tmp_path / f"out_{name}",
        ]
        run = CliRunner().invoke(app, [str(one) for one in arguments])
        assert run.exit_code == 2, name
        assert message in " ".join(run.output.split()), run.output
        assert not (tmp_path / f"out_{name}").exists()
    assert grid == GRID


def _saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
