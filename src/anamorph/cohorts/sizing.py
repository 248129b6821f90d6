"""How many processes with how many threads this machine takes, so that its cores are full and nothing swaps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from anamorph.batch.processes import MEMORY_SHARE, fitting_workers
from anamorph.cohorts.cluster import Machines
from anamorph.cohorts.inputs_kept import KEPT_BYTES
from anamorph.cohorts.job import Job
from anamorph.errors import AnamorphError, UserError
from anamorph.geometry import Grid
from anamorph.image.read import read_grid
from anamorph.memory import available_bytes
from anamorph.registration.provenance import usable_cores


def local_machines(jobs: Sequence[Job], workers: int | None = None, **choices: Any) -> Machines:
    """A local cluster for some jobs.

    One process with one thread per core if memory allows; fewer processes share the cores, and so do few jobs. Where
    the plan fixes the threads of a pair, there are as many processes as then fill the cores.

    Args:
        jobs: to do.
        workers: at most so many processes; one per core by default.
        choices: see :class:`~anamorph.cohorts.cluster.Machines`.

    Raises:
        UserError: a method wants a GPU, and there is none.
    """
    cores = usable_cores()
    on_gpu = [job for job in jobs if job.settings.device == "cuda"]
    on_cpu = [job for job in jobs if job.settings.device != "cuda"]
    peak = peak_bytes(on_cpu) + KEPT_BYTES
    threads = jobs[0].threads if jobs else None
    count = fitting_workers(workers or max(cores // (threads or 1), 1), len(on_cpu), peak) if on_cpu else 0
    free = available_bytes()
    return Machines(
        workers=count,
        threads=threads or max(cores // max(count, 1), 1),
        gpus=_gpus() if on_gpu else (),
        memory_bytes=None if free is None or not count else max(int(free * MEMORY_SHARE) // count, peak),
        **choices,
    )


def peak_bytes(jobs: Iterable[Job]) -> int:
    """Predicted memory of the largest of some jobs; a scan that cannot be read is reported later, with its pair."""
    grids: dict[Path, Grid | None] = {}
    kinds = {}
    for job in jobs:
        fixed, moving = (_grid_of(case.image, grids) for case in (job.pair.fixed, job.pair.moving))
        if fixed is not None and moving is not None:
            kinds[job.method, fixed, moving] = job.settings
    return max((settings.peak_bytes(*pair) for (_, *pair), settings in kinds.items()), default=0)


def _grid_of(path: Path, known: dict[Path, Grid | None]) -> Grid | None:
    if path not in known:
        try:
            known[path] = read_grid(path)
        except AnamorphError:
            known[path] = None
    return known[path]


def _gpus() -> tuple[int, ...]:
    import torch

    if not torch.cuda.is_available():
        raise UserError('the plan says device = "cuda", but there is no CUDA GPU here; pass --scheduler of one, or cpu')
    return tuple(range(torch.cuda.device_count()))
