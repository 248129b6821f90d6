"""What one scan alone shows: is it found, is anything found where nothing is missing, and what does the map gain?

Usage: python -m benchmarks.no_partner phantom | resected DATA | one-patient DATA | pairs DATA PAIRS.csv [METHOD ...]

``phantom``: cavities of fluid and of air, a lesion that grows, and nothing missing, with a known map. ``resected``:
real scans in which a ball of 18 mm becomes fluid: deep in the liver of abdomens that are registered to themselves,
deformed by a known map, with noise of 10 HU in both, or contrast of 300 HU in their stomach; deep in a lung with
landmarks. ``one-patient``: real pairs of one patient without anything of size missing. ``pairs``: a list of pairs as
it is.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

import anamorph
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.phantom.inserts import Insert, UnmatchedPair, deepest_mm, drawn, make_growth_pair, make_resection_pair
from anamorph.phantom.pair import PhantomPair, make_pair, random_affine, random_diffeomorphism
from anamorph.registration.result import Result
from anamorph.transforms.maps import Affine, Composite

NEAR_MM, FAR_MM = 15.0, 30.0
RADIUS_MM, FLUID_HU, CONTRAST_HU, NOISE_HU = 18.0, 5.0, 300.0, 10.0
LIVER, STOMACH = 6, 7
PHANTOMS: dict[str, Callable[[int], UnmatchedPair]] = {
    "cavity of fluid": lambda seed: make_resection_pair(seed=seed),
    "cavity of air": lambda seed: make_resection_pair(seed=seed, hu=-1000),
    "growth": lambda seed: make_growth_pair(seed=seed),
    "nothing missing": lambda seed: nothing_missing(seed),
}
WAYS = ("as they are", "found", "masks given, a voxel wider", "that of the fixed scan", "that of the moving scan")


def nothing_missing(seed: int) -> UnmatchedPair:
    """Phantoms in which everything has a partner."""
    pair = make_pair((96, 80, 88), seed=seed)
    none = [Labels(np.zeros(scan.grid.shape, np.uint8), scan.grid, "none") for scan in (pair.fixed, pair.moving)]
    return UnmatchedPair(pair, *none)


def ways(made: UnmatchedPair) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is asked for: nothing, to look, and the true masks."""
    yield WAYS[0], {}
    yield WAYS[1], {"settings": {"find_no_partner": True}}
    masks = [Mask(binary_dilation(only.data[0]), only.grid) for only in (made.fixed_only, made.moving_only)]
    if made.fixed_only.data.any():
        yield WAYS[2], {"no_partner": masks[0], "moving_no_partner": masks[1]}
        yield WAYS[3], {"no_partner": masks[0]}
        yield WAYS[4], {"moving_no_partner": masks[1]}


def errors_mm(made: UnmatchedPair, result: Result) -> tuple[float, float]:
    """Mean error of the map within 15 mm of what has no partner, and more than 30 mm away, inside the body."""
    grid = made.scans.fixed.grid
    wanted, found = (
        transform.displacement_on(grid).disp_vox
        for transform in (made.scans.true_fixed_to_moving, result.fixed_to_moving)
    )
    error = np.linalg.norm((found - wanted) * grid.spacing_mm.reshape(3, 1, 1, 1), axis=0)
    away = distance_transform_edt(made.fixed_only.data[0] == 0, sampling=grid.spacing_mm)
    body = made.scans.fixed.data[0] > -500
    near = body & (away > 0) & (away <= NEAR_MM)
    return float(error[near].mean()) if near.any() else float("nan"), float(error[body & (away > FAR_MM)].mean())


def volume_ml(image: Image) -> float:
    """Volume of what a map shows."""
    return float((image.data > 0.5).sum()) * abs(float(np.linalg.det(image.grid.affine[:3, :3]))) / 1000


def agreement(found: Image | None, truth: Labels) -> str:
    """Dice with the truth, and volumes found and outside the truth."""
    if found is None:
        return "nothing found"
    here = Affine.identity().warp_image(found, truth.grid, background=0).data[0] > 0.5
    there = truth.data[0] > 0
    outside = volume_ml(Image((here & ~there).astype(np.float32), truth.grid))
    dice = 2 * (here & there).sum() / max(here.sum() + there.sum(), 1)
    return f"Dice {dice:.2f}, {volume_ml(found):.1f} of {volume_ml(truth):.1f} mL, {outside:.1f} outside"


