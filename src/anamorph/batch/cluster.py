"""Workers to do the work: of this machine, of a scheduler that runs already, or of a batch system."""

from __future__ import annotations

import logging
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anamorph.errors import RegistrationFailure, UserError
from anamorph.reading import read_text, understood

if TYPE_CHECKING:
    from distributed import Client, Security

LOOPBACK = "127.0.0.1"
BATCH_SYSTEMS = ("slurm", "pbs")
CONNECT_TIMEOUT_S = 20
GPU = "GPU"
"""The resource that a worker with a GPU offers, 1 per device."""
_ENGINE = {
    # The first death of a worker is told at once, and counted by us; nothing is tried behind our back.
    "distributed.scheduler.allowed-failures": 0,
    # A process that needs too much is ended; moving data to disk or waiting would help nobody, as we hold no data.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    # A process that died is started again, which takes long on a busy machine; after this time another is made.
    "distributed.deploy.lost-worker-timeout": "60 s",
}


@dataclass(frozen=True)
class Machines:
    """Where the work is done.

    Args:
        scheduler: address of one that runs, such as ``tls://node1:8786``; a cluster of this machine by default.
        batch_system: submit jobs that bring workers.
        workers: processes of the local cluster, or workers that the batch system is asked for.
        threads: of every process of the local cluster.
        gpus: devices of the local cluster, each with a worker of its own.
        memory_bytes: that a process of the local cluster may take; the system's for None.
        host: address that the scheduler listens at.
        tls: of a cluster that is started here: encrypt, and take nobody who has not the certificate made for this run;
            without it whoever reaches the scheduler, on the loopback any user of the machine, may run programs as you.
        dashboard: serve the engine's dashboard, at the host.
        jobqueue: settings of the batch system, a TOML file with the arguments of dask-jobqueue.
        shared: a folder that the jobs of the batch system reach too, for the certificate.
    """

    scheduler: str | None = None
    batch_system: Literal["slurm", "pbs"] | None = None
    workers: int = 1
    threads: int = 1
    gpus: tuple[int, ...] = field(default=())
    memory_bytes: int | None = None
    host: str = LOOPBACK
    tls: bool = True
    dashboard: bool = False
    jobqueue: Path | None = None
    shared: Path | None = None

    def check(self) -> None:
        """See that the choices fit each other.

        Raises:
            UserError: they do not.
        """
        if self.scheduler is not None and (self.batch_system or self.dashboard or self.host != LOOPBACK):
            raise UserError("--workers names a cluster that runs; drop --host and --dashboard")
        if self.batch_system is not None and self.host == LOOPBACK:
            raise UserError("jobs on other machines cannot reach a scheduler on the loopback; pass --host of this one")


def machines_named(where: str, **choices: Any) -> Machines:
    """Machines other than processes of this one, by the words of ``--workers``.

    Args:
        where: the address of a scheduler, such as ``tls://node1:8786``; or a batch system, how many workers to ask it
            for and, if need be, a TOML file with the arguments of dask-jobqueue: ``slurm:64`` or ``pbs:64:queue.toml``.
        choices: of :class:`Machines`. For a batch system the scheduler listens at this machine's name, and the
            certificate lies in the working directory, by default.

    Raises:
        UserError: it is neither.
    """
    if "://" in where:
        return Machines(scheduler=where, **choices)
    system, _, rest = where.partition(":")
    count, _, file = rest.partition(":")
    if system not in BATCH_SYSTEMS or not count.isdecimal() or int(count) < 1:
        raise UserError(
            "--workers wants a number of processes, a scheduler such as tls://node1:8786, or a batch system with a "
            f"number of workers such as slurm:64 or pbs:64:queue.toml, not '{where}'"
        )
    own = {"host": socket.gethostname(), "shared": Path.cwd()}
    jobqueue = Path(file) if file else None
    return Machines(batch_system=system, workers=int(count), jobqueue=jobqueue, **own | choices)  # type: ignore[arg-type]


