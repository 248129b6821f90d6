"""Do the images support landmarks better than the places that a registration finds?

``python -m benchmarks.landmark_support --data DATA_ROOT --set lung_ct``

A line per landmark: how far the registration is from it, and how well a cube of 14 mm around the fixed landmark,
carried over, correlates with the moving scan: where it was found, where the landmark says, and at the best of all
places within 9 mm along each axis.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from anamorph.geometry.sampling import sample
from anamorph.image import Image
from anamorph.image.read import read_image, read_points
from anamorph.registration.run import register

HALF_MM, STEP_MM = 7.0, 1.4
REACH_MM, SHIFT_MM = 9.0, 1.5
HEAD = "| landmark | error mm | found | landmark | best within 9 mm |\n|---|---|---|---|---|"


def main() -> None:
    """Print a table for every pair of a list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="lung_ct")
    given = parser.parse_args()
    with (Path(__file__).parent / "pairs" / f"{given.set}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        print(f"{row['pair_id']}\n\n{HEAD}")
        lines = support(*(given.data / row[key] for key in ("fixed", "moving", "fixed_points", "moving_points")))
        for name, *numbers in [*lines, ("mean", *np.mean([line[1:] for line in lines], axis=0))]:
            print(f"| {name} | {numbers[0]:.1f} | {numbers[1]:.3f} | {numbers[2]:.3f} | {numbers[3]:.3f} |")


def support(
    fixed_path: Path, moving_path: Path, fixed_points: Path, moving_points: Path
) -> list[tuple[str, float, float, float, float]]:
    """Name, error in mm and the three correlations of every landmark."""
    fixed, moving = read_image(fixed_path), read_image(moving_path)
    here = read_points(fixed_points, grid=fixed.grid).positions_mm
    there = read_points(moving_points, grid=moving.grid).positions_mm
    carry = register(fixed, moving).fixed_to_moving.map_world
    cube, shifts = _lattice(HALF_MM, STEP_MM), _lattice(REACH_MM, SHIFT_MM)
    lines = []
    for number, (place, wanted) in enumerate(zip(here, there, strict=True), 1):
        around = place + cube
        seen, carried, off = _values(fixed, around), carry(around), wanted - carry(place[None])[0]
        found, marked = (_correlation(seen, _values(moving, carried + shift)) for shift in (0 * off, off))
        best = max(_correlation(seen, _values(moving, carried + shift)) for shift in shifts)
        lines.append((str(number), float(np.linalg.norm(off)), found, marked, best))
    return lines


def _lattice(half: float, step: float) -> np.ndarray:
    axis = np.arange(-half, half + step / 2, step)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def _values(image: Image, places_mm: np.ndarray) -> np.ndarray:
    positions = image.grid.world_to_voxel(places_mm).T
    return sample(image.data.astype(np.float32), positions)[0]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


if __name__ == "__main__":
    main()
