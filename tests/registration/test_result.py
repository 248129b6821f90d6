"""What ``anamorph.register`` returns: numbers, verdict, warped things, files, report and pictures."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.image.write import write_image, write_points
from anamorph.methods import METHODS
from anamorph.runtime.threads import limited_threads, thread_count
from stub_method import Stub, StubConfig

SHIFT = np.array([4.0, -6.0, 9.0])


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


@dataclass
class Mesh:
    """What trimesh and PyVista show: vertices that can be set, and a copy."""

    vertices: np.ndarray
    faces: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 1, 2)])
    copied: bool = False

    def copy(self) -> Mesh:
        return Mesh(self.vertices.copy(), list(self.faces), copied=True)


class PointMesh:
    """What meshio shows, without a copy of its own."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points


@pytest.fixture
def given() -> dict[str, object]:
    """A pair whose moving scan is the fixed one, moved by :data:`SHIFT` in its header, with labels and landmarks."""
    rng = np.random.default_rng(0)
    data = rng.normal(100, 10, (10, 12, 8)).astype(np.float32)
    blob = np.zeros(data.shape, np.uint8)
    blob[3:7, 4:9, 2:6] = 1
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])
    grid = anamorph.Grid(data.shape, affine)
    moved = affine.copy()
    moved[:3, 3] = SHIFT
    elsewhere = anamorph.Grid(data.shape, moved)
    points = grid.voxel_to_world(np.array([[3.0, 4, 5], [5, 6, 2], [7, 3, 4]]))
    return {
        "fixed": anamorph.Image(data, grid, "a.nii.gz"),
        "moving": anamorph.Image(data, elsewhere, "b.nii.gz"),
        "fixed_labels": anamorph.Labels(blob, grid),
        "moving_labels": anamorph.Labels(blob, elsewhere),
        "fixed_points": anamorph.Points(points),
        "moving_points": points + SHIFT,
    }


@pytest.fixture
def result(given) -> anamorph.Result:
    return anamorph.register(**given, method="stub")


def test_numbers_and_verdict_are_those_of_the_command(given, result, tmp_path):
    arguments = []
    for role, thing in given.items():
        path = tmp_path / f"{role}{'.csv' if 'points' in role else '.nii.gz'}"
        if "points" in role:
            write_points(thing if isinstance(thing, anamorph.Points) else anamorph.Points(thing), path)
        else:
            write_image(thing, path)
        arguments += [str(path)] if role in ("fixed", "moving") else [f"--{role.replace('_', '-')}", str(path)]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["register", *arguments, "-o", str(out), "--method", "stub", "-q"])
    assert done.exit_code == 0, done.output
    told = json.loads((out / "result.json").read_text(encoding="utf-8"))
    saved = result.save(tmp_path / "from-python")
    mine = json.loads((tmp_path / "from-python" / "result.json").read_text(encoding="utf-8"))
    assert mine["metrics"] == told["metrics"]
    assert mine["verdict"] == told["verdict"]
    assert {path.name for path in out.iterdir()} == {path.name for path in saved.folder.iterdir()}
    assert result.metrics.after.mean("tre_mm_landmarks") == pytest.approx(0, abs=1e-4)
    assert result.metrics.before.mean("tre_mm_landmarks") == pytest.approx(np.linalg.norm(SHIFT))
    assert result.verdict.status == told["status"]


