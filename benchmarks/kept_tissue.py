"""What keeping pieces costs and gives, on real scans and on phantoms with a known map.

Usage: python -m benchmarks.kept_tissue DATA [SET ...]

Each pair is registered without masks, with exact and with weighed ones. Bones are what is above 300 HU, cut where it is
thinner than three voxels; Dice is over the labels other than the kept one.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.image.image import Image, Labels
from anamorph.image.pieces import pieces_of
from anamorph.phantom.inserts import make_insert_pair
from anamorph.registration.result import Result
from anamorph.transforms.piece_change import rigid_deviation_mm, volume_change_percent

BONE_HU, LEAST_ML = 300.0, 1.5
WEIGHT = 10.0


def bones(scan: Image) -> Labels:
    """The thick parts of the bones of a CT by their density, apart where they hang together by little."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    dense = scan.data[0] > BONE_HU
    cores = Labels(binary_erosion(dense).astype(np.uint8), scan.grid, f"bones of {scan.name}")
    found = np.zeros(scan.grid.shape, np.uint8)
    large = [piece for piece in pieces_of(cores)[0] if piece.volume_mm3 > 1000 * LEAST_ML]
    for number, piece in enumerate(large, 1):
        found[tuple(piece.voxels.T)] = number
    apart, nearest = distance_transform_edt(found == 0, return_indices=True)
    return Labels(np.where(dense & (apart < 2), found[tuple(nearest)], 0), scan.grid, cores.name)


def organ(labels: Labels, number: int) -> Labels:
    """One label of a map."""
    return Labels((labels.data[0] == number).astype(np.uint8), labels.grid, f"label {number} of {labels.name}")


def pairs(data: Path, chosen: set[str]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], int]]:
    """Name, scans with labels or landmarks, what is kept exactly, and the label that is left out of Dice."""
    if "abdomen" in chosen:
        folder = data / "abdomen_ct"
        for fixed, moving in permutations(("crlm1004", "crlm1006", "ts"), 2):
            images = (folder / "images" / f"{name}.nii.gz" for name in (fixed, moving))
            labels = [anamorph.read_labels(folder / "labels" / f"{name}.nii.gz") for name in (fixed, moving)]
            given = dict(zip(("fixed", "moving"), map(anamorph.read_image, images), strict=True))
            given |= {"fixed_labels": labels[0], "moving_labels": labels[1]}
            yield f"abdomen {fixed} {moving}, bones", given, {"keep_rigid": bones(given["fixed"])}, 0
            yield f"abdomen {fixed} {moving}, left kidney", given, {"keep_rigid": organ(labels[0], 3)}, 3
            yield f"abdomen {fixed} {moving}, spleen's volume", given, {"keep_volume": organ(labels[0], 1)}, 1
    if "head-neck" in chosen:
        with (Path(__file__).parent / "pairs" / "head_neck_ct.csv").open() as file:
            for row in list(csv.DictReader(file))[:4]:
                labels = [anamorph.read_labels(data / row[f"{side}_labels"]) for side in ("fixed", "moving")]
                given = {side: anamorph.read_image(data / row[side]) for side in ("fixed", "moving")}
                given |= {"fixed_labels": labels[0], "moving_labels": labels[1]}
                yield f"head-neck {row['pair_id']}, mandible", given, {"keep_rigid": organ(labels[0], 7)}, 7
    if "lung" in chosen:
        folder = data / "lung_ct"
        for fixed, moving in (("baseline", "followup"), ("followup", "baseline")):
            scans = [anamorph.read_image(folder / f"{name}.mha") for name in (fixed, moving)]
            points = [
                anamorph.read_points(folder / f"{name}_landmarks_vox.txt", grid=scan.grid)
                for name, scan in zip((fixed, moving), scans, strict=True)
            ]
            given = dict(zip(("fixed", "moving", "fixed_points", "moving_points"), (*scans, *points), strict=True))
            yield f"lung {fixed} {moving}, bones", given, {"keep_rigid": bones(scans[0])}, 0
    if "phantom" in chosen:
        for seed in range(4):
            made = make_insert_pair(seed=seed)
            given = {
                "fixed": made.scans.fixed, "moving": made.scans.moving, "fixed_labels": made.scans.fixed_labels,
                "moving_labels": made.scans.moving_labels, "fixed_points": made.scans.fixed_points,
                "moving_points": made.scans.moving_points,
            }  # fmt: skip
            yield f"phantom {seed}, rods and lesion", given, {"keep_rigid": made.rods, "keep_volume": made.lesion}, 0


def row(name: str, result: Result, kept: dict[str, Labels], left_out: int, seconds: float) -> str:
    """One line of the table."""
    numbers = result.metrics.after
    dice = [value for label, value in numbers.labels("dice").items() if label != left_out]
    accuracy = f"{np.mean(dice):.4f}" if dice else "-"
    tre = numbers.mean("tre_mm_landmarks")
    onward = result.pair.fixed_to_moving
    pieces = {what: pieces_of(mask)[0] for what, mask in kept.items()}
    volume = max(abs(volume_change_percent(piece, onward)) for some in pieces.values() for piece in some)
    bent = max((rigid_deviation_mm(piece, onward) for piece in pieces.get("keep_rigid", [])), default=float("nan"))
    count = sum(map(len, pieces.values()))
    return (
        f"{name} | {count} | {volume:.4f} | {bent:.4f} | {accuracy} | {'-' if tre is None else f'{tre:.2f}'} | "
        f"{numbers.mean('folding_percent'):.4f} | {seconds:.2f} | {len(result.warnings)}"
    )


def main(data: Path, chosen: set[str]) -> None:
    """Print a table: per pair without masks, exact, and by a weight."""
    print("pair | pieces | volume % | bent mm | Dice elsewhere | TRE mm | folded % | processor s | warnings")
    for name, given, kept, left_out in pairs(data, chosen):
        weighed = {what: [(mask, WEIGHT)] for what, mask in kept.items()}
        for how, masks in (("free", {}), ("exact", kept), (f"weight {WEIGHT:g}", weighed)):
            start = time.process_time()
            result = anamorph.register(**given, **masks)
            seconds = time.process_time() - start
            print(row(f"{name}: {how}", result, kept, left_out, seconds), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]) or {"abdomen", "head-neck", "lung", "phantom"})
