"""Does similarity tell a right result from a wrong one when it is compared with other places?

The descriptors of the result are compared where they are and shifted by a quarter of the grid in 26 directions.
Printed are, for each pair, Dice, the similarity, its mean at the other places, and how far it stands out from them in
their standard deviations.

Usage: python benchmarks/similarity_against_chance.py FIXED MOVING FIXED_LABELS MOVING_LABELS [key=value ...]
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.metrics.structural_similarity import VOXELS
from anamorph.features.mind_ssc import ENTRIES, mind_ssc
from anamorph.image import Image
from anamorph.image.read import read_image, read_labels
from anamorph.methods.working_frame import Scan
from anamorph.registration.run import register
from anamorph.transforms import Transform


def similarities(fixed: Image, moving: Image, transform: Transform) -> tuple[float, np.ndarray]:
    """The similarity of a result, and at the other places where the scans still overlap; on every second voxel."""
    extent = np.array(fixed.grid.shape) * fixed.grid.spacing_mm
    grid = fixed.grid.resampled(np.maximum(extent.max() / VOXELS, fixed.grid.spacing_mm))
    here = Scan.prepare(fixed, None).onto(grid)
    there = Scan.prepare(moving, None).onto(grid, transform)
    still, moved = (mind_ssc(scan.channels[0], (1, 1, 1), (1, 1, 1), (1, 1, 1)) for scan in (here, there))

    def at(shift: tuple[int, ...]) -> float:
        a = tuple(slice(max(d, 0), n + min(d, 0), 2) for n, d in zip(grid.shape, shift, strict=True))
        b = tuple(slice(max(-d, 0), n + min(-d, 0), 2) for n, d in zip(grid.shape, shift, strict=True))
        weight = here.weight[a] * there.weight[b]
        mismatch = ((still[a] - moved[b]) ** 2).sum(axis=-1) / ENTRIES
        return float("nan") if weight.sum() == 0 else 1 - float((weight * mismatch).sum() / weight.sum())

    steps = [max(n // 4, 1) for n in grid.shape]
    places = [tuple(np.multiply(way, steps)) for way in itertools.product((-1, 0, 1), repeat=3) if any(way)]
    elsewhere = np.array([at(place) for place in places])
    return at((0, 0, 0)), elsewhere[np.isfinite(elsewhere)]


def main(fixed_path: str, moving_path: str, fixed_labels: str, moving_labels: str, *settings: str) -> None:
    """Register one pair and print its numbers."""
    fixed, moving = read_image(fixed_path), read_image(moving_path)
    wanted, given = read_labels(fixed_labels), read_labels(moving_labels)
    found = register(fixed, moving, settings=list(settings)).fixed_to_moving
    overlap = dice(wanted, found.warp_labels(given, wanted.grid), set(wanted.present()) & set(given.present()))
    here, elsewhere = similarities(fixed, moving, found)
    contrast = (here - elsewhere.mean()) / elsewhere.std()
    print(
        f"{fixed.name} {' '.join(settings)}: Dice {np.mean(list(overlap.values())):.3f}, similarity {here:.3f}, "
        f"elsewhere {elsewhere.mean():.3f}, contrast {contrast:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
