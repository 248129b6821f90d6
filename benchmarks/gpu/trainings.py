"""The next training of ``benchmarks/gpu_trainings.md``, for as long as there is time; what it leaves can be carried on.

Every heading of that list is a training, or several that are done at once: the commands below it. Runs lie in
``.gpu/runs``; what the next session needs of them is written into pieces of one archive, ``runs.tar.0``, ``runs.tar.1``
and so on, that `cat runs.tar.* | tar x` unpacks at the root of the repository.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError
from anamorph.training import find_task
from anamorph.training.run_folder import RunFolder
from benchmarks.gpu.session import LOG, ROOT, Session, ended

LIST = ROOT / "benchmarks" / "gpu_trainings.md"
LARGEST_PIECE = 15 * 2**20
"""A little below what a file may have that comes back from a lent machine."""
NEEDED_S, FINISH_S = 25.0, 15.0
"""Of a session that begins a training, and what is left at its end for the last archive."""
PACKED_EVERY_S = 40.0
LEFT_OUT = ("best.pt", "tensorboard")
"""What a training goes on without, and what can be drawn from the numbers again."""
ENDED = ("finished", "no improvement")


@dataclass(frozen=True)
class Training:
    """One heading of the list: its number, what it is, and the arguments of `anamorph` of each command."""

    number: int
    title: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def runs(self) -> list[Path]:
        """The run folder of each command."""
        return [ROOT / one[one.index("-o") + 1] for one in self.commands]

    @property
    def over(self) -> bool:
        """Whether all runs came to their own end."""
        return bool(self.commands) and all(_ending(run) in ENDED for run in self.runs)

    def lacks(self) -> str:
        """What is not here that it needs; empty if it can begin."""
        for command in self.commands:
            try:
                find_task(command[1])
            except UserError as error:
                return str(error)
            given = [ROOT / command[n + 1] for n, one in enumerate(command) if one == "--dataset"]
            missing = [str(path.relative_to(ROOT)) for path in given if not path.exists()]
            if missing:
                return f"{', '.join(missing)} is not there"
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
    for training in listed():
        told = {"training": training.number, "title": training.title}
        reason = training.lacks()
        if wanted is not None and training.number != wanted:
            continue
        if reason or training.over:
            session.note("trainings", **told, skipped=reason or "is over")
        elif session.left_s < NEEDED_S:
            session.note("trainings", **told, skipped="no time left")
        else:
            _train(session, training)


def _train(session: Session, training: Training) -> None:
    seconds = f"{session.left_s - FINISH_S:.0f}s"
    more = ["--resume", "--quiet", "--device", session.device, "--time-budget", seconds]
    begun = time.monotonic()
    processes = [
        session.start([sys.executable, "-m", "anamorph", *command, *more], session.out / LOG)
        for command in training.commands
    ]
    packed = time.monotonic()
    while any(process.poll() is None for process in processes) and session.left_s > FINISH_S / 3:
        time.sleep(0.5)
        if time.monotonic() - packed > PACKED_EVERY_S:
            pack(session.out, training.runs)
            packed = time.monotonic()
    for process, done, path in zip(processes, ended(processes, 0), training.runs, strict=True):
        seconds_used = round(time.monotonic() - begun)
        session.note(
            "trainings", training=training.number, run=path.name, ended=done, exit=process.returncode,
            seconds=seconds_used, ending=_ending(path), best=_best(path),
        )  # fmt: skip
    pack(session.out, training.runs)


def pack(out: Path, runs: list[Path]) -> None:
    """Write what the next session needs of some runs, and their models, in pieces that are not too large."""
    whole = out.parent / f"{out.name}-runs.tar"
    with tarfile.open(whole, "w") as archive:
        for path in runs:
            if path.is_dir():
                archive.add(path, path.relative_to(ROOT), filter=_kept)
    with whole.open("rb") as stream:
        count = 0
        while piece := stream.read(LARGEST_PIECE):
            temporary = out.parent / f"{out.name}-piece"
            temporary.write_bytes(piece)
            temporary.replace(out / f"runs.tar.{count}")
            count += 1
    whole.unlink()


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(entry.name).name in LEFT_OUT else entry


def _sessions(run: Path) -> list[dict[str, object]]:
    folder = RunFolder(run)
    if not folder.exists:
        return []
    found: list[dict[str, object]] = json.loads((run / "run.json").read_text(encoding="utf-8"))["sessions"]
    return found


def _ending(run: Path) -> object:
    sessions = _sessions(run)
    return sessions[-1]["ending"] if sessions else None


def _best(run: Path) -> object:
    sessions = _sessions(run)
    return sessions[-1]["best"] if sessions else None
