"""Is a scan of another contrast registered as accurately as one of the same contrast, under the same known warp?

``python -m benchmarks.contrasts --data DATA_ROOT -o results/contrasts.csv --split dev``

The fixed scan is read under a warp that is known: turned, scaled, shifted, and bent smoothly by up to 5, 10 or 20 mm.
The true map is the warp, followed by the reference map between the two scans as they are. Errors are distances in mm
over tissue that both scans show; of prostates, at landmarks. A warp is the same for all contrasts of a group.

| group | fixed | moving | reference map |
|---|---|---|---|
| two dates | T1 | T1, T2 and FLAIR of the other date | affine maps that came with the scans |
| one date | T1, FLAIR | all three | the same; the same contrast is the scan itself on another grid |
| two people | T1 | T1, T2 and FLAIR of another person | none: what the first run makes of both T1 as they are |
| CT and MR | CT, MR | CT, MR of one patient, aligned | the identity |
| prostate | MR | ultrasound; the MR itself | landmarks |

A run is ``METHOD[@PRESET][:SETTING=VALUE;...]``. ``--split dev`` is for choosing settings, ``test`` for proof: other
scans and other warps. Finished rows are skipped; take a new file when the code has changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.read import read_image, read_points
from anamorph.phantom.pair import inverse_points, random_affine, random_diffeomorphism
from anamorph.transforms import Affine, Transform
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Composite

from .held_out import parts_of
from .start.cases import OTHER_SPACING
from .start.disturb import View, resampled
from .start.sources import Split
from .start.success import body_points
from .start.table import append, read_rows
from .start.tools import Tool, whole

RUNS = ("convex:intensity_weight=0;guide=none", "convex")
"""MIND-SSC alone, and what the package chooses."""
COLUMNS = (
    "run", "case", "group", "fixed", "moving", "split", "before_mm", "mean_mm", "p95_mm", "cpu_s", "verdict", "error",
)  # fmt: skip
BENT_MM = (5.0, 10.0, 20.0)
ROTATION_DEG, SCALE, SHIFT = 8.0, 0.04, 0.04
"""Limits of the linear part about each axis; the shift as a share of the longest side."""
USUAL_MM = 240.0
"""Scans with a longer side are bent so far; warps of smaller ones are smaller and finer in proportion."""
SEEDS: dict[Split, int] = {"dev": 1000, "test": 2000}


class Scan(NamedTuple):
    """A contrast and its file; ``to_common`` are the maps from its points to those of all scans of the group."""

    contrast: str
    file: str
    to_common: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A pair of scans and a warp of the fixed one."""

    group: str
    fixed: Scan
    moving: Scan
    bent_mm: float
    seed: int
    split: Split

    @property
    def name(self) -> str:
        """Such as ``two dates/study1_T1W.nii.gz/study2_T2W.nii.gz/20mm/seed2003``."""
        return "/".join(
            [self.group, *(Path(s.file).name for s in self.pair), f"{self.bent_mm:g}mm", f"seed{self.seed}"]
        )

    @property
    def pair(self) -> tuple[Scan, Scan]:
        """Both scans."""
        return self.fixed, self.moving


def cases(split: Split) -> Iterator[Case]:
    """All cases of a split; those of one fixed scan share their warps."""
    seed = SEEDS[split]
    for group, fixed, others in groups(split):
        for bent_mm in BENT_MM:
            for moving in others:
                yield Case(group, fixed, moving, bent_mm, seed, split)
            seed += 1


def groups(split: Split) -> Iterator[tuple[str, Scan, list[Scan]]]:
    """A fixed scan and those that it is registered with, the one of the same contrast first."""
    if split == "dev":
        t1, t2, flair = brains("patient03/study2")
        yield "one date", t1, [t1, t2, flair]
        yield "one date", flair, [flair, t1, t2]
    else:
        dates = brains("patient01/study1"), brains("patient01/study2")
        for here, there in (dates, dates[::-1]):
            yield "two dates", here[0], there
        for here, there in ((dates[0], brains("patient03/study2")), (brains("patient03/study2"), dates[1])):
            yield "two people", here[0], there
    for patient in ("001",) if split == "dev" else ("002", "005"):
        ct, mr = (Scan(kind, f"ct_mr/STS_{patient}_{kind}_image.nii.gz") for kind in ("CT", "MR_T1"))
        yield "CT and MR", ct, [ct, mr]
        yield "CT and MR", mr, [mr, ct]
    for number in (0, 3, 7) if split == "dev" else (1, 4, 8, 9):
        mr, us = (Scan(kind, f"prostate_mr_us/images/train_case{number:06d}_{kind}.nii.gz") for kind in ("mr", "us"))
        yield "prostate", mr, [mr, us]