@contextmanager
def connected(machines: Machines) -> Iterator[Client]:
    """A client of a cluster that is ready, or will be once the batch system starts a job.

    Raises:
        UserError: the choices do not fit each other, or the engine is not installed.
        RegistrationFailure: no connection.
    """
    machines.check()
    try:
        import dask.config
        from distributed import Client
    except ImportError as error:
        raise UserError('such workers need dask.distributed; install it: pip install "anamorph[cohort]"') from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is told in our own words
    with dask.config.set(_ENGINE):
        if machines.scheduler is not None:
            try:
                client = Client(machines.scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            except (OSError, TimeoutError, ValueError, TypeError) as error:
                raise RegistrationFailure(
                    f"no connection to the scheduler {machines.scheduler} ({_short(error)}); does it run, and may this "
                    "machine reach it?"
                ) from error
            with client:
                yield client
            return
        try:
            cluster = _batch_cluster(machines) if machines.batch_system else _local_cluster(machines)
        except OSError as error:
            raise RegistrationFailure(f"the scheduler cannot listen at {machines.host} ({_short(error)})") from error
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def replace_lost(client: Client) -> None:
    """Ask again for workers of a cluster of ours that are gone for good: at the end of their job, or dead at birth."""
    cluster: Any = client.cluster
    if cluster is not None and len(cluster.workers) < len(cluster.worker_spec):
        wanted = len(cluster.worker_spec)
        cluster.scale(**{"jobs" if hasattr(cluster, "job_script") else "n": wanted})


def _local_cluster(machines: Machines) -> Any:
    """A scheduler and processes of this machine, restarted if they die."""
    from distributed import Nanny, Scheduler, SpecCluster

    security = _temporary_security() if machines.tls else None
    same: dict[str, Any] = {"host": machines.host, "protocol": "tls://" if machines.tls else "tcp://"}
    same |= {"security": security, "dashboard_address": f"{machines.host}:0"}
    names = ("ANAMORPH_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: str(machines.threads) for name in names} | {"OMP_WAIT_POLICY": "passive"}
    worker = same | {"nthreads": 1, "memory_limit": machines.memory_bytes or 0, "silence_logs": logging.CRITICAL}
    specs: dict[Any, dict[str, Any]] = {
        number: {"cls": Nanny, "options": worker | {"env": environment}} for number in range(machines.workers)
    }
    for device in machines.gpus:
        own = {"env": environment | {"CUDA_VISIBLE_DEVICES": str(device)}, "resources": {GPU: 1}, "memory_limit": 0}
        specs[f"gpu-{device}"] = {"cls": Nanny, "options": worker | own}
    scheduler = {"cls": Scheduler, "options": same | {"dashboard": machines.dashboard}}
    return SpecCluster(specs, scheduler, security=security, silence_logs=logging.CRITICAL)


def _batch_cluster(machines: Machines) -> Any:
    """A scheduler of this machine, and jobs of a batch system that start workers which find it."""
    try:
        from dask_jobqueue.pbs import PBSCluster
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise UserError('batch systems need dask-jobqueue; install it: pip install "anamorph[cluster]"') from error
    kind = {"slurm": SLURMCluster, "pbs": PBSCluster}[machines.batch_system or "slurm"]
    options = {"host": machines.host, "dashboard": machines.dashboard, "dashboard_address": f"{machines.host}:0"}
    given: dict[str, Any] = {"cores": 1, "processes": 1, "memory": "4GB"} | _jobqueue_settings(machines.jobqueue)
    if machines.tls:
        safe = {"protocol": "tls://", "security": _temporary_security(), "shared_temp_directory": machines.shared}
        given = safe | given
    try:
        cluster = kind(scheduler_options=options, silence_logs="critical", **given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{machines.jobqueue or 'dask-jobqueue'}: {_short(error)}; see the manual of dask-jobqueue"
        ) from error
    cluster.scale(machines.workers)
    return cluster


def _jobqueue_settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    with understood(path, "cannot be read as TOML", 'write queue = "..." and so on'):
        return tomllib.loads(read_text(path))


def _temporary_security() -> Security:
    from distributed import Security

    try:
        return Security.temporary()
    except ImportError as error:
        raise UserError("--tls needs the package cryptography; install it: pip install cryptography") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
