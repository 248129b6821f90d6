"""The table of Christodoulidis et al. (2018): overlap and landmark errors within patients and over all combinations.

``python -m benchmarks.lindef DATASET --run "lindef:model=RUN;refine=false" --run "lindef:model=OTHER" --run syn``

The scans are those of the validation patients. ``syn`` (ANTs' ``SyNRA``) needs antspyx. ``observer=1`` is the row of a
second observer who sets each landmark again, off by a normal error of 1 mm along each axis: nothing that was measured
but what the errors of a registration may be compared with. Without registration there is a row of its own. Landmark
errors are absolute along right, anterior and superior, and Euclidean: the mean of lengths, not the length of means.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from anamorph.data import read_dataset
from anamorph.data.dataset import Dataset, Pair
from anamorph.evaluation import dice, tre_axes_mm, tre_mm
from anamorph.image.read import read_grid, read_image, read_labels, read_points
from anamorph.methods import base
from anamorph.registration.plan import run_plan
from anamorph.transforms import Affine, Transform
from anamorph.transforms.files import read_transform
from benchmarks.held_out import plan_of
from benchmarks.peers.job import Job

UNREGISTERED, SYN, OBSERVER = "unregistered", "syn", "observer="


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--run", action="append", default=[], metavar="METHOD[@PRESET][:SETTINGS]")
    parser.add_argument("--most", type=int, default=200, help="pairs of each kind, drawn from all there are")
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.dataset)
    print("| | pairs | Dice % | dx | dy | dz | ds mm | s per pair |\n|---" + "|---" * 7 + "|", flush=True)
    for kind, pairs in kinds(dataset).items():
        chosen = np.random.default_rng(0).permutation(len(pairs))[: arguments.most]
        for run in [UNREGISTERED, *arguments.run]:
            if run == SYN and find_spec("ants") is None:
                print(f"| {run} | antspyx is not installed |" + " |" * 6, flush=True)
                continue
            rows = [measure(run, pairs[n]) for n in chosen]
            print(f"| `{run}` | {len(rows)} {kind} | {in_words(rows)} |", flush=True)


def kinds(dataset: Dataset) -> dict[str, Sequence[Pair]]:
    """The pairs of one patient, and all combinations of a fixed and a moving scan; those listed if unpaired."""
    listed = dataset.pairs("val")
    if dataset.pairings != "paired":
        return {"of two patients": listed}
    fixed, moving = ([getattr(pair, side) for pair in listed] for side in ("fixed", "moving"))
    return {"of one patient": listed, "combinations": [Pair(here, there) for here in fixed for there in moving]}


def measure(run: str, pair: Pair) -> list[float]:
    """Mean Dice, errors along three axes and Euclidean, seconds; NaN where there are no labels or landmarks."""
    if run.startswith(OBSERVER):
        return [np.nan, *set_again(pair, float(run.removeprefix(OBSERVER))), np.nan]
    start = time.perf_counter()
    transform = registered(run, pair)
    seconds = time.perf_counter() - start
    overlap, errors = np.nan, np.full(4, np.nan)
    if pair.fixed.label and pair.moving.label:
        here, there = read_labels(pair.fixed.label), read_labels(pair.moving.label)
        overlap = float(np.mean([*dice(here, transform.warp_labels(there, here.grid)).values()]))
    files = pair.points("landmarks")
    if files[0] and files[1]:
        sides = zip(files, (pair.fixed, pair.moving), strict=True)
        points = [read_points(file, read_grid(case.image)) for file, case in sides]  # type: ignore[arg-type]
        errors = np.append(tre_axes_mm(*points, transform).mean(axis=0), tre_mm(*points, transform).mean())
    return [100 * overlap, *errors, seconds]


def set_again(pair: Pair, deviation_mm: float) -> np.ndarray:
    """Errors along three axes and Euclidean of the fixed landmarks if they are set again with such a deviation."""
    file = pair.points("landmarks")[0]
    if file is None:
        return np.full(4, np.nan)
    seed = [int(number) for case in (pair.fixed, pair.moving) for number in (case.subject, case.modality)]
    shape = read_points(file, read_grid(pair.fixed.image)).positions_mm.shape
    off = np.random.default_rng(seed).normal(0, deviation_mm, shape)
    return np.append(np.abs(off).mean(axis=0), np.linalg.norm(off, axis=1).mean())


def registered(run: str, pair: Pair) -> Transform:
    """Fixed to moving, by a method of anamorph or by ANTs."""
    if run == UNREGISTERED:
        here, there = read_grid(pair.fixed.image), read_grid(pair.moving.image)
        shift = np.eye(4)
        shift[:3, 3] = there.centre_mm - here.centre_mm
        return Affine(shift)
    if run == SYN:
        from benchmarks.peers.tools.antspy_syn import register

        with tempfile.TemporaryDirectory() as scratch:
            register(Job(pair.fixed.image, pair.moving.image, None, None, Path(scratch)))
            return read_transform(next(Path(scratch).glob("total_*")))
    fixed, moving = read_image(pair.fixed.image), read_image(pair.moving.image)
    return run_plan(plan_of(run, fixed, moving), base.Pair(fixed, moving), base.Run("cpu")).fixed_to_moving


def in_words(rows: Sequence[Sequence[float]]) -> str:
    """Mean and standard deviation over the pairs."""
    means, deviations = np.mean(rows, axis=0), np.std(rows, axis=0)
    cells = [f"{mean:.2f} +- {sd:.2f}" for mean, sd in zip(means[:-1], deviations[:-1], strict=True)]
    return " | ".join("" if "nan" in cell else cell for cell in [*cells, f"{means[-1]:.2f}"])


if __name__ == "__main__":
    main()
