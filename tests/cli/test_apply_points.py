"""``apply`` on landmarks: where they lie, which scan they belong to, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.logs import plain
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.read import read_points
from anamorph.methods.base import Outcome
from anamorph.transforms import Affine, Displacement
from anamorph.transforms.files import write_transform
from reader_seeds import MARKUPS

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = (40, 60, -8)
GRID = Grid((12, 10, 8), AFFINE)
SHIFT_MM = np.array([4.0, -2.0, 6.0])


@pytest.fixture
def field(tmp_path: Path) -> Path:
    path = tmp_path / "t.nii.gz"
    write_transform(Affine.translation(SHIFT_MM), path, "itk", GRID)
    return path


def apply(field: Path, points: Path, *more: str, code: int = 0) -> str:
    out = field.with_name("out.csv")
    done = CliRunner().invoke(app, ["apply", str(field), "--to", str(points), "-o", str(out), *more])
    assert done.exit_code == code, done.output
    assert out.exists() == (code == 0)
    return done.stderr


def table(path: Path, rows: np.ndarray, heading: str = "x_ras,y_ras,z_ras") -> Path:
    path.write_text("\n".join([heading, *(",".join(map(str, row)) for row in rows.tolist())]) + "\n")
    return path


INSIDE = GRID.voxel_to_world(np.array([[1.0, 2, 3], [8, 7, 6]]))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.array([[45.0, 65, 0], [900, 65, 0]]), "1 of 2 points lie outside the grid of the transform"),
        (INSIDE * (-1, -1, 1), "LPS taken for RAS, or the reverse"),
        (np.array([[1.0, 2, 3], [8, 7, 6]]), "taken as voxel indices all lie inside; name the columns i,j,k"),
    ],
)
def test_points_elsewhere_are_refused(field: Path, rows: np.ndarray, told: str) -> None:
    said = apply(field, table(field.with_name("p.csv"), rows), code=2)
    assert told in said
    assert said.count("\n") == 1


def test_tables_of_ants_are_told(field: Path) -> None:
    rows = np.column_stack([INSIDE * (-1, -1, 1), np.zeros(2)])
    said = apply(field, table(field.with_name("p.csv"), rows, "x,y,z,t"))
    assert "note: p.csv: columns x,y,z,t are those of ANTs, so taken as LPS mm" in said
    np.testing.assert_allclose(read_points(field.with_name("out.csv")).positions_mm, INSIDE + SHIFT_MM, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("fixed", "moving", "2 fixed points mapped to the moving scan"),
        ("moving", "fixed", "2 moving points mapped to the fixed scan"),
        (None, None, "2 points of the transform's fixed scan mapped to its moving scan"),
    ],
)
def test_the_scan_that_points_belong_to_is_named(field: Path, source, target, told: str) -> None:
    transform = Affine.translation(SHIFT_MM)
    if source:
        transform = transform.between(source, target)
    write_transform(transform, field, "itk", GRID)
    assert told in apply(field, table(field.with_name("p.csv"), INSIDE))


def test_results_know_their_two_directions() -> None:
    field = Displacement(np.ones((3, *GRID.shape), np.float32), GRID)
    result = Outcome(field, field.inverse())
    assert "(fixed -> moving, " in repr(result.fixed_to_moving)
    assert "(moving -> fixed, " in repr(result.moving_to_fixed)
    assert "(moving -> fixed, " in repr(result.moving_to_fixed.displacement_on(Grid((5, 5, 5), AFFINE)))
    assert "(fixed -> moving, " in repr(Affine.identity())
    assert "(moving -> fixed, " in repr(Affine.identity().inverse())
    assert "(fixed -> moving: " in repr(field @ field)


def test_halves_of_characters_are_printed() -> None:
    name = os.fsdecode(b"scan-\xff.nii")
    assert plain(name) == "scan-\\udcff.nii"
    assert len(str(UserError(f"{name}\nand\x85more")).splitlines()) == 1


def test_libraries_say_nothing_before_our_line(tmp_path: Path) -> None:
    damaged = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    content = bytearray(damaged.to_bytes())
    content[0:4], content[70:72] = b"\x07\0\0\0", b"\x04\x10"  # nibabel warns of both
    (tmp_path / os.fsdecode(b"scan-\xff.nii")).write_bytes(content)
    markups = tmp_path / "p.mrk.json"
    markups.write_text(str(MARKUPS))
    (tmp_path / "t.mha").write_bytes(b"ObjectType = Image\nNDims = 3\nDimSize = 4 4\nElementDataFile = LOCAL\n")
    script = (
        "import sys; from typer.testing import CliRunner; from anamorph.cli.main import main\n"
        "for line in sys.argv[1].split('|'):\n"
        "    sys.argv = ['anamorph', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
    )
    commands = ["inspect scan-\udcff.nii", "apply t.mha --to p.mrk.json -o out.csv", "convert t.mha -o t.h5"]
    done = subprocess.run(
        [sys.executable, "-c", script, "|".join(commands)], capture_output=True, cwd=tmp_path, check=False
    )
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 3, lines
    assert all(line.startswith("error: ") for line in lines)
    assert done.stdout == b""
