"""A short training of every task in bfloat16, all at once, with the loss at the beginning and at the end."""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path
from typing import Any

from anamorph.training import TASKS
from benchmarks.gpu import inputs
from benchmarks.gpu.session import LOG, Session, ended
from benchmarks.gpu.trainings import NARROW

START_S = 12.0
"""Left for imports and for the caching of the scans."""
LOOP = ("validate_first=false", "validate_every=1000000", "epochs=1000000", "checkpoint_every_s=1000", "batch_size=2")
RATES = {"pdd": 5e-3, "slicreg": 5e-3, "regression": 1e-3}
RATE = 1e-3
SIZES: dict[str, tuple[str, ...]] = {
    "slicreg": ("spacing_mm=12", "network=unet"),
    "regression": ("spacing_mm=12", "network=unet"),
    "pdd": ("pairs_per_scan=2",),
    "pwc": ("pairs_per_scan=2",),
    "symmetric": ("pairs_per_scan=2",),
    "lindef": ("pairs_per_scan=2", "width=16", "gradient_gain=0.1", "pooling=moments"),
}


def run(session: Session, limit_s: float) -> None:
    """Train every task that there are scans for."""
    data = inputs.data_sets(session)
    processes = {}
    for task in TASKS:
        if task not in SIZES and task != "segment":
            session.note("slices", task=task, skipped="has a training of its own in gpu_trainings.md")
            continue
        settings = [*LOOP, f"rate={RATES.get(task, RATE):g}", *SIZES.get(task, ())]
        settings += NARROW.get(task, ()) if session.tiny else ()
        manifest = data["template" if task in ("slicreg", "regression") else "pairs"]
        command = [
            *(sys.executable, "-m", "anamorph", "train", task, "--dataset", str(manifest), "--quiet"),
            *("-o", str(_run(session, task)), "--cache", str(session.work / "cache" / task)),
            *("--device", session.device, "--precision", "bf16-mixed"),
            *("--time-budget", f"{max(limit_s - START_S, 5):.0f}s"),
            *(part for one in settings for part in ("--set", one)),
        ]
        processes[task] = session.start(command, session.out / LOG)
    for (task, process), done in zip(processes.items(), ended([*processes.values()], limit_s), strict=True):
        session.note("slices", task=task, ended=done, exit=process.returncode, **_losses(_run(session, task)))


def _run(session: Session, task: str) -> Path:
    return session.work / "slices" / task


def _losses(run: Path) -> dict[str, Any]:
    """Medians of the first and of the last tenth of the epochs, and how long a step took."""
    file = run / "training.csv"
    if not file.is_file():
        return {"failed": "no epoch was finished"}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["loss"]) for row in rows]
    tenth = max(len(losses) // 10, 1)
    first, last = statistics.median(losses[:tenth]), statistics.median(losses[-tenth:])
    steps, seconds = int(rows[-1]["step"]), float(rows[-1]["seconds"])
    falls = {"loss_first": round(first, 5), "loss_last": round(last, 5), "falls": last < first}
    return {"steps": steps, "s_per_step": round(seconds / steps, 4), **falls}
