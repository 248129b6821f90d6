"""The tests marked ``gpu``."""

from __future__ import annotations

import re
import sys

from anamorph.methods import METHODS
from anamorph.runtime.threads import usable_cores
from benchmarks.gpu.session import ROOT, Session, ended

LOG = "tests.txt"
LINE = re.compile(r"^\[gw\d+\].*?(PASSED|FAILED|SKIPPED|ERROR) (\S+)")


def run(session: Session, limit_s: float) -> None:
    """Every twin of a kernel, then every method, on as many processes as help: they compile beside each other."""
    files = ["tests/methods/test_twins_on_gpu.py", *(f"tests/methods/test_{name}.py" for name in METHODS)]
    files = [file for file in files if (ROOT / file).is_file()]
    chosen = ["-k", "adam or pooling"] if session.tiny else []
    command = [
        *(sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "-p", "no:cacheprovider"),
        *("-n", str(min(usable_cores(), 10)), "--dist", "load", *chosen, *files),
    ]
    process = session.start(command, session.out / LOG, ANAMORPH_GPU_TESTS=session.device)
    (finished,) = ended([process], limit_s)
    lines = (session.out / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    results: dict[str, list[str]] = {}
    for match in filter(None, map(LINE.match, lines)):
        results.setdefault(match[1].lower(), []).append(match[2])
    counts = {outcome: len(names) for outcome, names in results.items()}
    failed = results.get("failed", []) + results.get("error", [])
    session.note("tests", finished=finished, exit=process.returncode, **counts, which_failed=failed)