def judged(name: str, made: UnmatchedPair) -> dict[str, tuple[float, float, float]]:
    """Print a line for each way of one pair; errors and seconds by way."""
    rows = {}
    for way, given in ways(made):
        start = time.process_time()
        result = anamorph.register(made.scans.fixed, made.scans.moving, **given)
        seconds = time.process_time() - start
        near, far = errors_mm(made, result)
        rows[way] = near, far, seconds
        found = result.outcome.no_partner or (None, None)
        sides = zip(("fixed", "moving"), found, (made.fixed_only, made.moving_only), strict=True)
        told = "; ".join(f"{side}: {agreement(*both)}" for side, *both in sides) if way == WAYS[1] else ""
        print(f"{name} | {way} | {near:.2f} | {far:.2f} | {seconds:.2f} | {told}", flush=True)
    return rows


def several(name: str, pairs: Iterator[UnmatchedPair]) -> None:
    """Pairs of one kind, and their means."""
    rows = [judged(f"{name} {number}", made) for number, made in enumerate(pairs)]
    for way in rows[0]:
        near, far, seconds = np.mean([row[way] for row in rows], axis=0)
        print(f"**{name}, mean of {len(rows)}** | {way} | {near:.2f} | {far:.2f} | {seconds:.2f} |", flush=True)


def phantom(seeds: int = 6) -> None:
    """Phantoms of each kind."""
    for name, make in PHANTOMS.items():
        several(name, map(make, range(seeds)))


def resected(data: Path) -> None:
    """Balls of fluid in real scans."""
    names = "crlm1004", "crlm1006", "ts"
    several("liver resected", (changed_abdomen(data / "abdomen_ct", name, with_cavity) for name in names))
    several("stomach filled", (changed_abdomen(data / "abdomen_ct", name, with_contrast) for name in names))
    folder = data / "lung_ct"
    for fixed, moving in (("baseline", "followup"), ("followup", "baseline")):
        scans = [anamorph.read_image(folder / f"{name}.mha") for name in (fixed, moving)]
        lung = anamorph.read_labels(folder / f"{moving}_mask.mha")
        ball = Insert(deepest_mm(Labels(lung.data, scans[1].grid, lung.name)), (RADIUS_MM,) * 3, FLUID_HU)
        filled, _, truth = drawn(scans[1], (ball,), [Affine.identity()])
        points = {
            f"{role}_points": anamorph.read_points(folder / f"{name}_landmarks_vox.txt", grid=scan.grid)
            for role, name, scan in zip(("fixed", "moving"), (fixed, moving), scans, strict=True)
        }
        for which, scan in (("whole", scans[1]), ("resected", filled)):
            for way, given in (*zip(WAYS[:2], ({}, {"settings": {"find_no_partner": True}}), strict=True),):
                result = anamorph.register(scans[0], scan, **points, **given)
                found = (result.outcome.no_partner or (None, None))[1]
                told = agreement(found, truth) if way == WAYS[1] else ""
                tre = result.metrics.after.mean("tre_mm_landmarks")
                print(f"lung {fixed} {moving}, {which} | {way} | landmarks {tre:.2f} mm | {told}", flush=True)


def with_cavity(scan: Image, labels: Labels) -> tuple[Image, Labels]:
    """A scan of which a ball of liver has become fluid, and the ball."""
    liver = Labels((labels.data[0] == LIVER).astype(np.uint8), labels.grid, "liver")
    filled, _, ball = drawn(scan, (Insert(deepest_mm(liver), (RADIUS_MM,) * 3, FLUID_HU),), [Affine.identity()])
    return filled, ball


def with_contrast(scan: Image, labels: Labels) -> tuple[Image, Labels]:
    """A scan with contrast in its stomach, and that."""
    inside = binary_erosion(labels.data[0] == STOMACH)
    values = np.where(inside, CONTRAST_HU, scan.data[0]).astype(np.float32)
    return scan.with_data(values), Labels(inside.astype(np.uint8), labels.grid, "contrast")


