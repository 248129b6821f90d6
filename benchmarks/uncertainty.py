"""Does the map of uncertainty say how far a result is off?

``python -m benchmarks.uncertainty --data DATA_ROOT --sets phantom,lung_ct,fetal_brain_mr --method convex``

Errors are distances to landmarks, to a phantom's known map, or from the fixed label's surface, carried over, to the
surface of the moving one. The last is one component of an error, and is compared with the share of the radius that
holds 68 % of one component where the radius holds 68 % of three. A line per set: how many of the errors lie within one
and within two radii, and the rank correlation of radius and error, over all points and on average within a pair.

Constants were chosen on phantoms of the seeds 100 to 102, fourteen ordered pairs of the fetal atlases, one of them in
the list of pairs, the lung, and the first six pairs of the hippocampi, which ``--first 6`` skips.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, map_coordinates
from scipy.stats import spearmanr

from anamorph.geometry.sampling import sample
from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels, read_points
from anamorph.phantom import make_pair
from anamorph.registration.result import Result
from anamorph.registration.run import register

LINE = "| {} | {} | {} | {:.2f} | {:.2f} | {:.0f} % | {:.0f} % | {:.2f} | {:.2f} | {:.1f} % |"
HEAD = (
    "| set | pairs | places | median error, mm | median radius, mm | within 1 | within 2 | rank, all | rank, in a pair "
    "| seconds |"
)
ONE_OF_THREE = 0.534
"""Of the radius that holds 68 % of a normal distribution in three dimensions: that of one dimension."""
PLACES = 800
BODY_HU = -300
PHANTOM_KINDS: tuple[dict[str, float], ...] = ({}, {"noise_hu": 60}, {"deformation_mm": 25}, {"noise_hu": 30})


@dataclass(frozen=True)
class Errors:
    """Errors of one pair, the radii said to hold 68 % of them, and the share of the seconds that the map took."""

    error_mm: np.ndarray
    radius_mm: np.ndarray
    share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default="phantom,lung_ct,fetal_brain_mr,hippocampus,head_neck_ct")
    parser.add_argument("--method", default="convex")
    parser.add_argument("--first", type=int, default=0, help="pairs of a list to skip")
    parser.add_argument("--pairs", type=int, default=6)
    given = parser.parse_args()
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|", flush=True)
    for name in given.sets.split(","):
        found = phantoms(given) if name == "phantom" else listed(name, given)
        print(_line(name, [one for one in found if one is not None and len(one.error_mm)]), flush=True)


def phantoms(given: argparse.Namespace) -> Iterator[Errors | None]:
    """Bodies whose map is known, with usual and strong noise and deformation."""
    for number in range(given.pairs):
        kind: dict[str, Any] = dict(PHANTOM_KINDS[number % len(PHANTOM_KINDS)])
        pair = make_pair((80, 66, 72), seed=200 + number, **kind)
        result = register(pair.fixed, pair.moving, method=given.method)
        body = pair.fixed.grid.voxel_to_world(np.argwhere(pair.fixed.data[0] > BODY_HU))
        places = np.random.default_rng(0).permutation(body)[:PLACES]
        right = pair.true_fixed_to_moving.map_world(places)
        seen = pair.moving.grid.contains(right)
        apart = np.linalg.norm(result.fixed_to_moving.map_world(places) - right, axis=1)
        yield errors(result, places[seen], apart[seen])


def listed(name: str, given: argparse.Namespace) -> Iterator[Errors | None]:
    """Pairs of a list with landmarks, else with labels."""
    with (Path(__file__).parent / "pairs" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[given.first : given.first + given.pairs]
    for row in rows:
        files = {role: given.data / path for role, path in row.items() if path and role not in ("dataset", "pair_id")}
        fixed, moving = read_image(files["fixed"]), read_image(files["moving"])
        masks = {role: files[role] for role in ("fixed_mask", "moving_mask") if role in files and name == "lung_ct"}
        result = register(fixed, moving, method=given.method, **masks)
        if "fixed_points" in files:
            yield at_landmarks(result, files)
        else:
            yield on_surfaces(result, read_labels(files["fixed_labels"]), read_labels(files["moving_labels"]))


def at_landmarks(result: Result, files: dict[str, Path]) -> Errors | None:
    """Distances of landmarks that both scans have."""
    scans = (result.fixed, result.moving)
    sides = [_landmarks(files[f"{role}_points"], scan) for role, scan in zip(("fixed", "moving"), scans, strict=True)]
    common = sorted(sides[0].keys() & sides[1].keys())
    fixed, moving = (np.array([side[name] for name in common]) for side in sides)
    return errors(result, fixed, np.linalg.norm(result.fixed_to_moving.map_world(fixed) - moving, axis=1))


def _landmarks(path: Path, scan: Image) -> dict[str, np.ndarray]:
    if path.name.endswith(".nii.gz"):  # each a voxel of its own value
        marks = read_labels(path)
        return {
            str(n): marks.grid.voxel_to_world(np.argwhere(marks.data[0] == n).mean(axis=0)) for n in marks.present()
        }
    points = read_points(path, grid=scan.grid)
    return dict(zip(points.labels or map(str, range(len(points))), points.positions_mm, strict=True))


def on_surfaces(result: Result, fixed: Labels, moving: Labels) -> Errors | None:
    """Distances from the surfaces of the fixed labels to those of the moving ones, as if they were of three axes."""
    random = np.random.default_rng(0)
    places, apart = [], []
    for label in sorted(set(fixed.present()) & set(moving.present())):
        inside = fixed.data[0] == label
        surface = fixed.grid.voxel_to_world(np.argwhere(inside & ~binary_erosion(inside)))
        surface = random.permutation(surface)[: PLACES // 5]
        there = moving.data[0] == label
        half = moving.grid.finest_mm / 2
        outside_mm, inside_mm = (distance_transform_edt(part, moving.grid.spacing_mm) for part in (~there, there))
        signed = np.where(there, half - inside_mm, outside_mm - half)
        carried = moving.grid.world_to_voxel(result.fixed_to_moving.map_world(surface))
        places.append(surface)
        apart.append(np.abs(map_coordinates(signed, carried.T, order=1, mode="nearest")) / ONE_OF_THREE)
    return errors(result, np.concatenate(places), np.concatenate(apart))


def errors(result: Result, places_mm: np.ndarray, error_mm: np.ndarray) -> Errors | None:
    """Errors at places of the fixed scan beside the map's values; None without a map."""
    found = result.uncertainty_mm
    if found is None:
        print(f"{result.fixed.name}: not deformed", flush=True)
        return None
    positions = found.grid.world_to_voxel(places_mm).T.astype(np.float32)
    radius = sample(found.data, positions[:, :, None, None], "nearest")[0, :, 0, 0]
    known = np.isfinite(radius) & np.isfinite(error_mm)
    share = result.timings["uncertainty"] / sum(result.timings.values())
    return Errors(error_mm[known], radius[known], share)


def _line(name: str, found: list[Errors]) -> str:
    if not found:
        return f"| {name} | 0 | | | | | | | | |"
    error, radius = (np.concatenate([getattr(one, part) for one in found]) for part in ("error_mm", "radius_mm"))
    ranks = [spearmanr(one.error_mm, one.radius_mm)[0] for one in found if len(one.error_mm) > 4]
    return LINE.format(
        name,
        len(found),
        len(error),
        np.median(error),
        np.median(radius),
        100 * np.mean(error <= radius),
        100 * np.mean(error <= 2 * radius),
        spearmanr(error, radius)[0],
        np.nanmean(ranks) if ranks else np.nan,
        100 * np.mean([one.share for one in found]),
    )


if __name__ == "__main__":
    main()
