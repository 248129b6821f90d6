"""Contours propagated in DICOM, judged by what is known: landmarks of a lung, and plans deformed by a known map.

``python -m benchmarks.propagation --data DATA_ROOT -o OUT [--patients 6] [--plain]``

A head-neck plan is deformed by a random smooth map (8 mm, shifts of 5 mm, turns of 3 degrees) into two days: a CT
with new noise, and a cone-beam CT of a 240 mm disc whose values are scaled, shifted, cupped. The error is that of the
map at the voxels of the contours that the day shows. ``--plain`` registers the same days as ``anamorph register`` would
by default.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Structure
from anamorph.image.points import Points
from anamorph.image.read import read_image, read_labels, read_points
from anamorph.phantom.pair import random_affine, random_diffeomorphism
from anamorph.phantom.radiotherapy import cone_beam, write_contours, write_ct
from anamorph.registration.run import register
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Affine, Composite, Transform
from anamorph.workflows.propagation.run import propagate

CONE_MM, CONE_SHARE = 240.0, 0.6
NAMES = ("brainstem", "spinal cord", "right parotid", "left parotid", "oesophagus", "larynx", "mandible")
NOISE_HU = 12.0


def shares(labels: Labels) -> Iterator[tuple[Structure, np.ndarray]]:
    for rank, label in enumerate(labels.present(), 1):
        yield Structure(rank, NAMES[(label - 1) % len(NAMES)]), (labels.data[0] == label).astype(np.float32)


def known_map(grid: Grid, seed: int) -> Transform:
    """A random rigid and smooth map about the middle of a grid."""
    rng = np.random.default_rng(seed)
    there, back = (Affine.translation(sign * grid.centre_mm) for sign in (-1, 1))
    inner = Composite.of(random_affine(rng, 5.0, 3.0, 0.0, False), random_diffeomorphism(rng, 8.0, False))
    return Composite.of(there, inner, back)


def cone_of(scan: Image, labels: Labels) -> Image:
    """The box of a cone-beam scan around the contours."""
    middle = np.argwhere(labels.data[0] > 0).mean(axis=0)
    half = np.array([CONE_MM, CONE_MM, CONE_SHARE * scan.grid.shape[2] * scan.grid.spacing_mm[2]]) / 2
    low = np.maximum(np.floor(middle - half / scan.grid.spacing_mm), 0).astype(int)
    high = np.minimum(np.ceil(middle + half / scan.grid.spacing_mm), np.array(scan.grid.shape) - 1).astype(int)
    return scan.cropped(tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)))


def head_neck(data: Path, out: Path, number: int, plain: bool) -> Iterator[dict[str, object]]:
    path = sorted((data / "head_neck_ct" / "images").glob("*.nii.gz"))[number]
    scan, labels = read_image(path), read_labels(data / "head_neck_ct" / "labels" / path.name)
    folder = out / path.name.split(".")[0]
    shutil.rmtree(folder, ignore_errors=True)
    source = write_ct(scan, folder / "plan", "plan", "plan")
    write_contours([*shares(labels)], folder / "plan", source)
    truth = known_map(scan.grid, number)
    moved = truth.warp_image(scan, scan.grid)
    noise = np.random.default_rng(number).normal(0, NOISE_HU, moved.data.shape)
    day = moved.with_data(np.where(moved.data > -1000, np.rint(moved.data + noise), moved.data).astype(np.int16))
    carried = truth.warp_labels(labels, scan.grid)
    days = {"CT": day, "cone-beam CT": cone_beam(cone_of(day, carried), number)}
    for name, image in days.items():
        write_ct(image, folder / name, name, name)
    places = scan.grid.voxel_to_world(np.argwhere(carried.data[0] > 0)[::7])
    begin = time.perf_counter()
    if not plain:
        found = propagate(str(folder / "plan"), [str(folder / name) for name in days], folder / "out")
    seconds = (time.perf_counter() - begin) / 2
    for rank, (name, image) in enumerate(days.items(), 1):
        if plain:
            begin = time.perf_counter()
            result = register(str(folder / name), str(folder / "plan"))
            forward, seconds = result.fixed_to_moving, time.perf_counter() - begin
            beam: object = ""
        else:
            forward = read_transform(folder / "out" / f"day-{rank:02d}" / "fixed_to_moving.nii.gz")
            beam = found.record["days"][f"day-{rank:02d}"]["cone_beam"]
        shown = places[image.grid.contains(places, -2)]
        if name != "CT":
            away = np.linalg.norm((shown - image.grid.centre_mm)[:, :2], axis=1)
            shown = shown[away < CONE_MM / 2 - 5]
        expected = truth.map_world(shown)
        errors = np.linalg.norm(forward.map_world(shown) - expected, axis=1)
        yield {
            "plan": path.name.split(".")[0],
            "day": name,
            "cone_beam": beam,
            "before_mm": np.linalg.norm(shown - expected, axis=1).mean(),
            "mean_mm": errors.mean(),
            "p95_mm": np.percentile(errors, 95),
            "seconds": seconds,
        }


def lung(data: Path, out: Path, plain: bool) -> dict[str, object]:
    place = data / "lung_ct"
    plan, day = read_image(place / "baseline.mha"), read_image(place / "followup.mha")
    folder = out / "lung"
    shutil.rmtree(folder, ignore_errors=True)
    source = write_ct(plan, folder / "plan", "plan", "plan")
    mask = read_labels(place / "baseline_mask.mha")
    write_contours([(Structure(1, "lungs"), (mask.data[0] > 0).astype(np.float32))], folder / "plan", source)
    own = write_ct(day, folder / "day", "day", "day")
    drawn = read_labels(place / "followup_mask.mha")
    write_contours([(Structure(1, "lungs"), (drawn.data[0] > 0).astype(np.float32))], folder / "day", own)
    marks = [read_points(place / f"{name}_landmarks_vox.txt", grid=image.grid)
             for name, image in (("baseline", plan), ("followup", day))]  # fmt: skip
    begin = time.perf_counter()
    if plain:
        forward = register(str(folder / "day"), str(folder / "plan")).fixed_to_moving
    else:
        propagate(str(folder / "plan"), [str(folder / "day")], folder / "out")
        forward = read_transform(folder / "out" / "day-01" / "fixed_to_moving.nii.gz")
    seconds = time.perf_counter() - begin
    errors = _errors(forward, *marks)
    before = _errors(Affine.identity(), *marks)
    return {"plan": "lung", "day": "CT", "cone_beam": "", "before_mm": before.mean(), "mean_mm": errors.mean(),
            "p95_mm": np.percentile(errors, 95), "seconds": seconds}  # fmt: skip


def _errors(forward: Transform, plan: Points, day: Points) -> np.ndarray:
    return np.linalg.norm(forward.map_world(day.positions_mm) - plan.positions_mm, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [lung(given.data, given.out, given.plain)]
    print(rows[-1], flush=True)
    for number in range(given.patients):
        for row in head_neck(given.data, given.out, number, given.plain):
            rows.append(row)
            print(
                {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}, flush=True
            )
    with (given.out / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
