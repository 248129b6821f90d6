"""A pair has the same numbers whoever measures it: the command that registers it, or the one that evaluates files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import Dataset, read_dataset
from anamorph.geometry import Grid
from anamorph.image.write import write_image
from anamorph.phantom import make_pair
from anamorph.transforms import Affine
from anamorph.transforms.files.itk_field import delivered, on_own_grid


def oblique(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], degrees: float) -> Grid:
    """A turned grid of unequal spacing about the origin, none of whose numbers is exact in float32."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing_mm
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


FAST = ("init=centres", "search_scales=2", "search_cells=2", "search_radius_mm=30", "refine_iterations=3,3")
GRIDS = {
    "fixed": oblique((24, 20, 22), (16.3, 15.1, 15.7), 11),
    "moving": oblique((22, 21, 24), (17.1, 14.7, 14.9), -7),
}


def write_pair(root: Path) -> Dataset:
    """Two small abdomens on grids that differ in spacing and direction, with labels and landmarks."""
    pair = make_pair(fixed_grid=GRIDS["fixed"], moving_grid=GRIDS["moving"], seed=3)
    scans = {
        "fixed": ("0001", pair.fixed, pair.fixed_labels, pair.fixed_points),
        "moving": ("0002", pair.moving, pair.moving_labels, pair.moving_points),
    }
    (root / "landmarksTr").mkdir(parents=True)
    names = {}
    for role, (subject, image, labels, points) in scans.items():
        stem = f"Abdomen_{subject}_0000"
        write_image(image, root / "imagesTr" / f"{stem}.nii.gz")
        write_image(labels, root / "labelsTr" / f"{stem}.nii.gz")
        np.savetxt(root / "landmarksTr" / f"{stem}.csv", points.to_voxel(image.grid), delimiter=",")
        names[role] = stem
    scan = {role: f"./imagesTr/{stem}.nii.gz" for role, stem in names.items()}
    content = {
        "name": "Abdomen",
        "modality": {"0": "CT"},
        "licence": "CC0",
        "training": [{"image": scan[role], "label": scan[role].replace("images", "labels")} for role in scan],
        "registration_val": [scan],
    }
    (root / "Abdomen_dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return read_dataset(root)


@pytest.fixture(scope="module")
def measured_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict, dict]:
    """``result.json`` of `register`, then ``results.json`` and the row of ``results.csv`` of `evaluate`."""
    root = tmp_path_factory.mktemp("pair")
    (pair,) = write_pair(root / "data").pairs("val")
    folder = root / "runs" / pair.disp_names["long"]
    folder.parent.mkdir()
    files = {role: getattr(pair, role) for role in ("fixed", "moving")}
    words = ["register", *(str(files[role].image) for role in files), "-o", str(folder), "--quiet"]
    words += [word for setting in FAST for word in ("--set", setting)]
    for role, case in files.items():
        words += [f"--{role}-labels", str(case.label), f"--{role}-points", str(case.landmarks)]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        app, ["evaluate", str(folder.parent), "--dataset", str(root / "data"), "-o", str(root / "scores"), "--quiet"]
    )
    assert run.exit_code == 0, run.output
    result = json.loads((folder / "result.json").read_text())
    results = json.loads((root / "scores" / "results.json").read_text())
    with (root / "scores" / "results.csv").open() as stream:
        return result, results["anamorph"], next(csv.DictReader(stream))


def test_register_and_evaluate_print_the_same_numbers(measured_twice):
    result, results, row = measured_twice
    (after,), (before,) = (part["cases"].values() for part in (results["correct"], results["baseline"]["correct"]))
    told = result["metrics"]
    for numbers, state, prefix in ((after, told["after"], ""), (before, told["before"], "initial_")):
        for name in ("dice", "hd95_mm", "asd_mm"):
            assert numbers[name]["detailed"] == state[name], name
            assert numbers[name]["mean"] == state[f"mean_{name}"]
            assert float(row[f"{prefix}{name}"]) == state[f"mean_{name}"]
        assert numbers["tre_mm_landmarks"]["detailed"] == state["tre_mm"]
        assert numbers["tre_mm_landmarks"]["mean"] == state["mean_tre_mm"]
        for name in ("p95_tre_mm", "max_tre_mm"):
            assert numbers[f"{name}_landmarks"]["mean"] == state[name]
        assert numbers["tre_axes_mm_landmarks"]["detailed"] == state["tre_axes_mm"]
        assert numbers["similarity"]["mean"] == state["similarity"]
    for key, value in told["jacobian"].items():
        assert value == after.get(key, after.get(f"jacobian_{key}"))["mean"], key
    for key, value in told["inverse_consistency_mm"].items():
        assert value == after[f"inverse_consistency_mm_{key}"]["mean"], key
    for name in ("outside_percent", "non_diffeomorphic_volume_percent"):
        assert told[name] == after[name]["mean"] == float(row[name])
    (judged,) = results["verdicts"].values()
    assert judged["signs_of_failure"] == result["verdict"]["signs_of_failure"]
    assert (
        judged["accuracy"]
        == ("within limits", "doubtful", "poor")[
            ("PASS", "WARN", "FAIL").index(result["verdict"]["accuracy"]["status"])
        ]
    )


def test_every_number_of_the_evaluation_is_one_that_register_prints_too(measured_twice):
    result, results, _ = measured_twice
    (after,) = results["correct"]["cases"].values()
    text = json.dumps(result["metrics"])
    for name, score in after.items():
        assert json.dumps(score["mean"]) in text or name.startswith("tre_axes"), name


def test_a_registration_that_moves_something_was_measured(measured_twice):
    result, _, _ = measured_twice
    told = result["metrics"]
    assert told["after"]["mean_tre_mm"] < told["before"]["mean_tre_mm"]
    assert told["inverse_consistency_mm"]["mean"] > 0
    assert told["jacobian"]["sdlogj"] > 0


def test_a_delivered_field_is_what_a_reader_finds(tmp_path):
    from anamorph.transforms import Composite, Displacement
    from anamorph.transforms.files import read_transform, write_transform

    grid = GRIDS["fixed"]
    noise = np.random.default_rng(0).normal(0, 3, (3, *grid.shape)).astype(np.float32)
    coarse = grid.resampled(2.5 * grid.spacing_mm)
    shift = Affine.translation(np.array([1.0, 2.0, 3.0]))
    for transform in (
        Displacement(noise, grid),
        shift,
        Composite.of(Displacement(noise[:, : coarse.shape[0], : coarse.shape[1], : coarse.shape[2]], coarse), shift),
    ):
        field = on_own_grid(transform, grid)
        write_transform(field, tmp_path / "field.nii.gz", "itk", field.grid)
        found, wanted = read_transform(tmp_path / "field.nii.gz", grid=grid), delivered(transform, grid)
        assert (found.grid, found.scan_grid) == (wanted.grid, wanted.scan_grid)
        np.testing.assert_array_equal(found.disp_vox, wanted.disp_vox)
