"""Kernels on several threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from anamorph.runtime import threads
from anamorph.runtime.threads import SLABS, over_slabs, slabs_of

COUNTS = [0, 1, 2, 15, 16, 17, 1000]


@pytest.fixture
def four_threads(monkeypatch):
    """A setting of four threads, whatever there are, with a pool of its own."""
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(threads, "thread_count", lambda: 4)
        monkeypatch.setattr(threads, "_pool", lambda: pool)
        yield


@pytest.mark.parametrize("count", COUNTS)
def test_slabs_cover_the_range_once_and_in_order(count):
    slabs = slabs_of(count)
    assert [n for begin, end in slabs for n in range(begin, end)] == list(range(count))
    assert len(slabs) == min(count, SLABS)
    assert all(type(bound) is int for slab in slabs for bound in slab)
    sizes = [end - begin for begin, end in slabs]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@pytest.mark.parametrize(("count", "parts"), [(0, 0), (1, 1), (100, 1), (101, 2), (1599, 16), (10**6, 16)])
def test_few_points_are_not_worth_many_slabs(count, parts):
    slabs = slabs_of(count, least=100)
    assert len(slabs) == parts
    assert [bound for slab in slabs for bound in slab][::2] == [count * n // max(parts, 1) for n in range(parts)]
    assert not slabs or slabs[-1][1] == count


@pytest.mark.parametrize("count", COUNTS)
def test_results_come_back_in_order(count, four_threads):
    def slow_at_first(begin: int, end: int, power: int) -> int:
        time.sleep(0.01 if begin == 0 else 0)
        return sum(n**power for n in range(begin, end))

    expected = [sum(n**2 for n in range(*slab)) for slab in slabs_of(count)]
    assert over_slabs(slow_at_first, count, 2) == expected


def test_as_many_threads_work_as_are_allowed(four_threads):
    meeting = threading.Barrier(4, timeout=10)
    seen = over_slabs(lambda begin, end: (meeting.wait(), threading.get_ident())[1], SLABS)
    assert len(set(seen)) == 4
    assert threading.get_ident() in seen


def test_one_thread_needs_no_pool(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    monkeypatch.setattr(threads, "_pool", None)
    assert set(over_slabs(lambda begin, end: threading.get_ident(), 100)) == {threading.get_ident()}


@pytest.mark.parametrize("bad", [0, 7, 15])
def test_exceptions_come_through_when_nobody_works_any_more(bad, four_threads):
    working = []

    def kernel(begin: int, end: int) -> None:
        working.append(begin)
        time.sleep(0.002)
        working.remove(begin)
        if begin == bad:
            raise ValueError(f"slab {begin}")

    with pytest.raises(ValueError, match=f"slab {bad}"):
        over_slabs(kernel, SLABS)
    assert working == []


def test_many_callers_share_the_pool(four_threads):
    """Also callers inside of the pool, which is full of them: nobody waits for a thread that does not come."""
    outer = threads._pool()
    sums = [
        outer.submit(lambda count: sum(over_slabs(lambda begin, end: sum(range(begin, end)), count)), count)
        for count in range(100, 130)
    ]
    assert [one.result(timeout=10) for one in sums] == [sum(range(count)) for count in range(100, 130)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    found = _on_two_threads(
        """
        import os, threading
        meeting = threading.Barrier(2, timeout=10)
        def both(begin, end):
            meeting.wait()
            return threading.get_ident()
        before = len(set(over_slabs(both, 2)))
        child = os.fork()
        if child == 0:
            meeting = threading.Barrier(2, timeout=10)
            os._exit(len(set(over_slabs(both, 2))))
        print(json.dumps([before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
        """
    )
    assert found == [2, 2]


def test_kernels_give_the_same_bits_on_any_number_of_threads():
    one, two = _on_two_threads(
        """
        import hashlib
        import numpy as np
        from anamorph.discrete.cost_volume import CostVolume
        from anamorph.geometry.sampling import sample
        from anamorph.optimise.adam import Adam
        from anamorph.optimise.velocity import data_term
        rng = np.random.default_rng(0)
        shape = (19, 19, 17)
        fixed, moving = (rng.random((*shape, 16), np.float32) for _ in range(2))
        weight, disp = rng.random(shape, np.float32), rng.random((3, *shape), np.float32)
        def results():
            loss, gradient = data_term(fixed, weight, moving, disp)
            read = sample(disp, 20 * disp)
            costs = CostVolume(fixed, weight, moving, (2, 2, 2), (1, 1, 1), (1, 1, 1), 2**30)
            adam = Adam(disp.copy())
            adam.step(gradient, 0.1)
            arrays = (gradient, read, next(costs.chunks())[1], adam.parameters)
            return [loss.hex(), *(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays)]
        with limited_kernels(1):
            alone = results()
        print(json.dumps([alone, results()]))
        """
    )
    assert one == two


def _on_two_threads(code: str) -> list:
    """What a new process that may use two threads prints."""
    lines = [
        "import json",
        "from anamorph.runtime.threads import limited_kernels, over_slabs",
        *(line[8:] for line in code.split("\n")),
    ]
    environment = {**os.environ, "ANAMORPH_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system knows no such limit")
def test_processes_that_are_started_later_share_the_limit_of_cores():
    look = "from anamorph.runtime.threads import usable_cores; print(usable_cores())"
    code = "import subprocess, sys; from anamorph.runtime.threads import limit_cores; limit_cores(1); "
    code += f"subprocess.run([sys.executable, '-c', {look!r}])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1"]
