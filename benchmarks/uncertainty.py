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
from anamorph.transforms.maps import Affine
from benchmarks.start.sources import sources, split_of

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
    parser.add_argument("--split", choices=("dev", "test"), help="pairs of these patients alone")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of the method")
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
        result = register(pair.fixed, pair.moving, method=given.method, settings=given.set)
        body = pair.fixed.grid.voxel_to_world(np.argwhere(pair.fixed.data[0] > BODY_HU))
        places = np.random.default_rng(0).permutation(body)[:PLACES]
        right = pair.true_fixed_to_moving.map_world(places)
        seen = pair.moving.grid.contains(right)
        apart = np.linalg.norm(result.fixed_to_moving.map_world(places) - right, axis=1)
        yield errors(result, places[seen], apart[seen])


def listed(name: str, given: argparse.Namespace) -> Iterator[Errors | None]:
    """Pairs of a set with landmarks, else with labels; those of its split for tuning, where one is asked for."""
    split = split_of(name)
    chosen = [one for one in sources(name) if given.split in (None, split[one.number])]
    for one in chosen[given.first : given.first + given.pairs]:
        files = {role: given.data / path for role, path in (("fixed", one.fixed), ("moving", one.moving))}
        files |= {role: given.data / path for role, path in one.companions}
        fixed, moving = read_image(files["fixed"]), read_image(files["moving"])
        masks = {f"{role}_mask": files[f"{role}_labels"] for role in ("fixed", "moving") if name == "lung_ct"}
        result = register(fixed, moving, method=given.method, settings=given.set, **masks)
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
    """How far beside the outlines of the moving labels those of the fixed ones end, as if they were of three axes.

    Distances are those on voxels as fine along all axes, so that the end of a label in a thick slice is no error.
    """
    random = np.random.default_rng(0)
    places, apart = [], []
    fixed, moving = fine(fixed), fine(moving)
    for label in sorted(set(fixed.present()) & set(moving.present())):
        inside = fixed.data[0] == label
        surface = random.permutation(np.argwhere(inside & ~binary_erosion(inside)))[: PLACES // 5]
        here, there = outline_distance_mm(fixed, label), outline_distance_mm(moving, label)
        points = fixed.grid.voxel_to_world(surface)
        carried = moving.grid.world_to_voxel(result.fixed_to_moving.map_world(points))
        ends = map_coordinates(there, carried.T, order=1, mode="nearest")
        places.append(points)
        apart.append(np.abs(ends - here[tuple(surface.T)]) / ONE_OF_THREE)
    return errors(result, np.concatenate(places), np.concatenate(apart))


def fine(labels: Labels) -> Labels:
    """Labels on voxels that are as fine along all axes as along the finest one."""
    return Affine.identity().warp_labels(labels, labels.grid.resampled(np.full(3, labels.grid.finest_mm)))


def outline_distance_mm(labels: Labels, label: int) -> np.ndarray:
    """Distance of every voxel to the outline of a label, negative inside."""
    inside, half_mm = labels.data[0] == label, labels.grid.finest_mm / 2
    outside_mm, inside_mm = (distance_transform_edt(part, labels.grid.spacing_mm) for part in (~inside, inside))
    return np.where(inside, half_mm - inside_mm, outside_mm - half_mm)  # type: ignore[no-any-return]


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
