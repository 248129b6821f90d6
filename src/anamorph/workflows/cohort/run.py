"""A run of a plan from where it is: look at what is done, start as many workers as fit, do the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anamorph.batch.cluster import Machines, connected, machines_named
from anamorph.batch.hand_out import News, hand_out
from anamorph.batch.records import INPUTS, Store
from anamorph.batch.run import MEMORY_SHARE, fitting_workers
from anamorph.batch.status import Status
from anamorph.batch.status import find_status as status_of_jobs
from anamorph.batch.store import Contents
from anamorph.errors import AnamorphError, UserError
from anamorph.geometry.grid import Grid
from anamorph.image.read import read_grid
from anamorph.runtime.memory import available_bytes
from anamorph.runtime.threads import usable_cores
from anamorph.types import Progress
from anamorph.workflows.cohort.job import KEPT_BYTES, PairJob, jobs_of
from anamorph.workflows.cohort.plan import CohortPlan, read_plan


@dataclass(frozen=True)
class CohortStatus(Status[PairJob]):
    """A plan beside what is on disk; the jobs are every pair by every method."""

    plan: CohortPlan


@dataclass(frozen=True)
class Listeners:
    """Who wants to know what.

    Args:
        look: called with the stage and the fraction done, before anything is computed.
        begin: called with what is done already and with the machines.
        dashboard: called with the address of the engine's dashboard, if it has one.
        news: called while the run goes on.
    """

    look: Callable[[str, float], None] = lambda stage, fraction: None
    begin: Callable[[CohortStatus, Machines], None] = lambda status, machines: None
    dashboard: Callable[[str], None] = lambda address: None
    news: Callable[[News], None] = lambda news: None


def run_cohort(
    folder: Path,
    plan: Path | None = None,
    *,
    workers: int | str | None = None,
    choices: dict[str, Any] | None = None,
    quick: bool = False,
    listeners: Listeners | None = None,
) -> News:
    """Do what of a plan is not done.

    Args:
        folder: of the run; the workers reach it, and all scans, at the same paths.
        plan: a new run, or a run with another plan; the plan that the folder has by default.
        workers: processes on this machine, as many as it takes by default; or workers elsewhere, see
            :func:`~anamorph.batch.cluster.machines_named`.
        choices: of :class:`~anamorph.batch.cluster.Machines`.
        quick: look at the sizes of results that are there instead of reading them.
        listeners: who wants to know what.

    Raises:
        UserError: the plan, the folder or the choices are wrong.
        RegistrationFailure: the disk is full, or the scheduler cannot be reached; what is done is kept.
    """
    listeners, choices = listeners or Listeners(), {"shared": folder.absolute()} | (choices or {})
    store = Store(folder)
    if plan is not None:
        wanted: CohortPlan = read_plan(plan)
        store.begin(plan, plan.parent)
    else:
        wanted = read_plan(*store.plan())
    status = find_status(store, wanted, quick=quick, progress=listeners.look)
    jobs = status.to_do()
    if isinstance(workers, str):
        machines = machines_named(workers, **choices)
    else:
        machines = local_machines(jobs, workers, **choices)
    machines.check()
    listeners.begin(status, machines)
    if not jobs:
        return News(0, failed_before=len(status.failed()))
    with connected(machines) as client:
        if client.dashboard_link and (machines.dashboard or machines.scheduler):
            listeners.dashboard(client.dashboard_link)
        news = hand_out(jobs, store, client, wanted.wanted.attempts, earlier=status.failures, tell=listeners.news)
    return replace(news, failed_before=len(status.failed()))


def find_status(
    store: Store, plan: CohortPlan | None = None, *, quick: bool = False, progress: Progress | None = None
) -> CohortStatus:
    """Look at the folder of a run.

    Args:
        store: the folder.
        plan: what is wanted; by default what was wanted last.
        quick: look at the sizes of files instead of reading them.
        progress: called as ``progress(stage, fraction)``.

    Raises:
        UserError: no such run, or its plan cannot be read any more.
    """
    plan = plan or read_plan(*store.plan())
    contents = Contents(store.folder / INPUTS)
    contents.look(plan.files(), None if progress is None else lambda done: progress("reading the scans", done))
    jobs = jobs_of(plan, contents, store.folder)
    return CohortStatus(
        **vars(status_of_jobs(store, jobs, plan.wanted.attempts, quick=quick, progress=progress)), plan=plan
    )


def local_machines(jobs: Sequence[PairJob], workers: int | None = None, **choices: Any) -> Machines:
    """A local cluster for some jobs.

    One process with one thread per core if memory allows; fewer processes share the cores, and so do few jobs. Where
    the plan fixes the threads of a pair, there are as many processes as then fill the cores.

    Args:
        jobs: to do.
        workers: at most so many processes; one per core by default.
        choices: see :class:`~anamorph.batch.cluster.Machines`.

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


def peak_bytes(jobs: Iterable[PairJob]) -> int:
    """Predicted memory of the largest of some jobs; a scan that cannot be read is reported later, with its pair."""
    grids: dict[Path, Grid | None] = {}
    kinds = {}
    for job in jobs:
        fixed, moving = (_grid_of(case.image, grids) for case in (job.pair.fixed, job.pair.moving))
        if fixed is not None and moving is not None:
            slides = any("sliding" in case.known for case in (job.pair.fixed, job.pair.moving))
            kinds[job.method, fixed, moving, slides] = job.settings
    peaks = (how.peak_bytes(fixed, moving, slides) for (_, fixed, moving, slides), how in kinds.items())
    return max(peaks, default=0)


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
        raise UserError(
            'the plan says device = "cuda", but there is no CUDA GPU here; name another scheduler by --workers, or cpu'
        )
    return tuple(range(torch.cuda.device_count()))
