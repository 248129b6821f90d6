"""Commands offered to Boutiques and nipype by their own definitions, and run by both."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.boutiques import descriptor_of
from anamorph.cli.definition import command_named, parameters_of
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.transforms.files import read_transform

SHIFT_MM = (4.0, -4.0, 2.0)


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    """Two scans of blobs, the second moved by its header."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij"))
    values = 100 * ((places**2).sum(0) < 0.7) + 50 * ((places - 0.2) ** 2).sum(0)
    affine = np.diag([4.0, 4, 4, 1])
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    for path, shift in zip(paths, (np.zeros(3), SHIFT_MM), strict=True):
        affine[:3, 3] = shift
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    return paths


def moved(folder: Path) -> np.ndarray:
    centre = np.full((1, 3), 46.0)
    return (read_transform(folder / "fixed_to_moving.nii.gz").map_world(centre) - centre)[0]


def test_the_definition_of_a_command_says_what_it_takes() -> None:
    found = {one.name: one for one in parameters_of(command_named("register"))}
    assert [found[name].flag for name in ("fixed", "out", "method", "settings")] == [None, "--out", "--method", "--set"]
    kinds = {name: found[name].kind for name in ("fixed", "fixed_points", "out", "seed", "use_points", "composite")}
    assert kinds == {
        **{"fixed": "file", "fixed_points": "file", "out": "text"},
        **{"seed": "whole", "use_points": "number", "composite": "flag"},
    }
    assert found["settings"].several
    assert found["fixed"].required
    assert "convex" in found["method"].choices
    assert "more" not in {one.name for one in parameters_of(command_named("apply"))}
    with pytest.raises(UserError, match="no command 'regster'"):
        command_named("regster")


@pytest.mark.parametrize("command", ["register", "apply", "convert", "bids", "preprocess"])
def test_descriptors_are_valid(tmp_path: Path, command: str) -> None:
    bosh = pytest.importorskip("boutiques")
    path = tmp_path / "descriptor.json"
    run = CliRunner().invoke(app, ["boutiques", command, "-o", str(path), "--image", "docker://me/anamorph"])
    assert run.exit_code == 0, run.output
    bosh.validate(str(path))
    told = json.loads(path.read_text())
    assert told["container-image"] == {"type": "docker", "image": "me/anamorph"}
    keys = [one["value-key"] for one in told["inputs"]]
    assert all(key in told["command-line"] for key in keys)


def test_boutiques_runs_the_command_of_the_descriptor(
    tmp_path: Path, scans: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bosh = pytest.importorskip("boutiques")
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "anamorph"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m anamorph "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    descriptor, call = tmp_path / "descriptor.json", tmp_path / "call.json"
    descriptor.write_text(json.dumps(descriptor_of("register")))
    given = {"fixed": str(scans[0]), "moving": str(scans[1]), "out": "result", "method": "linear"}
    call.write_text(json.dumps(given | {"settings": ["init=rigid"], "composite": True, "seed": 3}))
    command = bosh.execute("simulate", str(descriptor), "-i", str(call)).shell_command
    assert command.split() == [
        *("anamorph", "register", str(scans[0]), str(scans[1]), "--out", "result", "--method", "linear"),
        *command.split()[8:],
    ]
    assert "--set init=rigid" in command
    assert "--composite" in command
    assert "--seed 3" in command
    ran = bosh.execute("launch", "-s", "--skip-data-collection", str(descriptor), str(call))
    assert ran.exit_code == 0, ran.stderr
    assert (tmp_path / "result" / "fixed_to_moving.h5").is_file()
    np.testing.assert_allclose(moved(tmp_path / "result"), SHIFT_MM, atol=0.3)


def test_nipype_runs_a_registration_and_applies_its_result(
    tmp_path: Path, scans: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nipype")
    from nipype import Node, Workflow

    from anamorph.cli.nipype import Apply, Register

    monkeypatch.chdir(tmp_path)
    fixed, moving = map(str, scans)
    register = Node(
        Register(fixed=fixed, moving=moving, out="result", method="linear", settings=["init=rigid"]), "register"
    )
    apply = Node(Apply(to=[moving], like=fixed, kind="image", out="again.nii.gz"), "apply")
    flow = Workflow("flow", base_dir=str(tmp_path))
    flow.config["execution"] = {"remove_unnecessary_outputs": "false"}
    flow.connect(register, "fixed_to_moving", apply, "transform")
    assert "--method linear --out result --set init=rigid" in register.interface.cmdline
    flow.run()
    folder = tmp_path / "flow" / "register" / "result"
    np.testing.assert_allclose(moved(folder), SHIFT_MM, atol=0.3)
    again = nibabel.load(tmp_path / "flow" / "apply" / "again.nii.gz").get_fdata()
    np.testing.assert_allclose(again, nibabel.load(folder / "warped.nii.gz").get_fdata(), atol=1e-3)


def test_nipype_outputs_name_what_was_written_and_wrong_inputs_are_refused(
    tmp_path: Path, scans: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nipype")
    from traits.api import TraitError

    from anamorph.cli.nipype import Register

    monkeypatch.chdir(tmp_path)
    found = Register(fixed=str(scans[0]), moving=str(scans[1]), out="result", method="linear").run().outputs
    assert Path(found.warped) == tmp_path / "result" / "warped.nii.gz"
    assert Path(found.report).is_file()
    with pytest.raises(TraitError):
        Register(method="convx")
    with pytest.raises(ValueError, match=r"mandatory|requires a value"):
        Register(fixed=str(scans[0])).run()


def test_without_nipype_the_extra_is_named() -> None:
    code = "import sys; sys.modules['nipype'] = None; import anamorph.cli.nipype"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'anamorph[nipype]'" in run.stderr.splitlines()[-1]
