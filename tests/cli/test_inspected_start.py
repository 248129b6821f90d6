"""The start that `inspect` shows is the one that `register --only-start` takes with the same options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.image.write import write_image
from anamorph.testing.pairs import gentle_pair
from anamorph.transforms.files import write_transform
from anamorph.transforms.maps import Affine, Displacement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair whose headers are 20 mm apart, a mask of one half of each, and a transform."""
    folder = tmp_path_factory.mktemp("inspected")
    pair = gentle_pair()
    away = Affine.translation(np.array([20.0, 0.0, 0.0])).matrix
    moving = Image(pair.moving.data, Grid(pair.moving.grid.shape, away @ pair.moving.grid.affine))
    for name, scan in (("fixed", pair.fixed), ("moving", moving)):
        write_image(scan, folder / f"{name}.nii.gz")
        half = np.zeros(scan.grid.shape, np.uint8)
        half[:, :, : half.shape[2] // 2] = 1
        write_image(Image(half[None], scan.grid), folder / f"{name}_half.nii.gz")
    field = Displacement(np.full((3, *pair.fixed.grid.shape), 0.5, np.float32), pair.fixed.grid)
    write_transform(field, folder / "field.nii.gz", "itk", pair.fixed.grid)
    write_transform(Affine.translation(np.array([20.0, 5.0, 0.0])), folder / "given.tfm", "itk-tfm", pair.fixed.grid)
    return folder


def command(folder: Path, *words: object) -> Any:
    files = {path.name: path for path in folder.glob("*.*")}
    return CliRunner().invoke(app, [str(files.get(str(word), word)) for word in words])


def inspected(folder: Path, *options: str) -> dict[str, Any]:
    done = command(folder, "inspect", "--json", "fixed.nii.gz", "moving.nii.gz", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["relations"][0]


def map_of(start: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in start.items() if name not in ("init", "steps", "warnings", "seconds")}


@pytest.fixture(scope="module")
def automatic(folder: Path) -> dict[str, Any]:
    return inspected(folder)["start"]


@pytest.mark.parametrize(
    "options",
    [
        ("--init", "centres"),
        ("--init", "given.tfm"),
        ("--init", "field.nii.gz"),
        ("--same-patient",),
        ("--preset", "generic-mr"),
        ("--set", "intensity_weight=0"),
        ("--fixed-mask", "fixed_half.nii.gz"),
        ("--moving-mask", "moving_half.nii.gz"),
        ("--no-partner", "fixed_half.nii.gz"),
        ("--moving-no-partner", "moving_half.nii.gz"),
        ("--fixed-mask", "moving_half.nii.gz", "--resample"),
    ],
    ids=" ".join,
)
def test_an_option_changes_the_start_as_in_register(
    folder: Path, automatic: dict[str, Any], tmp_path: Path, options: tuple[str, ...]
):
    relation = inspected(folder, *options)
    start = relation["start"]
    out = tmp_path / "out"
    pair = "fixed.nii.gz", "moving.nii.gz"
    done = command(folder, "register", *pair, "-o", out, "--only-start", "--no-viewer", *options)
    assert done.exit_code == 0, done.output
    record = json.loads((out / "result.json").read_text())["provenance"]
    assert start["steps"] == record["start"]
    assert map_of(start) == record.get("start_map", {})  # a field is none
    assert relation["preset"] == record["preset"]
    assert relation["preset_reason"] == record["preset_reason"]
    assert (start["steps"], map_of(start)) != (automatic["steps"], map_of(automatic))


def test_a_table_names_the_start_that_was_asked_for(folder: Path, automatic: dict[str, Any]):
    assert "20.0 right" not in automatic["shift"]
    done = command(folder, "inspect", "fixed.nii.gz", "moving.nii.gz", "--init", "centres", "--preset", "brain-mr")
    told = " ".join(done.stdout.split())
    assert "preset brain-mr: as asked for" in told
    assert "start (--init centres) middles of the fields of view, as asked for (explains 0." in told
    assert "shift 20.0 mm (20.0 right)" in told
    assert "turn none" in told
    done = command(folder, "inspect", "fixed.nii.gz", "moving.nii.gz", "--init", "field.nii.gz")
    assert done.exit_code == 0, done.output
    assert "field.nii.gz) found from " in " ".join(done.stdout.split())
    assert " shift " not in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("moving.nii.gz", "--init", "frame"), "method 'linear' has no init=frame; choose one of: auto, world"),
        (("moving.nii.gz", "--init", "rigd"), "there is no start 'rigd' (did you mean 'rigid'?)"),
        (("moving.nii.gz", "--preset", "brain"), "there is no preset 'brain'"),
        (("moving.nii.gz", "--set", "gain=1"), "method 'linear' has no setting 'gain'"),
        (("moving.nii.gz", "--moving-mask", "nowhere.nii"), "nowhere.nii: no such file"),
        (("moving.nii.gz", "--moving-mask", "fixed_half.nii.gz"), "the mask fixed_half.nii.gz is not on the grid of"),
        (("moving.nii.gz", "--init", "rigid", "--no-start"), "a start is looked for between two scans"),
        (("--init", "rigid"), "a start is looked for between two scans"),
        (("fixed_half.nii.gz", "--same-patient"), "a start is looked for between two scans"),
        (
            ("moving.nii.gz", "moving.nii.gz", "--moving-mask", "moving_half.nii.gz"),
            "a mask of the moving scan is that of one, and there are 2; give one of them",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_line_of_an_error(folder: Path, words: tuple[str, ...], told: str):
    done = command(folder, "inspect", "fixed.nii.gz", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {told}")
