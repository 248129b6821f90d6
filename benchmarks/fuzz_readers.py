"""Damaged files for every reader: `python -m benchmarks.fuzz_readers [INPUTS_PER_READER] [PART_OF_A_NAME...]`.

Each input is one damage to a sound file of `tests/helpers/reader_seeds.py`, made from its number alone. A worker
process reads them one by one; a worker that dies, or takes longer than ten seconds, is replaced. Printed is a Markdown
table of what became of them, and below it every input that did not give a value or one line, with its number.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

DEADLINE_S = 10.0
START_S = 180.0
MOST_BYTES = 1 << 30
ADDRESS_SPACE = 12 << 30
OUTCOMES = ("read", "refused", "traceback", "several lines", "left behind", "over memory", "hang", "crash")


def main() -> None:
    """Read damaged files and print what became of them."""
    from reader_seeds import READERS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    names = [name for name in READERS if len(sys.argv) < 3 or any(part in name for part in sys.argv[2:])]
    failures: list[str] = []
    table: dict[str, Counter[str]] = {}
    worker = Worker()
    for name in names:
        table[name] = Counter()
        for number in range(count):
            outcome, what = worker.ask(name, number)
            table[name][outcome] += 1
            if outcome not in ("read", "refused"):
                failures.append(f"- {name}, input {number}: {outcome}: {what}")
        print(name, dict(table[name]), file=sys.stderr, flush=True)
    worker.stop()
    print("| reader | inputs |", " | ".join(OUTCOMES), "|\n|---|" + "---:|" * (len(OUTCOMES) + 1))
    table["all"] = sum(table.values(), Counter())
    for name, found in table.items():
        print(f"| {name} | {found.total()} |", " | ".join(str(found[outcome]) for outcome in OUTCOMES), "|")
    print("\n" + "\n".join(failures or ["No input failed."]))
    sys.exit(bool(failures))


class Worker:
    """A process that reads inputs, replaced when it dies or hangs."""

    def __init__(self) -> None:
        self.warm: set[str] = set()
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.warm.clear()

    def ask(self, name: str, number: int) -> tuple[str, str]:
        """What became of an input; of a reader's first, imports and compilation are not counted."""
        if name not in self.warm:
            outcome = self._ask(name, None, START_S)
            if outcome[0] != "read":
                return outcome[0], f"the sound file: {outcome[1]}"
            self.warm.add(name)
        return self._ask(name, number, DEADLINE_S)

    def _ask(self, name: str, number: int | None, seconds: float) -> tuple[str, str]:
        try:
            self.pipe.send((name, number))
            self.pipe.recv()  # the input is made, which is not the reader's time
            if self.pipe.poll(seconds):
                answer: tuple[str, str] = self.pipe.recv()
                return answer
            outcome = "hang", f"no answer in {seconds:.0f} s"
        except (EOFError, OSError):
            self.process.join()
            outcome = "crash", f"exit code {self.process.exitcode}"
        self.stop()
        self.start()
        return outcome

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe: Connection) -> None:
    """Read what is asked for until the pipe ends."""
    from reader_seeds import damaged, seed_of

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    while True:
        try:
            name, number = pipe.recv()
        except EOFError:
            return
        seed = seed_of(name) if number is None else damaged(name, Random(number))
        pipe.send("made")
        pipe.send(attempt(name, seed))


def attempt(name: str, seed: object) -> tuple[str, str]:
    """Read one input."""
    from anamorph.errors import AnamorphError
    from reader_seeds import READERS, Seed

    assert isinstance(seed, Seed)
    with TemporaryDirectory() as place:
        path = seed.put(Path(place))
        before = sorted(Path(place).rglob("*"))
        forget_peak()
        start = time.monotonic()
        outcome, what = "read", ""
        try:
            READERS[name].read(path)
        except AnamorphError as error:
            outcome, what = ("refused" if len(str(error).splitlines()) == 1 else "several lines"), str(error)
        except MemoryError as error:
            outcome, what = "over memory", str(error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            line = f"{Path(where.filename).name}:{where.lineno}"
            outcome, what = "traceback", f"{type(error).__name__} in {line}: {error}"
        if sorted(Path(place).rglob("*")) != before:
            outcome, what = "left behind", f"after {outcome}"
        size = sum(len(content) for content in seed.files.values())
        if size <= 2_000_000 and peak_bytes() > MOST_BYTES:
            outcome, what = "over memory", f"{peak_bytes() / 1e9:.1f} GB for {size} bytes, {outcome}"
        return outcome, f"{what[:200]} ({time.monotonic() - start:.1f} s)".replace("\n", " ")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
