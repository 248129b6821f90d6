"""The ladder of Christodoulidis et al. (2018) at equal steps, cross-validated over patients.

``python -m benchmarks.lindef_folds DATASET OUT --epochs 25 --set spacing_mm=4,4,8 --set shape=40,40,14``
``python -m benchmarks.lindef_folds DATASET OUT --epochs 25 --set ... --variant mean-pooling --fold 0``

The patients of a data set are cut into folds, whatever its splits say. Each variant is trained on all combinations of
the scans of the others, from the run of its name in ``--start`` if given, and measured on the fold: every pair is
registered by a network that has seen neither of its patients. What comes out at the last step is measured, so that
held-out patients choose nothing. Called again, it goes on where it was broken off, and prints the table of all that OUT
holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anamorph.data import read_dataset
from anamorph.data.dataset import Dataset, all_pairs
from anamorph.data.manifest import write_dataset
from benchmarks.lindef import UNREGISTERED, in_words, kinds, measure

PUBLISHED_LOSS = ("mse=1", "diffusion=0", "gradient_l1=1e-6", "affine_l1=1e-6")
VARIANTS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "deformable": ("affine=false",),
    "mean-pooling": ("pooling=mean",),
    "published-loss": PUBLISHED_LOSS,
    "published": (*PUBLISHED_LOSS, "pooling=mean", "order=deform-first", "gradient_gain=1"),
}
"""Settings beyond those that all share; the last is the published network and loss, at the size of the rest."""
REFERENCE = "linear"
Rows = Mapping[str, Sequence[float]]
"""By the key of a pair: Dice in per cent, landmark errors along the axes and Euclidean, seconds."""
DICE, LENGTH = 0, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path, help="folder of the folds, the runs and the measures")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="default: linear and deformable")
    parser.add_argument("--run", action="append", default=[], help="as of benchmarks.lindef, to compare with")
    parser.add_argument("--fold", action="append", type=int, help="default: all")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--preset", default="small-cardiac")
    parser.add_argument("--start", type=Path, help="folder with a run per variant to start from")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all variants")
    parser.add_argument("--manifests", type=Path, help="folder of the data set: its folds can be carried along with it")
    parser.add_argument("--cut", action="store_true", help="write the manifests of the folds, and stop")
    parser.add_argument("--most", type=int, default=100, help="pairs of a kind and fold, drawn from all there are")
    given = parser.parse_args()
    folds = cut(read_dataset(given.dataset), given.folds)
    # One fold of every variant before the next fold, so that what is broken off can be compared.
    for number in given.fold or range(given.folds):
        place = given.out / f"fold-{number}"
        place.mkdir(parents=True, exist_ok=True)
        manifest = given.manifests / f"fold-{number}.json" if given.manifests else place / "dataset.json"
        if not manifest.exists():
            write_dataset(folds[number], manifest)
        if given.cut:
            continue
        for variant in given.variant or ["linear", "deformable"]:
            start = None if given.start is None else given.start / variant
            train(manifest, place / variant, given.preset, given.epochs, start, [*given.set, *VARIANTS[variant]])
            model = f"lindef:model={place / variant};refine=false"
            measure_all(folds[number], model, place / f"{variant}.json", given.most)
        for run in (UNREGISTERED, *given.run):
            measure_all(folds[number], run, place / f"{run}.json", given.most)
    if not given.cut:
        print(table(given.out))


def cut(dataset: Dataset, count: int) -> list[Dataset]:
    """The data set once per fold of its patients, with that fold as validation and all others for training."""
    subjects = sorted({case.subject for case in dataset.cases})
    shuffled = [subjects[n] for n in np.random.default_rng(0).permutation(len(subjects))]
    folds = []
    for number in range(count):
        held = set(shuffled[number::count])
        cases = [replace(case, split="validation" if case.subject in held else "training") for case in dataset.cases]
        listed = {"val": tuple(case for case in cases if case.subject in held)}
        if dataset.pairings == "paired":
            listed["training"] = tuple(case for case in cases if case.subject not in held)
        pairs = {name: all_pairs(of, dataset.pairings, dataset.direction) for name, of in listed.items()}
        folds.append(replace(dataset, cases=tuple(cases), listed_pairs=pairs))
    return folds


def train(manifest: Path, run: Path, preset: str, epochs: int, start: Path | None, settings: Iterable[str]) -> None:
    """Train, or go on, to the last epoch, which alone is validated and therefore is the model."""
    fixed = ("all_combinations=true", f"validate_every={epochs}", "validate_first=false", "measured_pairs=1")
    command = [sys.executable, "-m", "anamorph", "train", "lindef", "--dataset", str(manifest), "-o", str(run)]
    command += ["--preset", preset, "--epochs", str(epochs), "--resume", "--quiet"]
    command += [word for one in (*fixed, *settings) for word in ("--set", one)]
    if start is not None and not run.exists():
        command += ["--pretrained", str(start)]
    subprocess.run(command, check=True)


def measure_all(fold: Dataset, run: str, file: Path, most: int) -> None:
    """Measure what is not in the file yet."""
    found = json.loads(file.read_text()) if file.exists() else {}
    for kind, pairs in kinds(fold).items():
        rows = found.setdefault(kind, {})
        for n in np.random.default_rng(0).permutation(len(pairs))[:most]:
            if pairs[n].key not in rows:
                rows[pairs[n].key] = measure(run, pairs[n])
        file.write_text(json.dumps(found, indent=1))


def table(out: Path) -> str:
    """Two lines per run and kind of pair: means and deviations; and the difference from the reference, pair by pair."""
    lines = ["| | pairs | Dice % | dx | dy | dz | ds mm | s per pair |\n|---" + "|---" * 7 + "|"]
    beside = [
        f"| less `{REFERENCE}` | pairs | folds | Dice %, 95 % | of each fold | ds mm, 95 % |\n|---" + "|---" * 5 + "|"
    ]
    runs: dict[str, dict[str, Mapping[str, Rows]]] = {}
    for file in sorted(out.glob("fold-*/*.json")):
        if file.name != "dataset.json":
            runs.setdefault(file.stem, {})[file.parent.name] = json.loads(file.read_text())
    reference = runs.get(REFERENCE, {})
    for name, folds in runs.items():
        for kind in next(iter(folds.values())):
            rows = [row for fold in folds.values() for row in fold[kind].values()]
            lines.append(f"| {name} | {len(rows)} {kind} | {in_words(rows)} |")
            pairs = [(fold[kind], reference[at][kind]) for at, fold in folds.items() if at in reference]
            if name == REFERENCE or not pairs:
                continue
            overlap, length = ([differences(*pair, column) for pair in pairs] for column in (DICE, LENGTH))
            each = ", ".join(f"{np.mean(values):+.2f}" for values in overlap)
            whole = [interval(np.concatenate(values)) for values in (overlap, length)]
            beside.append(f"| {name} | {kind} | {len(pairs)} | {whole[0]} | {each} | {whole[1]} |")
    return "\n".join([*lines, "", *beside])


def differences(rows: Rows, reference: Rows, column: int) -> list[float]:
    """Mean difference for each patient of the fixed scan: pairs that share one are not independent."""
    by_patient: dict[str, list[float]] = {}
    for key in sorted(rows.keys() & reference.keys()):
        by_patient.setdefault(key.split("_")[0], []).append(rows[key][column] - reference[key][column])
    return [float(np.mean(values)) for values in by_patient.values()]


def interval(values: Sequence[float] | np.ndarray) -> str:
    """Mean and its 95 % interval, by drawing patients anew; empty where nothing was measured."""
    if not len(values) or np.isnan(values).all():
        return ""
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(np.mean(values), *np.percentile(means, (2.5, 97.5)))


if __name__ == "__main__":
    main()