def brains(study: str) -> list[Scan]:
    """T1, T2 and FLAIR of one date; the files map points of FLAIR or of the common space to a scan."""
    base = f"brain_ms_mr/{study}"
    common = f"{base}_FLAIR_to_common_space.txt"
    own = {scan: (f"{base}_{scan}_intrastudy_to_FLAIR.txt", common) for scan in ("T1W", "T2W")} | {"FLAIR": (common,)}
    return [Scan(scan, f"{base}_{scan}.nii.gz", own[scan]) for scan in ("T1W", "T2W", "FLAIR")]


def known_warp(grid: Grid, seed: int, bent_mm: float) -> Transform:
    """A linear map and a smooth deformation about the middle of a grid; the smaller the grid, the smaller and finer."""
    rng = np.random.default_rng(seed)
    size = min(grid.longest_mm / USUAL_MM, 1.0)
    usual = np.eye(4)
    usual[:3] = np.column_stack([np.eye(3) / size, -grid.centre_mm / size])
    shift_mm = SHIFT * grid.longest_mm / size
    linear = random_affine(rng, shift_mm, ROTATION_DEG, SCALE, planar=False)
    there = Affine(usual)
    return Composite.of(there, linear, random_diffeomorphism(rng, bent_mm, planar=False), there.inverse())


class Warped(NamedTuple):
    """A pair with what it is judged by: places of the fixed scan, and where these belong in the moving one, RAS mm."""

    fixed: Image
    moving: Image
    places_mm: np.ndarray
    targets_mm: np.ndarray


def warped(case: Case, root: Path, reference: Tool) -> Warped:
    """The scans of a case, the fixed one under the known warp.

    Args:
        case: the pair and the warp.
        root: folder with the data sets.
        reference: makes the reference map of two people, from both T1.
    """
    still, moving = (read_image(root / scan.file) for scan in case.pair)
    if case.fixed == case.moving:
        other = OTHER_SPACING * still.grid.spacing_mm
        moving = resampled(View.of(still), still.grid.directions, other).image
    warp = known_warp(still.grid, case.seed, case.bent_mm)
    fixed = warp.warp_image(still, still.grid, background=float(still.data.min()))
    if case.group == "prostate":
        marks = [read_points(landmarks(root / one.file), grid=one_scan.grid)
                 for one, one_scan in zip(case.pair, (still, moving), strict=True)]  # fmt: skip
        here, there = marks[0].matched(marks[1])
        return Warped(fixed, moving, inverse_points(warp, here.positions_mm), there.positions_mm)
    places = body_points(fixed)
    unbent = warp.map_world(places)
    targets = truth(case, root, reference).map_world(unbent)
    seen = still.grid.contains(unbent) & moving.grid.contains(targets)
    return Warped(fixed, moving, places[seen], targets[seen])


def landmarks(image: Path) -> Path:
    """The file of the landmarks of a prostate."""
    return image.parents[1] / "landmarks" / image.name.replace(".nii.gz", ".csv")


def truth(case: Case, root: Path, reference: Tool) -> Transform:
    """The map from the fixed to the moving scan as they are."""
    if case.fixed == case.moving:
        return Affine.identity()
    there, back = (_to_common(scan, root) for scan in case.pair)
    if case.group == "two people":  # the common space is that of each patient alone
        t1 = brains(case.moving.file.removeprefix("brain_ms_mr/").rsplit("_", 1)[0])[0]
        return Composite.of(between_people(case.fixed, t1, root, reference), _to_common(t1, root), back.inverse())
    return Composite.of(there, back.inverse())


def _to_common(scan: Scan, root: Path) -> Transform:
    """From a scan's own points to the space of its group."""
    return Composite.of(Affine.identity(), *(read_transform(root / name).inverse() for name in scan.to_common))


