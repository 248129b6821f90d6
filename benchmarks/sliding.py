"""What a mask of tissue that slides costs and gives, on a phantom with a known map and on real scans.

Usage: python -m benchmarks.sliding phantom|lung|abdomen [DATA]

Each pair is registered smoothly, with the mask of the fixed scan, with those of both scans, and lungs also
as they are found. Errors of the phantom
are means and 95 % quantiles, within 15 mm of the surface that slides and in the whole trunk; folding is that of the
worse direction, by tetrahedra between voxels. Seconds are of the processor, without files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.image.image import Labels
from anamorph.phantom.sliding import SKIN_MM, SlidingPair, depth_mm, make_sliding_pair
from anamorph.registration.result import Result
from anamorph.transforms.folding import folded_cells

NEAR_MM = 15.0
INTRAPERITONEAL = (1, 6, 7)
Row = tuple[str, dict[str, Any], dict[str, Labels], Callable[[Result], str]]


def phantom_errors(made: SlidingPair, result: Result) -> str:
    """Mean and 95 % quantile near the surface and all over."""
    grid = made.fixed.grid
    points = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    true = made.true_fixed_to_moving.map_world(points)
    seen = (depth_mm(points, SKIN_MM) > 0) & made.moving.grid.contains(true)
    apart = np.linalg.norm(result.fixed_to_moving.map_world(points[seen]) - true[seen], axis=1)
    near = apart[abs(depth_mm(points[seen])) < NEAR_MM]
    return " | ".join(f"{some.mean():.2f}, {np.quantile(some, 0.95):.2f}" for some in (near, apart))


def measured(result: Result) -> str:
    """Mean Dice and the landmark error."""
    numbers = result.metrics.after
    dice, tre = numbers.mean("dice"), numbers.mean("tre_mm_landmarks")
    return " | ".join("-" if value is None else f"{value:.{digits}f}" for value, digits in ((dice, 4), (tre, 2)))


def rows(kind: str, data: Path) -> Iterator[Row]:
    """Name, scans, masks of both of them, and what is measured."""
    if kind == "phantom":
        for seed in range(4):
            made = make_sliding_pair((128, 100, 96), 2.25, seed, slide_mm=20.0)
            masks = {"sliding": made.inner, "moving_sliding": made.moving_inner}

            def errors(result: Result, made: SlidingPair = made) -> str:
                return phantom_errors(made, result)

            yield f"phantom {seed}", {"fixed": made.fixed, "moving": made.moving}, masks, errors
    elif kind == "lung":
        folder = data / "lung_ct"
        for names in (("baseline", "followup"), ("followup", "baseline")):
            given: dict[str, Any] = {}
            for role, name in zip(("fixed", "moving"), names, strict=True):
                given[role] = anamorph.read_image(folder / f"{name}.mha")
                given[f"{role}_labels"] = anamorph.read_labels(folder / f"{name}_mask.mha")
                given[f"{role}_points"] = folder / f"{name}_landmarks_vox.txt"
            masks = {"sliding": given["fixed_labels"], "moving_sliding": given["moving_labels"]}
            yield "lung " + " ".join(names), given, masks, measured
    else:
        folder = data / "abdomen_ct"
        for names in permutations(("crlm1004", "crlm1006", "ts"), 2):
            given = {}
            for role, name in zip(("fixed", "moving"), names, strict=True):
                given[role] = anamorph.read_image(folder / "images" / f"{name}.nii.gz")
                given[f"{role}_labels"] = anamorph.read_labels(folder / "labels" / f"{name}.nii.gz")
            organs = [given[f"{role}_labels"] for role in ("fixed", "moving")]
            inner = [
                Labels(np.isin(one.data[0], INTRAPERITONEAL).astype(np.uint8), one.grid, "organs") for one in organs
            ]
            yield (
                "abdomen " + " ".join(names),
                given,
                dict(zip(("sliding", "moving_sliding"), inner, strict=True)),
                measured,
            )


def folded_percent(result: Result) -> float:
    """Of the voxels, in the worse direction."""
    found = []
    for transform, grid in (
        (result.fixed_to_moving, result.fixed.grid),
        (result.moving_to_fixed, result.moving.grid),
    ):
        found.append(100 * folded_cells(transform.displacement_on(grid).disp_vox) / float(np.prod(grid.shape)))
    return max(found)


def main(kind: str, data: Path) -> None:
    """Print a table: per pair smooth, with one mask, with both, and with lungs that were found."""
    what = "near mm | all mm" if kind == "phantom" else "Dice | landmarks mm"
    print(f"pair | {what} | folded % | s")
    for name, given, masks, measure in rows(kind, data):
        one = {"sliding": masks["sliding"]}
        ways = [("smooth", {}), ("fixed mask", one), ("both masks", masks)]
        if kind == "lung":
            ways.append(("lungs found", {"sliding": "lungs"}))
        for how, some in ways:
            start = time.process_time()
            result = anamorph.register(**given, **some, threads=1)
            seconds = time.process_time() - start
            print(f"{name}: {how} | {measure(result)} | {folded_percent(result):.4f} | {seconds:.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("phantom", "lung", "abdomen"):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else "."))
