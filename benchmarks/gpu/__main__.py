"""``benchmarks/gpu.sh [--time 12m] [--out FOLDER] [--parts tests,methods,slices,trainings]``.

1. ``tests``: those marked ``gpu``, every twin of a kernel among them, forward and gradient.
2. ``methods``: seconds and memory of every method, one pair and eight at once.
3. ``slices``: a short training of every task in bfloat16, with its loss at the beginning and at the end.
4. ``trainings``: what is next in ``gpu_trainings.md``, for the seconds that remain.

Everything is written into one folder as it comes: ``measured.jsonl`` has a line per measurement. Without a GPU each
part is skipped, and says so; ``--rehearse`` goes through all of them on the processor, with small sizes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from anamorph.runtime.machine import machine, versions
from anamorph.training.time_budget import TimeBudget, parse_duration
from benchmarks.gpu import inputs, methods, slices, tests, trainings
from benchmarks.gpu.session import NO_GPU, Session

PARTS: dict[str, tuple[Callable[[Session, float], None], float]] = {
    "tests": (tests.run, 70),
    "methods": (methods.run, 120),
    "slices": (slices.run, 45),
}
"""What is done before the trainings, each with the seconds it may take."""
MOST = 0.55
"""The share of a short session that these may take together, if there is a training after them."""
REHEARSAL = 4
END_S = 4.0
"""For stopping what is not done in time."""
TRAININGS = "trainings"


def main() -> None:
    """Do every part, each within its time."""
    arguments = _arguments()
    out = (arguments.out or Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="anamorph-gpu-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="anamorph-gpu-work-"))
    device = "cpu" if arguments.rehearse else "cuda"
    # The wheels and the imports take their part of the time too.
    before_s = time.time() - float(os.environ.get("ANAMORPH_GPU_BEGUN", time.time()))
    budget = TimeBudget(parse_duration(arguments.time))
    budget.start -= before_s
    session = Session(out, work, device, arguments.rehearse, budget)
    found = _describe(device)
    session.note("machine", **found, **machine(), versions=versions(), seconds=session.budget.seconds)
    wanted = arguments.parts.split(",")
    if found["device"] == NO_GPU:
        for part in wanted:
            session.note(part, skipped=NO_GPU)
        return
    try:
        _do(session, wanted, arguments.training)
    finally:
        session.note("end", files=sorted(path.name for path in out.iterdir()))
        shutil.rmtree(work, ignore_errors=True)


def _do(session: Session, wanted: list[str], training: int | None) -> None:
    # A few cores of a processor, from a standing start, take several times as long as a GPU's machine.
    limits = {part: limit * (REHEARSAL if session.tiny else 1) for part, (_, limit) in PARTS.items() if part in wanted}
    share = MOST if TRAININGS in wanted else 1.0
    shrink = min(1.0, share * session.left_s / max(sum(limits.values()), 1))
    with ThreadPoolExecutor(1) as beside:
        # The scans are made, and their kernels compiled, while the tests run.
        made = beside.submit(inputs.make, session) if {"methods", "slices"} & set(wanted) else None
        for part, wished_s in limits.items():
            if part != "tests" and made is not None:
                made.result()
            limit_s = min(shrink * wished_s, session.left_s - END_S)
            _guarded(session, part, partial(PARTS[part][0], session, limit_s))
    if TRAININGS in wanted:
        _guarded(session, TRAININGS, partial(trainings.run, session, training))


def _guarded(session: Session, part: str, run: Callable[[], None]) -> None:
    """A part that breaks does not take the others with it."""
    before = session.budget.spent_s
    try:
        run()
    except Exception as error:
        session.note(part, failed=f"{type(error).__name__}: {error}", where=traceback.format_exc().splitlines()[-4:])
    session.note(part, took_s=round(session.budget.spent_s - before, 1), left_s=round(session.left_s, 1))


def _describe(device: str) -> dict[str, object]:
    import torch

    if device == "cpu":
        return {"device": "cpu, a rehearsal"}
    if not torch.cuda.is_available():
        return {"device": NO_GPU}
    card = torch.cuda.get_device_properties(0)
    return {"device": card.name, "memory_gb": round(card.total_memory / 1e9, 1), "torch": torch.__version__}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", default="12m", help="of everything, such as 570s")
    parser.add_argument("--out", type=Path, help="folder of the results; $OUT by default, else a new one")
    parser.add_argument("--parts", default=",".join([*PARTS, TRAININGS]), help="which, in their order")
    parser.add_argument("--training", type=int, help="its number in gpu_trainings.md; the first unfinished by default")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, with small sizes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