@lru_cache(maxsize=2)
def between_people(fixed: Scan, moving: Scan, root: Path, reference: Tool) -> Transform:
    """What a tool makes of two scans as they are."""
    found = reference(*(read_image(root / scan.file) for scan in (fixed, moving))).transform
    if found is None:
        raise SystemExit(f"{fixed.file} and {moving.file} could not be registered")
    return found


def row(run: str, tool: Tool, case: Case, root: Path, reference: Tool) -> dict[str, object]:
    """Register a case and measure it."""
    pair = warped(case, root, reference)
    answer = tool(pair.fixed, pair.moving)
    told: dict[str, object] = {
        "run": run, "case": case.name, "group": case.group, "fixed": case.fixed.contrast,
        "moving": case.moving.contrast, "split": case.split, "cpu_s": answer.cpu_s, "verdict": answer.verdict,
        "error": answer.error, "before_mm": float(np.linalg.norm(pair.places_mm - pair.targets_mm, axis=1).mean()),
    }  # fmt: skip
    if answer.transform is not None:
        apart = np.linalg.norm(answer.transform.map_world(pair.places_mm) - pair.targets_mm, axis=1)
        told |= {"mean_mm": float(apart.mean()), "p95_mm": float(np.percentile(apart, 95))}
    return told


def summary(rows: Sequence[dict[str, str]]) -> str:
    """A table by contrasts: error of each run, mean of the cases and worst one, and beyond the same contrast's."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    head = ["group", "fixed to moving", "warps", "before, mm"]
    for run in runs:
        head += [f"`{run}`, mm", "worst", "beyond the same contrast", "processor s"]
    lines = [head, ["---"] * len(head)]
    for group, fixed, moving in dict.fromkeys((row["group"], row["fixed"], row["moving"]) for row in rows):
        own = [row for row in rows if (row["group"], row["fixed"], row["moving"]) == (group, fixed, moving)]
        counts = {run: [row for row in own if row["run"] == run] for run in runs}
        cells = [group, f"{fixed} to {moving}", str(max(map(len, counts.values()))), f"{_mean(own, 'before_mm'):.1f}"]
        for run in runs:
            mine = counts[run]
            same = [
                r for r in rows if r["run"] == run and (r["group"], r["fixed"], r["moving"]) == (group, fixed, fixed)
            ]
            error = _mean(mine, "mean_mm")
            worst = max((float(row["mean_mm"] or "inf") for row in mine), default=np.nan)
            beyond = "" if fixed == moving else f"{error - _mean(same, 'mean_mm'):+.2f}"
            cells += [f"{error:.2f}", f"{worst:.2f}", beyond, f"{_mean(mine, 'cpu_s'):.1f}"]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _mean(rows: Sequence[dict[str, str]], column: str) -> float:
    values = [float(row[column]) for row in rows if row[column]]
    return float(np.mean(values)) if values else float("nan")


def main() -> None:
    """Run what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contrasts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV of the rows")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--run", action="append", metavar="METHOD[@PRESET][:SETTINGS]", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--only", default="*", metavar="GLOB", help="of case names, such as 'CT and MR/*'")
    parser.add_argument("--summary", action="store_true", help="print the table and stop")
    given = parser.parse_args()
    chosen = [case for case in cases(given.split) if fnmatchcase(case.name, given.only)]
    done = {(row["run"], row["case"]) for row in read_rows(given.output)}
    tools = {run: _tool(run) for run in given.run or RUNS}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for case in [] if given.summary else chosen:
        for run, tool in tools.items():
            if (run, case.name) not in done:
                found = row(run, tool, case, given.data, _tool("convex"))
                append(given.output, found, COLUMNS)
                print(
                    run, case.name, *(f"{found.get(key, np.nan):.2f}" for key in ("before_mm", "mean_mm")), flush=True
                )
    names = {case.name for case in chosen}
    print(summary([row for row in read_rows(given.output) if row["case"] in names and row["run"] in tools]))


@cache
def _tool(run: str) -> Tool:
    method, preset, settings = parts_of(run)
    return whole(method, settings, preset)


if __name__ == "__main__":
    main()
