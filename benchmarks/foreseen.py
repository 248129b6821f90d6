"""Seconds that registrations are foreseen to take on one core, beside those they take.

``python -m benchmarks.foreseen --data DATA_ROOT --pairs 3 --run convex --run deeds --run affine``

A run is a method, or ``METHOD[@PRESET]:SETTING=VALUE;SETTING=VALUE``; pairs are those of ``benchmarks/pairs``. Every
run is registered once before it is timed; what is timed is the processor time of the registration, without reading the
scans.
"""

from __future__ import annotations

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before NumPy

import time
from pathlib import Path

import numpy as np

from anamorph.image.read import read_image
from anamorph.methods import base
from anamorph.registration.plan import make_plan, run_plan
from anamorph.runtime.compiled import variant

from .held_out import listed_pairs, parts_of
from .speed import processor_name
from .start.sources import LISTED, LISTS


def main() -> None:
    """Print a row for every set and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foreseen", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that the paths of the lists are relative to")
    parser.add_argument("--sets", default=",".join(LISTED), help="lists of benchmarks/pairs")
    parser.add_argument("--pairs", type=int, default=3, help="of each set")
    parser.add_argument("--run", action="append", default=[], metavar="METHOD[@PRESET][:SETTINGS]")
    given = parser.parse_args()
    print(f"{processor_name()}, {variant()}, one thread\n")
    print("| set | run | foreseen s | processor s | processor s over foreseen |\n" + "|---" * 5 + "|")
    ratios = []
    for name in given.sets.split(","):
        pairs = listed_pairs(LISTS / f"{name}.csv", given.data)[: given.pairs]
        for run in given.run or ["convex"]:
            both = np.array([_both(run, pair.fixed.image, pair.moving.image) for pair in pairs])
            found = both[:, 1] / both[:, 0]
            ratios += found.tolist()
            foreseen, taken = both.mean(axis=0)
            print(
                f"| {name} | `{run}` | {foreseen:.1f} | {taken:.1f} | {found.min():.2f} to {found.max():.2f} |",
                flush=True,
            )
    within = np.mean((np.array(ratios) >= 0.5) & (np.array(ratios) <= 2))
    print(f"\n{within:.0%} of {len(ratios)} registrations took half to twice as long as foreseen")


def _both(run: str, fixed: Path, moving: Path) -> tuple[float, float]:
    """Foreseen and taken seconds of a pair."""
    method, preset, settings = parts_of(run)
    scans = base.Pair(read_image(fixed), read_image(moving))
    plan = make_plan(scans.fixed, scans.moving, method=method, preset=preset, settings=settings)
    if plan.one_core_seconds is None:
        raise SystemExit(f"{plan.name} foresees no time")
    for _ in range(2):
        begun = time.process_time()
        run_plan(plan, scans, base.Run())
    return plan.one_core_seconds, time.process_time() - begun


if __name__ == "__main__":
    main()
