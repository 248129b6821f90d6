"""Seconds and memory of every method on a GPU: one pair, and eight at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import AsyncResult
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from anamorph.methods import DEFAULT_METHOD, METHODS
from anamorph.runtime.machine import peak_memory_mb
from anamorph.runtime.threads import usable_cores
from benchmarks.gpu import inputs
from benchmarks.gpu.session import Limit, Session

PRESET = "abdomen-ct"
AT_ONCE = 8
LONGEST_S, LONGEST_OF_A_REHEARSAL_S = 60.0, 180.0
"""That one measurement may take; a method that needs longer is left out."""
PROFILE = "profile.txt"
OPERATIONS = 30
ROUNDS = 2


@dataclass(frozen=True)
class Job:
    """One registration, warm; ``together``: begun when all processes are ready; ``profiled``: once more, to see why."""

    method: str
    files: tuple[Path, Path]
    model: Path | None
    device: str
    threads: int
    together: bool
    profiled: bool


def run(session: Session, limit_s: float) -> None:
    """The default first, alone, eight at once, on the processor; then all others alone, at last these at once too."""
    limit, longest_s = Limit(limit_s), LONGEST_OF_A_REHEARSAL_S if session.tiny else LONGEST_S
    count = 2 if session.tiny else AT_ONCE
    workers = _Workers(count)
    try:
        for method, shape, at_once, device, profiled in _order(session, count):
            told = {"method": method, "size": shape, "pairs": at_once, "device": device}
            if limit.left_s < 4:
                session.note("methods", **told, skipped="no time left")
                continue
            model = inputs.model_folder(session, method) if method in inputs.NETWORKS else None
            threads = max(usable_cores() // at_once, 1)
            job = Job(method, inputs.pair_files(session, shape), model, device, threads, at_once > 1, profiled)
            found = workers.measure(job, at_once, min(limit.left_s, longest_s))
            if table := found.pop("profile", None):
                with (session.out / PROFILE).open("a", encoding="utf-8") as stream:
                    stream.write(f"{method} {shape}\n{table}\n")
            session.note("methods", **told, **found)
    finally:
        workers.stop()


def _order(session: Session, count: int) -> Iterator[tuple[str, inputs.Shape, int, str, bool]]:
    first, others = DEFAULT_METHOD, [name for name in METHODS if name != DEFAULT_METHOD]
    sizes, where = inputs.sizes(session.tiny), session.device
    yield from ((first, shape, at_once, where, False) for at_once in (1, count) for shape in sizes)
    yield from ((first, shape, 1, "cpu", False) for shape in sizes)
    yield first, sizes[-1], 1, where, True
    yield from ((method, shape, n, where, False) for n in (1, count) for shape in sizes for method in others)


class _Workers:
    """Processes that stay, so that what they measure is warm; all are replaced when one of them hangs."""

    def __init__(self, count: int) -> None:
        self.count, self.context = count, multiprocessing.get_context("spawn")
        self._begin()

    def _begin(self) -> None:
        self.barrier = self.context.Barrier(self.count)
        self.pool = self.context.Pool(self.count, _begin, (self.barrier,))

    def measure(self, job: Job, at_once: int, limit_s: float) -> dict[str, Any]:
        """Numbers of the slowest process, and the memory of all of them."""
        limit = Limit(limit_s)
        waiting: list[AsyncResult[dict[str, Any]]] = [self.pool.apply_async(_measure, (job,)) for _ in range(at_once)]
        try:
            each = [one.get(max(limit.left_s, 0.1)) for one in waiting]
        except multiprocessing.TimeoutError:
            self.stop()
            self._begin()
            return {"failed": f"not done in {limit_s:.0f} s"}
        errors = [one["failed"] for one in each if "failed" in one]
        if errors:
            self.barrier.reset()
            return {"failed": min(errors, key=lambda error: "BrokenBarrier" in error)}
        slowest = max(each, key=lambda one: float(one["seconds"]))
        begin, end = min(one["begun"] for one in each), max(one["ended"] for one in each)
        memory = {name: sum(one[name] for one in each) for name in ("gpu_allocated_mb", "gpu_reserved_mb", "cpu_mb")}
        first = {name: slowest[name] for name in ("first_s", "stages", "profile")}
        return {"seconds": round(end - begin if at_once > 1 else slowest["seconds"], 3), **memory, **first}

    def stop(self) -> None:
        """End them."""
        self.pool.terminate()
        self.pool.join()


_READY: Any = None
"""In a worker: the barrier at which all of them meet."""


def _begin(barrier: Any) -> None:
    global _READY
    _READY = barrier
    import torch  # the import is not measured

    if torch.cuda.is_available():
        torch.cuda.init()


def _measure(job: Job) -> dict[str, Any]:
    """Register once to warm up, then again; in a worker."""
    try:
        return _registered(job)
    except BrokenBarrierError as error:
        return {"failed": f"BrokenBarrier {error}"}
    except Exception as error:
        _READY.abort()
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


def _registered(job: Job) -> dict[str, Any]:
    import torch

    import anamorph

    if on_gpu := job.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    fixed, moving = (_scan(file) for file in job.files)
    settings = {} if job.model is None else {"model": str(job.model)}
    preset = "default" if job.model is not None else PRESET

    def once() -> tuple[float, float, dict[str, float]]:
        begun = time.time()
        result = anamorph.register(
            fixed,
            moving,
            method=job.method,
            preset=preset,
            settings=settings,
            device=job.device,  # type: ignore[arg-type]
            threads=job.threads,
        )
        return begun, time.time(), result.timings

    begun, ended, _ = once()
    first_s = ended - begun
    if job.together:
        _READY.wait(60)
    rounds = [once() for _ in range(1 if job.together else ROUNDS)]
    begun, ended, stages = min(rounds, key=lambda one: one[1] - one[0])
    found = {
        "first_s": round(first_s, 2), "seconds": ended - begun, "begun": begun, "ended": ended, "profile": "",
        "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
        "gpu_allocated_mb": 0, "gpu_reserved_mb": 0, "cpu_mb": round(peak_memory_mb()),
    }  # fmt: skip
    if on_gpu:
        found["gpu_allocated_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        found["gpu_reserved_mb"] = round(torch.cuda.max_memory_reserved() / 1e6)
    if job.profiled:
        found["profile"] = _profile(once)
    if on_gpu:
        torch.cuda.empty_cache()  # the next job is another process's
    return found


def _profile(once: Callable[[], Any]) -> str:
    """Which operations took the GPU's time, and how often each was launched."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        once()
    averages = recorded.key_averages()
    return averages.table(sort_by="self_device_time_total", row_limit=OPERATIONS, max_name_column_width=60)


@cache
def _scan(file: Path) -> Any:
    from anamorph.image.read import read_image

    return read_image(file)
