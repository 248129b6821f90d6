"""Run one tool on one pair in this process: ``python -m benchmarks.peers.worker JOB.json``."""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from .job import Job


def peak_mb() -> float:
    """Return the peak resident memory of this process.

    Linux' ``VmHWM`` starts at zero when the program starts; ``getrusage`` also counts the parent before the start.
    """
    status = Path("/proc/self/status")
    if status.exists():
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kib) / 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Read the job, run its tool, write ``field.npy`` and ``cost.json`` into its scratch folder."""
    description = json.loads(Path(sys.argv[1]).read_text())
    tool = import_module(f".tools.{description['tool']}", __package__)
    masks = {key: Path(description[key]) if description[key] else None for key in ("fixed_mask", "moving_mask")}
    scans = {key: Path(description[key]) for key in ("fixed", "moving", "scratch")}
    job = Job(**scans, **masks)  # type: ignore[arg-type]
    before = time.process_time()
    field_mm = tool.register(job, **description["options"])
    processor_s = time.process_time() - before
    np.save(job.scratch / "field.npy", field_mm)
    cost = {"registration_s": round(job.watch.seconds, 3), "peak_mb": round(peak_mb())}
    cost["processor_s"] = round(processor_s, 3)
    (job.scratch / "cost.json").write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
