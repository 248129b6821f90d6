"""What registering by way of a template costs and gains against registering every pair.

``python -m benchmarks.template FOLDER --scans 12 -o OUT --method convex``

FOLDER holds ``images`` and ``labels`` of the same file names, or is a data set. The template is built (or resumed) in
OUT; then every two scans are compared once, by way of the template and registered to each other directly.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Case, read_dataset
from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry import Grid
from anamorph.image.read import read_grid, read_image, read_labels
from anamorph.registration.run import register
from anamorph.transforms import Affine
from anamorph.workflows.template.build import build_template, pairwise_dice
from anamorph.workflows.template.scans import TemplateSettings


def main() -> None:
    """Build, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--method", default="convex")
    parser.add_argument("--start", default="mean", help="mean, or a scan")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("-o", "--out", type=Path, required=True)
    wanted = parser.parse_args()
    cases = find_cases(wanted.folder)[: wanted.scans]
    begun = time.perf_counter()
    template = build_template(
        cases,
        wanted.out,
        settings=TemplateSettings(wanted.start, wanted.iterations),
        registration=RegistrationSettings(wanted.method),
        resume=True,
    )
    print(f"template: {time.perf_counter() - begun:.0f} s, voxels {read_grid(template.image).shape}")
    print("mean field, mm:", *(f"{told.mean_field_rms_mm:.3f}" for told in template.iterations[1:]), end=" ")
    print(f"-> {template.residual_rms_mm:.3f} (final)")
    print("single fields, mm:", *(f"{told.spread_mm:.2f}" for told in template.iterations[1:]))
    print("change, %:", *(f"{100 * told.change:.1f}" for told in template.iterations[1:]))
    print(f"Dice with the template's labels: {np.mean([told['dice'] for told in template.scans.values()]):.4f}")
    by_template = pairwise_dice(cases, template.folder / "scans")
    pairs = list(combinations(cases, 2))
    begun = time.perf_counter()
    before, direct = zip(*(compare(a, b, wanted.method) for a, b in pairs), strict=True)
    print(f"directly: {time.perf_counter() - begun:.0f} s for {len(pairs)} pairs")
    for name, values in (
        ("centres aligned", before),
        (f"{wanted.method}, each pair", direct),
        ("by way of the template", [by_template[a.key, b.key] for a, b in pairs]),
    ):
        print(f"{name:>24}: Dice {np.mean(values):.4f} +- {np.std(values):.4f}, worst pair {np.min(values):.3f}")


def find_cases(folder: Path) -> list[Case]:
    """The scans of a data set or of a plain folder, in the order of their names."""
    if not (folder / "images").is_dir():
        return [case for case in read_dataset(folder).cases if case.label is not None]
    images = sorted((folder / "images").glob("*.nii.gz"))
    return [Case(path.name.removesuffix(".nii.gz"), "0000", path, folder / "labels" / path.name) for path in images]


def compare(fixed: Case, moving: Case, method: str) -> tuple[float, float]:
    """Mean Dice of a pair with aligned centres and after direct registration."""
    assert fixed.label is not None
    assert moving.label is not None
    here, there = read_labels(fixed.label), read_labels(moving.label)
    found = register(read_image(fixed.image), read_image(moving.image), method=method).fixed_to_moving
    return overlap(here, there, centred(here.grid, there.grid)), overlap(here, there, found)


def centred(fixed: Grid, moving: Grid) -> Affine:
    """The translation that aligns the centres of two grids."""
    return Affine.translation(moving.centre_mm - fixed.centre_mm)


def overlap(here, there, transform) -> float:
    """Mean Dice over the labels of the fixed scan."""
    return float(np.mean([*dice(here, transform.warp_labels(there, here.grid)).values()]))


if __name__ == "__main__":
    main()
