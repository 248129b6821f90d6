"""Kernels on several threads: one pool, slabs that do not depend on the number of threads, and limits to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

from anamorph.errors import UserError

T = TypeVar("T")

SLABS = 16
"""At most so many: enough that threads seldom wait for the slowest, few enough that calling them costs microseconds."""

POINTS = 4096
"""So many points or numbers, of which each takes nanoseconds, are worth a slab of their own."""


def rows_worth(numbers: int, points: int = POINTS) -> int:
    """How many rows, of so many numbers each, are worth a slab."""
    return max(points // max(numbers, 1), 1)


def over_slabs(kernel: Callable[..., T], count: int, *args: object, least: int = 1) -> list[T]:
    """Call ``kernel(begin, end, *args)`` on slabs that make up ``range(count)``, on as many threads as kernels may use.

    The slabs depend on ``count`` and ``least`` alone, so what kernels round or sum up is the same on any number of
    threads. To run side by side a kernel must release the interpreter's lock.

    Args:
        kernel: of :mod:`anamorph.runtime.compiled`, which release the lock.
        count: of what the kernel works on.
        args: the kernel's other arguments.
        least: how much is worth a slab.

    Returns:
        What the kernel returned, slab by slab.
    """
    slabs = slabs_of(count, least)
    helpers = min(thread_count(), len(slabs)) - 1 if len(slabs) > 1 else 0
    if helpers == 0:
        return [kernel(begin, end, *args) for begin, end in slabs]
    results: dict[int, T] = {}
    waiting = enumerate(slabs)

    def work() -> None:
        for n, (begin, end) in waiting:  # each thread takes the next slab, which the interpreter's lock makes safe
            results[n] = kernel(begin, end, *args)

    helping = [_pool().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        # Those that have not begun are not needed any more, and may stand behind the work of other callers.
        begun = [one for one in helping if not one.cancel()]
        wait(begun)
    for one in begun:
        one.result()
    return [results[n] for n in range(len(slabs))]


def slabs_of(count: int, least: int = 1) -> list[tuple[int, int]]:
    """Where the slabs of ``range(count)`` begin and end."""
    parts = min(-(-count // least), SLABS)
    return [(count * n // parts, count * (n + 1) // parts) for n in range(parts)]


def usable_cores() -> int:
    """How many cores this process may use, which on a shared machine are fewer than there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def thread_count() -> int:
    """How many threads kernels may use here."""
    limit = _limit.get()
    return most_threads() if limit is None else min(limit, most_threads())


def most_threads() -> int:
    """How many threads kernels may use at all: ``ANAMORPH_NUM_THREADS``, ``OMP_NUM_THREADS``, or one per core."""
    for variable in ("ANAMORPH_NUM_THREADS", "OMP_NUM_THREADS"):
        given = os.environ.get(variable, "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
    return usable_cores()


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads beside those that call; made when first needed, and started one by one."""
    return ThreadPoolExecutor(max(most_threads() - 1, 1), thread_name_prefix="anamorph-kernel")


if hasattr(os, "register_at_fork"):  # a forked process does not inherit threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


_VARIABLES = ("ANAMORPH_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_limit: ContextVar[int | None] = ContextVar("threads of kernels", default=None)


def limit_threads(count: int | None) -> None:
    """Let this process use so many threads; call it before the first kernel and before PyTorch is imported.

    Raises:
        UserError: fewer than one.
    """
    if count is not None:
        _check(count)
        os.environ.update(dict.fromkeys(_VARIABLES, str(count)))


def limit_cores(count: int | None) -> None:
    """Let this process and those it starts use so many cores, or threads where the system knows no such limit.

    Raises:
        UserError: fewer than one.
    """
    if count is None:
        return
    _check(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    limit_threads(min(count, usable_cores()))


@contextmanager
def limited_kernels(count: int | None) -> Iterator[None]:
    """Use at most so many threads in the kernels that are called inside the block.

    Raises:
        UserError: fewer than one.
    """
    if count is not None:
        _check(count)
    before = _limit.set(_limit.get() if count is None else count)
    try:
        yield
    finally:
        _limit.reset(before)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Use so many threads inside the block, in kernels, linear algebra and PyTorch, and as many as before after it.

    Raises:
        UserError: fewer than one.
    """
    if count is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with ExitStack() as undo:
        undo.enter_context(limited_kernels(count))
        undo.enter_context(threadpool_limits(count))
        if "torch" in sys.modules:
            torch = sys.modules["torch"]
            undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        else:  # PyTorch reads this when a method imports it
            before = os.environ.get("OMP_NUM_THREADS")
            os.environ["OMP_NUM_THREADS"] = str(count)
            undo.callback(_threads_of_torch_as_before, before)
        yield


def _threads_of_torch_as_before(variable: str | None) -> None:
    os.environ.pop("OMP_NUM_THREADS", None)
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable
    if "torch" in sys.modules:
        most = int(variable) if variable and variable.isdecimal() else os.cpu_count() or 1
        sys.modules["torch"].set_num_threads(most)


def _check(count: int) -> None:
    if count < 1:
        raise UserError(f"--threads must be at least 1, not {count}")
