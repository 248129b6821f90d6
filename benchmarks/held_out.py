"""What methods reach on the validation pairs of a data set, or on those of a pair list.

``python -m benchmarks.held_out DATASET --pairs 40 --run convex --run "symmetric:model=RUN;refine=false"``
``python -m benchmarks.held_out benchmarks/pairs/abdomen_ct.csv --data DATA_ROOT --run convex``

A run is a method, or ``METHOD[@PRESET]:SETTING=VALUE;SETTING=VALUE``. Labels are warped by one-hot interpolation on the
scans' own grids; the first pair is registered once before, so that compilation is not timed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from anamorph.data import read_dataset
from anamorph.data.dataset import Case, Pair
from anamorph.evaluation import Measured, RegisteredPair, measure
from anamorph.evaluation.learn2reg.measures import aggregate
from anamorph.image import Image
from anamorph.image.read import read_image, read_labels
from anamorph.methods import base
from anamorph.registration.plan import RegistrationPlan, make_plan, run_plan
from benchmarks.peers.pairs import read_pairs

COLUMNS = (
    "Dice, mean +- std", "Dice30", "worst pair", "HD95 mm", "folding %", "SDlogJ (L2R)", "inverse mm", "s per pair",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="a data set, or a pair list (.csv)")
    parser.add_argument("--data", type=Path, help="folder that the paths of a pair list are relative to")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--run", action="append", default=[], metavar="METHOD[@PRESET][:SETTINGS]")
    parser.add_argument("--organs", action="store_true", help="a line per run with the Dice of every label")
    arguments = parser.parse_args()
    if arguments.dataset.suffix == ".csv":
        if arguments.data is None:
            parser.error("a pair list needs --data")
        found = listed_pairs(arguments.dataset, arguments.data)
    else:
        found = read_dataset(arguments.dataset).pairs("val")
    # Evenly from the list, which is sorted by patient.
    chosen = np.unique(np.linspace(0, len(found) - 1, min(arguments.pairs, len(found))).round().astype(int))
    pairs = [found[n] for n in chosen]
    print(f"| {len(pairs)} pairs | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|", flush=True)
    for run in arguments.run or ["convex"]:
        measured = [_measure(run, pair, first=pair is pairs[0]) for pair in pairs]
        print(f"| `{run}` | {_row(*zip(*measured, strict=True))} |", flush=True)  # type: ignore[arg-type]
        if arguments.organs:
            print(_organs([metrics for metrics, _ in measured]), flush=True)


def listed_pairs(path: Path, root: Path) -> list[Pair]:
    """The pairs of a list of ``benchmarks/pairs`` that have labels."""
    sides = ("fixed", "moving")
    return [
        Pair(*(Case(one.pair_id, side, one.files[side], one.files[f"{side}_labels"]) for side in sides))  # type: ignore[arg-type]
        for one in read_pairs(path, root)
        if all(one.files[f"{side}_labels"] for side in sides)
    ]


def _measure(run: str, pair: Pair, first: bool) -> tuple[Measured, float]:
    fixed, moving = read_image(pair.fixed.image), read_image(pair.moving.image)
    plan = plan_of(run, fixed, moving)
    if first:
        run_plan(plan, base.Pair(fixed, moving), base.Run("cpu"))
    start = time.perf_counter()
    result = run_plan(plan, base.Pair(fixed, moving), base.Run("cpu"))
    seconds = time.perf_counter() - start
    labels = read_labels(pair.fixed.label), read_labels(pair.moving.label)
    transforms = result.fixed_to_moving, result.moving_to_fixed
    registered = RegisteredPair(fixed, moving, *transforms, fixed_labels=labels[0], moving_labels=labels[1])
    return measure(registered), seconds


def plan_of(run: str, fixed: Image, moving: Image) -> RegistrationPlan:
    """What ``METHOD[@PRESET][:SETTINGS]`` does with a pair."""
    method, preset, settings = parts_of(run)
    return make_plan(fixed, moving, method=method, preset=preset, settings=settings)


def parts_of(run: str) -> tuple[str, str, list[str]]:
    """The method, the preset and the settings of ``METHOD[@PRESET][:SETTINGS]``."""
    name, _, settings = run.partition(":")
    method, _, preset = name.partition("@")
    return method, preset or "auto", [one for one in settings.split(";") if one]


def _row(metrics: tuple[Measured, ...], seconds: tuple[float, ...]) -> str:
    def values(name: str) -> np.ndarray:
        return np.array([one.after.mean(name) for one in metrics], float)

    overlaps = values("dice")
    return (
        f"{np.nanmean(overlaps):.3f} +- {np.nanstd(overlaps):.3f} "
        f"| {aggregate([*overlaps[~np.isnan(overlaps)]], 'dice')['30']:.3f} | {np.nanmin(overlaps):.3f} "
        f"| {np.nanmean(values('hd95_mm')):.2f} "
        f"| {np.mean(values('folding_percent')):.3f} "
        f"| {np.mean(values('sdlogj_learn2reg')):.3f} "
        f"| {np.mean(values('inverse_consistency_mm_mean')):.2f} | {np.mean(seconds):.2f}"
    )


def _organs(metrics: list[Measured]) -> str:
    found = [one.after.labels("dice") for one in metrics]
    labels = sorted({label for one in found for label in one})
    means = (np.mean([one[n] for one in found if n in one]) for n in labels)
    return "    " + ", ".join(f"{label}: {mean:.3f}" for label, mean in zip(labels, means, strict=True))


if __name__ == "__main__":
    main()
