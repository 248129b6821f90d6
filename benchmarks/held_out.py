"""Dice of methods on the validation pairs of a data set: ``python -m benchmarks.held_out DATASET --pairs 40``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.api import make_plan, run_plan
from anamorph.data import read_dataset
from anamorph.evaluation import dice
from anamorph.image.read import read_image, read_labels

RUNS: dict[str, dict[str, Any]] = {
    "convex": {"method": "convex"},
    "symmetric, network alone": {"method": "symmetric", "settings": {"refine": False}},
    "symmetric, smoothed": {"method": "symmetric", "settings": {"refine_iterations": (0,)}},
    "symmetric, refined": {"method": "symmetric"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--pairs", type=int, default=40)
    arguments = parser.parse_args()
    pairs = read_dataset(arguments.dataset).pairs("val")[: arguments.pairs]
    print("| method | Dice, mean +- std | worst pair | folding % | s per pair |\n|---|---|---|---|---|")
    for title, options in RUNS.items():
        overlaps, folding, seconds = [], [], []
        for pair in pairs:
            fixed, moving = read_image(pair.fixed.image), read_image(pair.moving.image)
            plan = make_plan(fixed, moving, **options)
            start = time.perf_counter()
            result = run_plan(plan, fixed, moving, device="cpu")
            seconds.append(time.perf_counter() - start)
            warped = result.fixed_to_moving.warp_labels(read_labels(pair.moving.label), fixed.grid)
            overlaps.append(np.mean([*dice(read_labels(pair.fixed.label), warped).values()]))
            folding.append(100 * (result.fixed_to_moving.jacobian_determinant(fixed.grid) <= 0).mean())
        print(
            f"| {title} | {np.mean(overlaps):.3f} +- {np.std(overlaps):.3f} | {np.min(overlaps):.3f} "
            f"| {np.mean(folding):.3f} | {np.mean(seconds):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