def changed_abdomen(folder: Path, name: str, change: Callable[[Image, Labels], tuple[Image, Labels]]) -> UnmatchedPair:
    """An abdomen of which the moving scan is changed, and the fixed one is deformed by a known map."""
    image = anamorph.read_image(folder / "images" / f"{name}.nii.gz")
    labels = anamorph.read_labels(folder / "labels" / f"{name}.nii.gz")
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    centre = Affine(np.block([[np.eye(3), image.grid.centre_mm[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]))
    bent = Composite.of(random_affine(rng, 10.0, 5.0, 0.05, False), random_diffeomorphism(rng, 12.0, False))
    truth = Composite.of(centre.inverse(), bent, centre)
    noisy = [
        scan.with_data((scan.data + NOISE_HU * rng.standard_normal(scan.data.shape)).astype(np.float32))
        for scan in (truth.warp_image(image, image.grid, background=-1024), image)
    ]
    moving, moving_only = change(noisy[1], labels)
    nowhere = Points(np.zeros((0, 3)))
    pair = PhantomPair(noisy[0], moving, truth.warp_labels(labels, image.grid), labels, nowhere, nowhere, truth)
    return UnmatchedPair(pair, truth.warp_labels(moving_only, image.grid), moving_only)


def one_patient(data: Path) -> None:
    """Volumes found in pairs of one patient that miss nothing of size."""
    brain = data / "brain_ms_mr" / "patient01"
    for contrast in ("T1W", "T2W", "FLAIR"):
        told_of(f"brain, two dates, {contrast}", *(brain / f"study{date}_{contrast}.nii.gz" for date in (1, 2)))
    told_of("lung", *(data / "lung_ct" / f"{name}.mha" for name in ("baseline", "followup")))
    for patient in ("SC-N-07", "SC-N-40", "SC-HYP-03", "SC-HF-NI-14"):
        told_of(
            f"heart {patient}",
            *(data / "cardiac_mr" / "images" / f"{patient}_{phase}.nii.gz" for phase in ("ED", "ES")),
        )


def told_of(name: str, fixed: Path, moving: Path) -> None:
    """Print what is found in one pair."""
    found = anamorph.register(fixed, moving, settings={"find_no_partner": True}).outcome.no_partner
    told = "nothing" if found is None else " and ".join(f"{volume_ml(one):.1f} mL" for one in found)
    print(f"{name} | {told}", flush=True)


def pairs(data: Path, listed: Path, method: str) -> None:
    """Accuracy and seconds of a list of pairs with and without looking, and what is found."""
    rows = []
    for row in csv.DictReader(listed.open()):
        roles = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_points", "moving_points")
        given = {role: data / row[role] for role in roles if row[role] and not row[role].endswith("landmarks")}
        if not str(given.get("fixed_points", "x.txt")).endswith(".txt"):
            given = {role: path for role, path in given.items() if "points" not in role}
        measured = []
        for looks in (False, True):
            start = time.process_time()
            result = anamorph.register(**given, method=method, settings={"find_no_partner": looks})
            seconds = time.process_time() - start
            after = result.metrics.after
            measured += [after.mean("dice"), after.mean("tre_mm_landmarks") or np.nan, seconds]
        found = result.outcome.no_partner
        told = "-" if found is None else " and ".join(f"{volume_ml(one):.1f} mL" for one in found)
        rows.append([np.nan if value is None else value for value in measured])
        print(f"{row['pair_id']} | {measured[0]:.4f} -> {measured[3]:.4f} | {told}", flush=True)
    dice, tre, s, dice_looking, tre_looking, s_looking = np.mean(rows, axis=0)
    print(
        f"**{listed.stem}, {method}, {len(rows)}** | Dice {dice:.4f} -> {dice_looking:.4f} | "
        f"landmarks {tre:.2f} -> {tre_looking:.2f} mm | {s:.2f} -> {s_looking:.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    if mode == "phantom":
        phantom()
    elif mode == "pairs":
        for method in rest[2:] or ["convex"]:
            pairs(Path(rest[0]), Path(rest[1]), method)
    else:
        {"resected": resected, "one-patient": one_patient}[mode](Path(rest[0]))
