"""Landmarks, outlines and labels that pull, judged by what was kept back.

Usage: python -m benchmarks.pulling DATA [lung|fetal|prostate|labels ...] [--method NAME] [--weight W]

lung, fetal: every other landmark pulls (1 mm), the rest measures; then the halves change places, and two of the ten
landmarks of the lungs are exchanged. prostate: the gland's outlines or labels, or the landmarks, pull; what did not
measures. labels: every other label of abdomens, hippocampi and heads pulls, by the usual weight or another.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.image.outlines import Outline
from anamorph.registration.pulling import LABEL_WEIGHT
from anamorph.registration.result import Result

PAIRS = Path(__file__).parent / "pairs"
SIGMA_MM = 1.0


def rows(name: str, data: Path) -> Iterator[dict[str, Any]]:
    """The pairs of a list, each with its files."""
    with (PAIRS / f"{name}.csv").open() as file:
        for row in csv.DictReader(file):
            yield {key: data / value for key, value in row.items() if value and "/" in value and "mask" not in key}


def registered(method: str, **given: Any) -> tuple[Result, float]:
    """The result, and the seconds of it."""
    start = time.perf_counter()
    result = anamorph.register(method=method, **given)
    return result, time.perf_counter() - start


def numbers(result: Result, seconds: float) -> str:
    """What was kept back, what pulled, and folding."""
    told = []
    for word, measured in (("kept back", result.metrics), ("used", result.metrics.used)):
        names = {"dice": "Dice", "tre_mm_landmarks": "landmarks mm", "outline_distance_mm": "outlines mm"}
        after = {} if measured is None else {text: measured.after.mean(name) for name, text in names.items()}
        told += [f"{word}: {text} {value:.3f}" for text, value in after.items() if value is not None]
    folded = result.metrics.after.mean("folding_percent")
    return "; ".join([*told, f"folded {folded:.4f} %", f"{seconds:.1f} s"])


def halves(name: str, data: Path, method: str) -> None:
    """Half of the landmarks pull."""
    for given in rows(name, data):
        scans = [anamorph.read_image(given[side]) for side in ("fixed", "moving")]
        points = [
            anamorph.read_points(given[f"{side}_points"], grid=scan.grid)
            for side, scan in zip(("fixed", "moving"), scans, strict=True)
        ]
        fixed, moving = points[0].matched(points[1])
        free, seconds = registered(method, fixed=scans[0], moving=scans[1])
        apart = errors(free, fixed, moving)
        print(f"{given['fixed'].name}: free {apart.mean():.2f} mm, {seconds:.1f} s")
        for first in (0, 1):
            used = np.arange(len(fixed)) % 2 == first
            some = [anamorph.Points(one.positions_mm[used]) for one in (fixed, moving)]
            pulled, seconds = registered(
                method, fixed=scans[0], moving=scans[1], fixed_points=some[0], moving_points=some[1],
                use_points=SIGMA_MM,
            )  # fmt: skip
            after = errors(pulled, fixed, moving)
            told = [f"{word} {apart[which].mean():.2f} -> {after[which].mean():.2f}" for word, which in
                    (("used", used), ("kept back", ~used))]  # fmt: skip
            print(f"  {used.sum()} pull: {', '.join(told)} mm; {seconds:.1f} s", flush=True)
        if len(fixed) >= 10:
            swapped = moving.positions_mm.copy()
            swapped[[2, 7]] = swapped[[7, 2]]
            wrong, _ = registered(
                method, fixed=scans[0], moving=scans[1], fixed_points=fixed.positions_mm, moving_points=swapped,
                use_points=SIGMA_MM,
            )  # fmt: skip
            named = [line for line in wrong.warnings if line.startswith("landmark")]
            print(f"  3 and 8 exchanged: {errors(wrong, fixed, moving).mean():.2f} mm of all; {named}", flush=True)


def errors(result: Result, fixed: anamorph.Points, moving: anamorph.Points) -> np.ndarray:
    """Distances of landmarks in mm."""
    return np.linalg.norm(result.fixed_to_moving.map_world(fixed.positions_mm) - moving.positions_mm, axis=1)


def prostates(data: Path, method: str) -> None:
    """Ultrasound fixed, MR moving: little but the gland tells where they belong together."""
    folder, found = data / "prostate_mr_us", {}
    for number in range(11):
        sides = [f"train_case{number:06d}_{kind}" for kind in ("us", "mr")]
        given: dict[str, Any] = {}
        for side, name in zip(("fixed", "moving"), sides, strict=True):
            given |= {
                side: folder / "images" / f"{name}.nii.gz",
                f"{side}_labels": folder / "labels" / f"{name}.nii.gz",
            }
            if (folder / "landmarks" / f"{name}.csv").exists():
                given[f"{side}_points"] = folder / "landmarks" / f"{name}.csv"
        labels = [anamorph.read_labels(given[f"{side}_labels"]) for side in ("fixed", "moving")]
        glands = dict(
            zip(("fixed_outlines", "moving_outlines"), (Outline.of_label(one, 1) for one in labels), strict=True)
        )
        marks = {key: given.pop(key) for key in ("fixed_points", "moving_points") if key in given}
        ways: dict[str, dict[str, Any]] = {"free": given | marks, "labels": given | marks | {"use_labels": "all"}}
        ways["outlines"] = given | glands | {"use_points": SIGMA_MM}
        if marks:
            ways["landmarks"] = given | marks | {"use_points": SIGMA_MM}
        for way, options in ways.items():
            result, seconds = registered(method, **options)
            print(f"prostate {number}, {way}: {numbers(result, seconds)}", flush=True)
            fixed, moving = (
                anamorph.read_points(marks[f"{side}_points"], grid=getattr(result, side).grid) if marks else None
                for side in ("fixed", "moving")
            )
            gland = result.metrics.used if way == "labels" else result.metrics
            mean = errors(result, fixed, moving).mean() if fixed and moving else np.nan
            found.setdefault(way, []).append((gland.after.mean("dice"), mean))
    for way, values in found.items():
        print(
            f"mean, {way}: gland {np.nanmean(values, axis=0)[0]:.3f}, landmarks {np.nanmean(values, axis=0)[1]:.2f} mm"
        )


def labelled(data: Path, method: str, weight: float) -> None:
    """Every other label pulls."""
    for name in ("abdomen_ct", "hippocampus", "head_neck_ct"):
        found = []
        for given in list(rows(name, data))[:6]:
            shared = sorted(
                set(anamorph.read_labels(given["fixed_labels"]).present())
                & set(anamorph.read_labels(given["moving_labels"]).present())
            )
            given = {key: value for key, value in given.items() if "points" not in key}
            free, before = registered(method, **given)
            pulled, after = registered(method, **given, use_labels=f"{','.join(map(str, shared[::2]))}={weight}")
            apart = free.metrics.after.labels("dice")
            together = pulled.metrics.used.after.labels("dice") | pulled.metrics.after.labels("dice")
            found.append(
                [np.mean([one[n] for n in some]) for some in (shared[::2], shared[1::2]) for one in (apart, together)]
            )
            found[-1] += [pulled.metrics.after.mean("folding_percent"), before, after]
        used = "used {:.3f} -> {:.3f}, kept back {:.3f} -> {:.3f}; folded {:.4f} %; {:.1f} -> {:.1f} s"
        print(f"{name}, {len(found)} pairs:", used.format(*np.mean(found, axis=0)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("chosen", nargs="*", default=["lung", "fetal", "prostate", "labels"])
    parser.add_argument("--method", default="convex")
    parser.add_argument("--weight", type=float, default=LABEL_WEIGHT)
    asked = parser.parse_args()
    for one in asked.chosen:
        if one == "prostate":
            prostates(asked.data, asked.method)
        elif one == "labels":
            labelled(asked.data, asked.method, asked.weight)
        else:
            halves({"lung": "lung_ct", "fetal": "fetal_brain_mr"}[one], asked.data, asked.method)