def test_a_folder_is_not_replaced_unasked(result, tmp_path):
    result.save(tmp_path / "out")
    with pytest.raises(UserError, match="already exists"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", overwrite=True)


def test_what_belongs_to_the_moving_scan_comes_to_the_fixed_scan(given, result):
    warped = result.warp(given["moving"])
    assert warped.grid == given["fixed"].grid
    np.testing.assert_allclose(warped.data, given["fixed"].data, atol=1e-2)
    labels = result.warp(given["moving_labels"])
    assert isinstance(labels, anamorph.Labels)
    np.testing.assert_array_equal(labels.data, given["fixed_labels"].data)
    fixed_points = given["fixed_points"].positions_mm
    np.testing.assert_allclose(result.warp(fixed_points + SHIFT), fixed_points, atol=1e-4)
    named = result.warp(anamorph.Points(fixed_points + SHIFT, ("a", "b", "c")))
    np.testing.assert_allclose(named.positions_mm, fixed_points, atol=1e-4)
    assert named.labels == ("a", "b", "c")
    mask = anamorph.Mask((given["moving_labels"].data > 0).astype(np.float32), given["moving"].grid)
    assert isinstance(result.warp(mask), anamorph.Mask)


def test_the_other_direction_brings_what_belongs_to_the_fixed_scan_to_the_moving_scan(given, result):
    back = result.warp(given["fixed"], direction="fixed_to_moving")
    assert back.grid == given["moving"].grid
    np.testing.assert_allclose(back.data, given["moving"].data, atol=1e-2)
    points = given["fixed_points"].positions_mm
    np.testing.assert_allclose(result.warp(points, direction="fixed_to_moving"), points + SHIFT, atol=1e-4)


def test_meshes_are_copied_and_their_vertices_moved(given, result):
    vertices = given["fixed_points"].positions_mm + SHIFT
    mesh = Mesh(vertices)
    moved = result.warp(mesh)
    assert isinstance(moved, Mesh)
    assert moved.copied
    assert moved.faces == mesh.faces
    np.testing.assert_allclose(moved.vertices, vertices - SHIFT, atol=1e-4)
    np.testing.assert_array_equal(mesh.vertices, vertices)
    other = result.warp(PointMesh(vertices))
    np.testing.assert_allclose(other.points, vertices - SHIFT, atol=1e-4)
    flipped = result.warp(Mesh(vertices * (-1, -1, 1)), frame="lps")
    np.testing.assert_allclose(flipped.vertices, (vertices - SHIFT) * (-1, -1, 1), atol=1e-4)


def test_files_and_images_of_other_packages_are_read_and_warped(given, result, tmp_path):
    write_image(given["moving_labels"], tmp_path / "labels.nii.gz")
    write_points(anamorph.Points(given["moving_points"]), tmp_path / "points.csv")
    assert isinstance(result.warp(tmp_path / "labels.nii.gz"), anamorph.Labels)
    points = result.warp(tmp_path / "points.csv")
    np.testing.assert_allclose(points.positions_mm, given["fixed_points"].positions_mm, atol=1e-3)
    image = result.warp(given["moving"].to_simpleitk(), kind="image")
    np.testing.assert_allclose(image.data, given["fixed"].data, atol=1e-2)
    with pytest.raises(UserError, match=r"\(N, 3\) table"):
        result.warp(np.zeros((2, 2)))
    with pytest.raises(UserError, match="cannot take an image"):
        result.warp(3)


def test_points_outside_their_scan_are_warned_of(result, caplog):
    with caplog.at_level(logging.WARNING, "anamorph"):
        result.warp(np.array([[1e4, 0, 0], [0.0, 0.0, 15.0]]))
    assert "1 of 2 points lie outside the scan" in caplog.text


def test_the_page_needs_nothing_else(result, tmp_path):
    page = result.report()
    assert page.startswith("<!doctype html>")
    assert result.report(tmp_path / "page.html").read_text(encoding="utf-8")[:15] == page[:15]


def test_a_result_says_in_one_line_what_it_is(given):
    result = anamorph.register(given["fixed"], given["moving"], method="stub")
    assert repr(result).startswith("Result(stub: b.nii.gz to a.nii.gz, ")
    assert "\n" not in repr(result)
    assert "verdict" not in vars(result)
    status = result.verdict.status
    assert repr(result).endswith(f"{status})")


def test_a_method_is_a_name_a_class_or_an_instance(given):
    fixed, moving = given["fixed"], given["moving"]
    by_class = anamorph.register(fixed, moving, method=Stub, settings={"gain": 0.5})
    assert by_class.provenance["settings"]["gain"] == 0.5
    by_instance = anamorph.register(fixed, moving, method=Stub(StubConfig(gain=0.5)))
    assert by_instance.provenance["settings"]["gain"] == 0.5
    point = np.zeros((1, 3))
    np.testing.assert_allclose(
        by_class.fixed_to_moving.map_world(point), by_instance.fixed_to_moving.map_world(point), atol=1e-6
    )
    with pytest.raises(UserError, match="has its settings already"):
        anamorph.register(fixed, moving, method=Stub(), settings={"gain": 0.5})


def test_memory_is_bounded_by_bytes_or_a_size(given):
    fixed, moving = given["fixed"], given["moving"]
    for size in (10_000_000, "10M"):
        with pytest.raises(UserError, match="--max-memory is 10 MB"):
            anamorph.register(fixed, moving, method="stub", max_memory=size)
    anamorph.register(fixed, moving, method="stub", max_memory="8 GB")


def test_threads_are_limited_for_the_call_and_given_back():
    import torch

    before = thread_count(), torch.get_num_threads()
    with limited_threads(1):
        assert (thread_count(), torch.get_num_threads()) == (1, 1)
    assert (thread_count(), torch.get_num_threads()) == before
    with pytest.raises(UserError, match="at least 1"), limited_threads(0):
        pass


def test_the_default_method_never_imports_torch_on_the_cpu(tmp_path):
    code = """
import sys, numpy as np, anamorph
rng = np.random.default_rng(0)
scan = anamorph.Image.from_array(rng.normal(100, 10, (24, 24, 16)).astype(np.float32), spacing_mm=2)
result = anamorph.register(scan, scan, device="cpu", threads=1)
result.save(sys.argv[1])
result.plot()
assert "torch" not in sys.modules, "torch"
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
