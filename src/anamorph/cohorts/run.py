"""A run of a plan from where it is: look at what is done, start workers, do the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anamorph.cohorts.cluster import Machines, connected
from anamorph.cohorts.engine import News, run_jobs
from anamorph.cohorts.plan import Plan, read_plan
from anamorph.cohorts.sizing import local_machines
from anamorph.cohorts.standing import Standing, find_standing
from anamorph.cohorts.store import Store


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
    begin: Callable[[Standing, Machines], None] = lambda standing, machines: None
    dashboard: Callable[[str], None] = lambda address: None
    news: Callable[[News], None] = lambda news: None


def run_cohort(
    folder: Path,
    plan: Path | None = None,
    *,
    workers: int | None = None,
    choices: dict[str, Any] | None = None,
    quick: bool = False,
    listeners: Listeners | None = None,
) -> News:
    """Do what of a plan is not done.

    Args:
        folder: of the run; the workers reach it, and all scans, at the same paths.
        plan: a new run, or a run with another plan; the plan that the folder has by default.
        workers: processes on this machine, or to ask a batch system for; by default as many as this machine takes.
        choices: of :class:`~anamorph.cohorts.cluster.Machines`.
        quick: look at the sizes of results that are there instead of reading them.
        listeners: who wants to know what.

    Raises:
        UserError: the plan, the folder or the choices are wrong.
        RegistrationFailure: the disk is full, or the scheduler cannot be reached; what is done is kept.
    """
    listeners, choices = listeners or Listeners(), {"shared": folder.absolute()} | (choices or {})
    store = Store(folder)
    if plan is not None:
        wanted: Plan = read_plan(plan)
        store.begin(plan, plan.parent)
    else:
        wanted = read_plan(*store.plan())
    standing = find_standing(store, wanted, quick=quick, progress=listeners.look)
    jobs = standing.to_do()
    elsewhere = choices.get("scheduler") or choices.get("batch_system")
    machines = Machines(workers=workers or 1, **choices) if elsewhere else local_machines(jobs, workers, **choices)
    machines.check()
    listeners.begin(standing, machines)
    if not jobs:
        return News(0, failed_before=len(standing.failed()))
    with connected(machines) as client:
        if client.dashboard_link and (machines.dashboard or machines.scheduler):
            listeners.dashboard(client.dashboard_link)
        news = run_jobs(jobs, store, client, wanted.wanted.attempts, earlier=standing.failures, tell=listeners.news)
    return replace(news, failed_before=len(standing.failed()))
