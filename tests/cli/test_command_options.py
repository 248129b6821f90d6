"""What all commands share: config files, logs, choices in the help, completion by the shell."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.methods import METHODS
from small_dataset import write_scan


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(("fixed", "moving")):
        write_scan(tmp_path / f"{name}.nii.gz", n)
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def config(folder: Path, text: str) -> Path:
    path = folder / "pair.toml"
    path.write_text(text, encoding="utf-8")
    return path


PAIR = 'fixed = "fixed.nii.gz"\nmoving = "moving.nii.gz"\nout = "result"\nmethod = "stub"\n'


def test_a_config_file_stands_for_options_and_paths_start_from_its_folder(folder):
    path = config(folder, f"{PAIR}seed = 3\nquiet = true\n[set]\ngain = 0.5\nlevels = [8, 4, 2]\n")
    result = run("register", "--config", path, "--seed", 5)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    told = json.loads((folder / "result" / "result.json").read_text(encoding="utf-8"))["provenance"]
    assert told["settings"]["gain"] == 0.5
    assert told["settings"]["levels"] == [8, 4, 2]
    assert told["seed"] == 5  # the command line goes before the file


def test_what_is_given_to_the_command_goes_before_the_config(folder):
    path = config(folder, PAIR)
    assert run("register", folder / "moving.nii.gz", folder / "fixed.nii.gz", "--config", path).exit_code == 0
    told = json.loads((folder / "result" / "result.json").read_text(encoding="utf-8"))["provenance"]
    assert told["inputs"]["fixed"]["name"] == "moving.nii.gz"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_memori = '2G'", "pair.toml, line 5: the config has no key 'max_memori' (did you mean 'max-memory'?)"),
        ("seed = 'three'", "pair.toml, line 5: seed must be a whole number, not 'three'"),
        ("composite = 1", "pair.toml, line 5: composite must be true or false, not 1"),
        ("method = 'stub'", "no TOML"),
    ],
)
def test_a_mistake_in_a_config_is_told_with_its_line(folder, line, message):
    result = run("register", "--config", config(folder, f"{PAIR}{line}\n"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (folder / "result").exists()


def test_a_config_leaves_what_is_missing_to_the_command(folder):
    result = run("register", "--config", config(folder, 'moving = "moving.nii.gz"\n'))
    assert result.exit_code == 2
    assert "fixed" in result.stderr.lower()


def test_a_log_holds_everything_also_of_a_quiet_run(folder):
    log = folder / "run.log"
    arguments = (folder / "fixed.nii.gz", folder / "moving.nii.gz", "-o", folder / "out", "--method", "stub")
    result = run("register", *arguments, "--log", log, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    text = log.read_text(encoding="utf-8")
    assert "method stub, preset" in text
    assert " INFO " in text or " DEBUG " in text
    result = run("register", *arguments, "--log", log)
    assert result.exit_code == 2
    later = log.read_text(encoding="utf-8")
    assert later.startswith(text)
    assert "already exists" in later.removeprefix(text)


def test_a_log_that_cannot_be_written_costs_nothing(folder):
    result = run("methods", "--log", folder / "nowhere" / "run.log")
    assert result.exit_code == 2
    assert "choose another --log" in result.stderr
    assert not logging.getLogger("anamorph").handlers[1:]


def test_help_shows_choices_and_flags_without_a_type():
    text = " ".join(CliRunner().invoke(app, ["register", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "<bool>" not in text
    assert f"One of: {', '.join(METHODS)}" in text
    assert "abdomen-ct" in text
    assert "auto|cpu|cuda" in text
    assert "One of: itk, itk-h5" in CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "200"}).output


def test_the_shell_completes_methods_presets_and_formats():
    def completed(line: str) -> str:
        told = {"_ANAMORPH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        code = "import sys; sys.argv = ['anamorph']; from anamorph.cli.main import app; app(prog_name='anamorph')"
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | told, capture_output=True, text=True, check=False
        ).stdout

    assert completed("anamorph register --method conv").split() == ["convex"]
    assert completed("anamorph register --preset ab").split() == ["abdomen-ct"]
    assert completed("anamorph convert --to itk-t").split() == ["itk-tfm"]
