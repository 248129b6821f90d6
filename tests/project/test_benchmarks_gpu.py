"""What runs when a GPU is at hand: the list of trainings, the clock, and what comes back of a run."""

from __future__ import annotations

import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from anamorph.training import TASKS
from anamorph.training.settings import make_settings
from anamorph.training.time_budget import TimeBudget

sys.path.insert(0, str(Path(__file__).parents[2]))
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
    commands = [command for one in found for command in one.commands]
    assert len(commands) >= 4
    for command in commands:
        given = [command[n + 1] for n, word in enumerate(command) if word == "--set"]
        preset = command[command.index("--preset") + 1] if "--preset" in command else "default"
        make_settings(TASKS.find(command[1]), preset, given)
    runs = [run for one in found for run in one.runs]
    assert len(set(runs)) == len(runs)
    assert all(run.startswith(".gpu/runs/") for run in runs)


def test_a_training_that_cannot_begin_is_passed_over_with_its_reason(session, monkeypatch):
    lists = (("train", "sculpt", "-o", "a"), ("train", "segment", "-o", "b", "--dataset", "nowhere/at/all"))
    made = [trainings.Training(n, "one", (command,)) for n, command in enumerate(lists, 1)]
    monkeypatch.setattr(trainings, "listed", lambda: [*made, trainings.Training(3, "none", ())])
    trainings.run(session)
    told = (session.out / MEASURED).read_text().splitlines()
    reasons = ("no training 'sculpt'", "nowhere/at/all is not there", "has no command yet")
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
