"""What runs when a GPU is at hand: the list of trainings, the clock, and what comes back of a run."""

from __future__ import annotations

import shlex
import sys
import tarfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest

from anamorph.training import TASKS
from anamorph.training.settings import make_settings
from anamorph.training.time_budget import TimeBudget

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import lindef_folds
from benchmarks.gpu import trainings
from benchmarks.gpu.session import MEASURED, Session, ended


@pytest.fixture
def session(tmp_path):
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    return Session(tmp_path / "out", tmp_path / "work", "cpu", True, TimeBudget(60))


def test_every_listed_training_has_settings_that_exist_and_a_folder_of_its_own():
    found = trainings.listed()
    assert [one.number for one in found] == [*range(1, len(found) + 1)]
    assert all(one.commands for one in found)
    commands = [command for one in found for command in one.commands]
    assert {command[1] for command in commands} == {task for task in TASKS if task != "pwc"}
    for command in commands:
        given = [command[n + 1] for n, word in enumerate(command) if word == "--set"]
        preset = command[command.index("--preset") + 1] if "--preset" in command else "default"
        make_settings(TASKS.find(command[1]), preset, given)
    runs = [run for one in found for run in one.runs]
    assert len(set(runs)) == len(runs)
    assert all(run.startswith(trainings.RUNS) for run in runs)
    assert trainings.TINY.keys() >= {command[1] for command in commands}


def test_what_a_training_starts_from_stands_before_it():
    found, begun = trainings.listed(), set()
    for one in found:
        for command in one.commands:
            assert begun.issuperset(trainings.given(command, "--pretrained"))
        begun.update(one.runs)


def test_the_folds_of_lindef_are_trained_as_their_benchmark_goes_on_with_them(monkeypatch, tmp_path):
    """Measured afterwards: the settings of a run have to be those that the benchmark asks for."""
    asked: dict[str, list[str]] = {}
    monkeypatch.setattr(lindef_folds.subprocess, "run", lambda words, check: asked.update({_run_of(words): words}))
    monkeypatch.setattr(lindef_folds, "measure_all", lambda *_: None)
    monkeypatch.setattr(lindef_folds, "read_dataset", lambda _: None)
    monkeypatch.setattr(lindef_folds, "cut", lambda _, count: [None] * count)
    monkeypatch.setattr(lindef_folds, "write_dataset", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    for line in trainings.LIST.read_text().splitlines():
        if line.startswith("python -m benchmarks.lindef_folds"):
            monkeypatch.setattr(sys, "argv", [word for word in shlex.split(line)[2:] if word != "--cut"])
            lindef_folds.main()
    folds = {_run_of(one): one for two in trainings.listed() for one in two.commands if "all_combinations=true" in one}
    assert len(folds) == 21
    assert folds.keys() == asked.keys()
    for run, command in folds.items():
        assert trainings.given(command, "--dataset") == trainings.given(asked[run], "--dataset")
        assert trainings.given(command, "--pretrained") == trainings.given(asked[run], "--pretrained")
        assert _settings_of(command) == _settings_of(asked[run])


def _run_of(words: Sequence[str]) -> str:
    return words[words.index("-o") + 1]


def _settings_of(words: Sequence[str]) -> tuple[object, object]:
    (preset,), (epochs,) = (trainings.given(words, option) for option in ("--preset", "--epochs"))
    return make_settings(TASKS.find("lindef"), preset, [*trainings.given(words, "--set"), f"epochs={epochs}"])


def test_a_training_that_cannot_begin_is_passed_over_with_its_reason(session, monkeypatch):
    lists = (
        ("train", "sculpt", "-o", "a"),
        ("train", "segment", "-o", "b", "--dataset", "nowhere/at/all"),
        ("train", "segment", "-o", "c", "--pretrained", ".gpu/runs/begun"),
    )
    made = [trainings.Training(n, "one", (command,)) for n, command in enumerate(lists, 1)]
    monkeypatch.setattr(trainings, "listed", lambda: [*made, trainings.Training(4, "none", ())])
    trainings.run(session)
    told = (session.out / MEASURED).read_text().splitlines()
    reasons = ("no training 'sculpt'", "nowhere/at/all is not there", "runs/begun is not over", "has no command yet")
    assert all(reason in line for reason, line in zip(reasons, told, strict=True))


def test_what_a_run_goes_on_with_comes_back_in_pieces(session, monkeypatch):
    monkeypatch.setattr(trainings, "LARGEST_PIECE", 4096)
    run = session.work / ".gpu" / "runs" / "one"
    for name in ("checkpoints/latest.pt", "checkpoints/best.pt", "model/model.json", "tensorboard/events"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(name.encode() * 500)
    trainings.pack(session, session.work, [".gpu/runs/one", ".gpu/runs/not-begun"])
    pieces = sorted(session.out.glob("runs.tar.*"), key=lambda path: int(path.suffix[1:]))
    assert len(pieces) > 2
    assert max(piece.stat().st_size for piece in pieces) <= 4096
    with tarfile.open(fileobj=BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as archive:
        files = {entry.name for entry in archive.getmembers() if entry.isfile()}
    assert files == {".gpu/runs/one/checkpoints/latest.pt", ".gpu/runs/one/model/model.json"}


def test_a_program_that_does_not_end_in_time_is_stopped_with_what_it_began(session, tmp_path):
    log = tmp_path / "log.txt"
    quick = session.start([sys.executable, "-c", "print('done')"], log)
    quick.wait()
    stuck = session.start(["sh", "-c", "sleep 60 & echo begun; wait"], log)
    begun = time.monotonic()
    assert ended([quick, stuck], 0.5) == [True, False]
    assert 0.5 <= time.monotonic() - begun < 5
    assert stuck.returncode is not None
    assert log.read_text() == "done\nbegun\n"
