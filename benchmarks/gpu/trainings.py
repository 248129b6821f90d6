"""The next training of ``benchmarks/gpu_trainings.md``, for as long as there is time; what it leaves can be carried on.

Every heading of that list is a training, or several that are done at once: the commands below it. Runs lie in
``.gpu/runs``; what the next session needs of them is written into pieces of one archive, ``runs.tar.0``, ``runs.tar.1``
and so on, that `cat runs.tar.* | tar x` unpacks at the root of the repository.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.training import TASKS
from anamorph.training.run_folder import RunFolder
from benchmarks.gpu.session import LOG, ROOT, Session, ended

LIST = ROOT / "benchmarks" / "gpu_trainings.md"
RUNS = ".gpu/runs/"
LARGEST_PIECE = 15 * 2**20
"""A little below what a file may have that comes back from a lent machine."""
NEEDED_S, FINISH_S = 45.0, 25.0
"""Of a session that begins a training, and what it leaves for imports, the last checkpoint and the archive."""
PACKED_EVERY_S = 40.0
LEFT_OUT = ("best.pt", "tensorboard")
"""What a training goes on without, and what can be drawn from the numbers again."""
NARROW: dict[str, tuple[str, ...]] = {
    "symmetric": ("mult=1",),
    "segment": ("mult=1",),
    "pdd": ("channels=4", "control=6,6,6", "width=5", "feature_spacing=2", "pooled=false"),
    "lindef": ("width=2",),
    "pwc": ("mult=1", "width=4", "radius=1"),
}
"""Settings of a rehearsal."""
TINY = NARROW | {
    "segment": ("mult=1", "shape=16,16,16"),
    "features": ("mult=1", "crop=16,16,16", "convolutions=1"),
    "segment-synthetic": ("mult=1", "crop=16,16,16"),
    "slicreg": ("network=unet",),
    "regression": ("network=unet",),
}
"""Of a rehearsal of the list, whose scans are of full size."""
ENDED = ("finished", "no improvement")


@dataclass(frozen=True)
class Training:
    """One heading of the list: its number, what it is, and the arguments of `anamorph` of each command."""

    number: int
    title: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def runs(self) -> list[str]:
        """The run folder of each command, below the root."""
        return [one[one.index("-o") + 1] for one in self.commands]

    def over(self, root: Path) -> bool:
        """Whether all runs came to their own end."""
        return bool(self.commands) and all(_over(root / run) for run in self.runs)

    def lacks(self, root: Path) -> str:
        """What is not here that it needs; empty if it can begin. Runs that it starts from lie below ``root``."""
        for command in self.commands:
            try:
                TASKS.find(command[1])
            except UserError as error:
                return str(error)
            missing = [path for path in given(command, "--dataset") if not (ROOT / path).exists()]
            if missing:
                return f"{', '.join(missing)} is not there"
            unfinished = [run for run in given(command, "--pretrained") if not _over(root / run)]
            if unfinished:
                return f"{', '.join(unfinished)} is not over"
        return "" if self.commands else "has no command yet"


def listed(path: Path = LIST) -> list[Training]:
    """All trainings of the list, in its order."""
    found = []
    parts = re.split(r"^## (\d+)\. (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for number, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        commands = [shlex.split(line) for line in lines if line.startswith("anamorph train ")]
        found.append(Training(int(number), title, tuple(tuple(one[1:]) for one in commands)))
    return found


def run(session: Session, wanted: int | None = None) -> None:
    """Go on with the first training that is not over, or with the one of a number; then with the next."""
    root = session.work if session.tiny else ROOT
    for training in listed():
        told = {"training": training.number, "title": training.title}
        reason = training.lacks(root)
        if wanted is not None and training.number != wanted:
            continue
        if reason or training.over(root):
            session.note("trainings", **told, skipped=reason or "is over")
        elif session.left_s < NEEDED_S:
            session.note("trainings", **told, skipped="no time left")
        else:
            _train(session, training, root)


def _train(session: Session, training: Training, root: Path) -> None:
    """All runs of a training at once; ``root`` is where their folders begin."""
    seconds = f"{session.left_s - FINISH_S:.0f}s"
    more = ["--resume", "--quiet", "--device", session.device, "--time-budget", seconds]
    processes = []
    for command in training.commands:
        words = [str(root / word) if word.startswith(RUNS) else word for word in command]
        if session.tiny:
            words += [word for one in (*TINY[command[1]], "precision=32-true") for word in ("--set", one)]
        processes.append(session.start([sys.executable, "-m", "anamorph", *words, *more], session.out / LOG))
    packed = time.monotonic()
    while any(process.poll() is None for process in processes) and session.left_s > FINISH_S / 3:
        time.sleep(0.5)
        if time.monotonic() - packed > PACKED_EVERY_S:
            pack(session, root, training.runs)
            packed = time.monotonic()
    for process, done, run in zip(processes, ended(processes, 0), training.runs, strict=True):
        last = {key: _last_session(root / run).get(key) for key in ("ending", "step", "seconds", "best")}
        session.note("trainings", training=training.number, run=run, ended=done, exit=process.returncode, **last)
    pack(session, root, training.runs)


def pack(session: Session, root: Path, runs: Sequence[str]) -> None:
    """Write what the next session needs of some runs, and their models, in pieces that are not too large."""
    whole = session.work / "runs.tar"
    with tarfile.open(whole, "w") as archive:
        for run in runs:
            if (root / run).is_dir():
                archive.add(root / run, run, filter=_kept)
    with whole.open("rb") as stream:
        count = 0
        while piece := stream.read(LARGEST_PIECE):
            temporary = session.work / "piece"
            temporary.write_bytes(piece)
            shutil.move(temporary, session.out / f"runs.tar.{count}")
            count += 1


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(entry.name).name in LEFT_OUT else entry


def given(command: Sequence[str], option: str) -> list[str]:
    """What follows an option, as often as it is there."""
    return [following for one, following in pairwise(command) if one == option]


def _over(run: Path) -> bool:
    return _last_session(run).get("ending") in ENDED


def _last_session(run: Path) -> dict[str, Any]:
    folder = RunFolder(run)
    sessions: list[dict[str, Any]] = folder.record().get("sessions", []) if folder.exists else []
    return sessions[-1] if sessions else {}
