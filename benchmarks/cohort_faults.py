"""Faults done to a running cohort for real: `python -m benchmarks.cohort_faults FOLDER`.

Each fault is done to a run of the same plan (phantoms of 24 x 24 x 24 voxels), which is then run to its end. Printed is
what was done, what the command said, and whether all files and all records of results are those of a run that nothing
came between, byte for byte. A full disk and an unplugged network need root on Linux, and are skipped without.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks.cohort_scale import write_cohort

PAIRS = 120
WORKER = ("dask", "worker", "--nthreads", "1", "--no-dashboard")
ENVIRONMENT = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",
    "OMP_NUM_THREADS": "1",
    "ANAMORPH_NUM_THREADS": "1",
}
NAMESPACE, HERE, THERE = "anamorph-faults", "10.231.7.1", "10.231.7.2"


def main() -> None:
    """Do every fault and print a Markdown table."""
    folder = Path(sys.argv[1]).absolute()
    plan = write_cohort(folder, PAIRS, transforms=True)
    if not (folder / "undisturbed" / "cohort.json").exists():
        assert cohort(plan, folder / "undisturbed")[0] == 0
    expected = results_of(folder / "undisturbed")
    print("| fault | what was said | done before, again | results equal |")
    print("|---|---|---|---|")
    faults: tuple[Callable[[Path, Path], str], ...] = (
        interrupt, kill_workers, kill_the_scheduler, corrupt, fill_the_disk, unplug, run_twice,
    )  # fmt: skip
    for fault in faults if len(sys.argv) < 3 else [one for one in faults if one.__name__ in sys.argv[2:]]:
        run = folder / fault.__name__
        shutil.rmtree(run, ignore_errors=True)
        with ExitStack() as stack:
            if fault is fill_the_disk:
                if os.geteuid() != 0:
                    print("| fill_the_disk | needs root | | |")
                    continue
                stack.enter_context(small_disk(run))
            try:
                said = fault(plan, run)
            except PermissionError as error:
                print(f"| {fault.__name__} | skipped: {error} | | |")
                continue
            before = complete(run)
            code, words = cohort(plan, run)
            again = PAIRS - before
            equal = results_of(run) == expected
            end = "" if code == 0 else f" (then: {words})"
            print(f"| {fault.__name__} | {said}{end} | {before}, {again} | {'yes' if equal else 'NO'} |", flush=True)


def interrupt(plan: Path, run: Path) -> str:
    """Ctrl-C, twice at different places."""
    for share in (0.2, 0.6):
        process = start(plan, run, "--workers", "2")
        wait_until(lambda share=share: complete(run) >= share * PAIRS)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGINT)
        said = last_line(process)
    return said


def kill_workers(plan: Path, run: Path) -> str:
    """SIGKILL to three workers, one after the other, as the kernel does when memory is short."""
    process = start(plan, run, "--workers", "2")
    for share in (0.1, 0.3, 0.5):
        wait_until(lambda share=share: complete(run) >= share * PAIRS)  # type: ignore[misc]
        family = psutil.Process(process.pid).children(recursive=True)
        max(family, key=lambda one: one.memory_info().rss).kill()
    return last_line(process)


def kill_the_scheduler(plan: Path, run: Path) -> str:
    """SIGKILL to a scheduler with two workers of its own."""
    with cluster("127.0.0.1") as (address, scheduler, _):
        process = start(plan, run, "--workers", address)
        wait_until(lambda: complete(run) >= 0.3 * PAIRS)
        scheduler.kill()
        return last_line(process)


def corrupt(plan: Path, run: Path) -> str:
    """A flipped byte in a result, half of another, a third gone; a flipped byte in a file of records."""
    cohort(plan, run)
    files = sorted((run / "results").rglob("*.nii.gz"))
    records = sorted((run / "records").rglob("*.jsonl"))
    for path in (files[0], records[len(records) // 2]):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    os.truncate(files[20], files[20].stat().st_size // 2)
    files[40].unlink()
    return status(run)


def fill_the_disk(plan: Path, run: Path) -> str:
    """A disk with room for a third of the results; then it grows."""
    said = cohort(plan, run / "run")[1]
    subprocess.run(["mount", "-o", "remount,size=200M", str(run)], check=True)
    return said


def unplug(plan: Path, run: Path) -> str:
    """One of two workers in a network namespace, whose cable is pulled while both work; the folder stays shared."""
    with network(), cluster(HERE, NAMESPACE) as (address, _, workers):
        process = start(plan, run, "--workers", address)
        wait_until(lambda: complete(run) >= 0.2 * PAIRS)
        subprocess.run(["ip", "link", "set", "anamorph0", "down"], check=True)
        said = last_line(process)
        assert all(worker.poll() is None for worker in workers[:1])
        return said


def run_twice(plan: Path, run: Path) -> str:
    """Two commands at a time on one folder, which know nothing of each other."""
    both = [start(plan, run, "--workers", "1") for _ in range(2)]
    return "; ".join(last_line(process) for process in both)


def place_of(run: Path) -> Path:
    """The folder of the run: on the small disk one below the mount."""
    return run / "run" if (run / "run").exists() or os.path.ismount(run) else run


def start(plan: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "anamorph", "cohort", "run", str(plan), "-o", str(run), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def last_line(process: subprocess.Popen[str]) -> str:
    _, told = process.communicate(timeout=300)
    news = [line for line in told.strip().splitlines() if not line.startswith(("[", "table and page"))]
    return f"exit {process.returncode}: {news[-1] if news else ''}"


def cohort(plan: Path, run: Path) -> tuple[int, str]:
    process = start(plan, place_of(run), "--workers", "2")
    said = last_line(process)
    return process.returncode, said


def status(run: Path) -> str:
    command = [sys.executable, "-m", "anamorph", "cohort", "status", str(run), "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return str(next(iter(told["methods"].values())))


def complete(run: Path) -> int:
    """Pairs with a record whose files are sound, without the command."""
    from anamorph.batch.records import Store

    store = Store(place_of(run))
    return sum(any(store.damage(record) is None for record in records) for records in store.records().values())


def results_of(run: Path) -> dict[str, bytes]:
    """All files of results, and the part of the records that does not speak of the time it was computed."""
    from anamorph.batch.records import Store

    run = place_of(run)
    found = {
        str(path.relative_to(run)): path.read_bytes() for path in (run / "results").rglob("*.gz") if path.name[0] != "."
    }
    for key, records in Store(run).records().items():
        found[key] = json.dumps(records[0].result, sort_keys=True).encode()
    return found


def wait_until(what: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("the run does not get on")
        time.sleep(0.2)


@contextmanager
def cluster(host: str, namespace: str | None = None) -> Iterator[tuple[str, subprocess.Popen, list[subprocess.Popen]]]:
    """A scheduler with two workers, the second one in a network namespace if wanted."""
    environment = os.environ | ENVIRONMENT
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    begin = [sys.executable, "-m"]
    port = "38786"
    address = f"tcp://{host}:{port}"
    scheduler = subprocess.Popen(
        [*begin, "dask", "scheduler", "--host", host, "--port", port, "--no-dashboard"],
        **quiet,  # type: ignore[call-overload]
    )
    inside = [] if namespace is None else ["ip", "netns", "exec", namespace]
    commands = [[*begin, *WORKER, address, "--host", host], [*inside, *begin, *WORKER, address]]
    commands[1] += ["--host", host if namespace is None else THERE]
    workers = [subprocess.Popen(command, start_new_session=True, **quiet) for command in commands]  # type: ignore[call-overload]
    try:
        yield address, scheduler, workers
    finally:
        for process in (scheduler, *workers):
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            process.wait()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system in memory of 12 MB."""
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        raise PermissionError(made.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def network() -> Iterator[None]:
    """A cable from here into a network namespace."""

    def ip(*arguments: str) -> None:
        made = subprocess.run(["ip", *arguments], capture_output=True, text=True)
        if made.returncode:
            raise PermissionError(made.stderr.strip())

    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", "anamorph0", "type", "veth", "peer", "name", "anamorph1", "netns", NAMESPACE)
        ip("addr", "add", f"{HERE}/24", "dev", "anamorph0")
        ip("link", "set", "anamorph0", "up")
        for command in (
            ("addr", "add", f"{THERE}/24", "dev", "anamorph1"),
            ("link", "set", "anamorph1", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", NAMESPACE, *command)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


if __name__ == "__main__":
    main()
