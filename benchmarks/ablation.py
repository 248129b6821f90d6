"""What each kind of knowledge adds: MIND-SSC alone, intensities, a guide, true labels as the ceiling.

``python -m benchmarks.ablation --data DATA_ROOT -o results/ablation.csv``
``python -m benchmarks.ablation ... --variant "+ features=convex:feature_model=shapes"``

The pairs are those of ``benchmarks/pairs``, and hearts of different patients. Every registration runs in a process of
its own and is judged by the evaluation of ``benchmarks.peers``; processor seconds hold reading, registering and the
dense field. A variant that comes to the settings of one before it, as where a set has no guide, is left out. Labels
that are *kept back* pull in no variant but the ceiling: every other one, or those given by ``--kept-back SET=1,2``,
such as the labels that a guide was not trained on. Finished rows are skipped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.image.read import read_image, read_labels

from .held_out import parts_of, plan_of
from .peers.evaluate import evaluate
from .peers.geometry import Geometry
from .peers.process import ToolFailure, run_tool
from .start.sources import LISTED, Source, sources
from .start.table import append, read_rows

CEILING_WEIGHT = 10
"""Of true labels that pull."""
MEASURED = ("dice", "hd95_mm", "tre_mm", "sdlogj", "folding_percent", "processor_s", "peak_mb")
COLUMNS = ("variant", "run", "set", "pair", *MEASURED, "dice_by_label", "error")
SETS = (*LISTED, "hearts")
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Variant:
    """A run ``METHOD[@PRESET][:SETTING=VALUE;...]``, and which true labels pull in it."""

    name: str
    run: str
    pull: str = "none"

    def options(self, source: Source, root: Path, kept_back: Sequence[int]) -> dict[str, Any]:
        """What ``anamorph.register`` is given for a pair."""
        method, preset, settings = parts_of(self.run)
        given: dict[str, Any] = {"method": method, "preset": preset, "settings": settings}
        if self.pull != "none":
            known = [n for n in shared_labels(source, root) if self.pull == "all" or n not in kept_back]
            given["use_labels"] = f"{','.join(map(str, known))}={CEILING_WEIGHT}"
            given |= {role: str(root / path) for role, path in source.companions if role.endswith("_labels")}
        return given


VARIANTS = (
    Variant("MIND-SSC alone", "convex:intensity_weight=0;guide=none"),
    Variant("+ intensities", "convex:guide=none"),
    Variant("+ guide", "convex"),
    Variant("MIND-SSC + guide", "convex:intensity_weight=0"),
    Variant("true labels, but those kept back", "convex:guide=none", "known"),
    Variant("true labels", "convex:guide=none", "all"),
)


@cache
def shared_labels(source: Source, root: Path) -> tuple[int, ...]:
    """The labels of both scans, ascending."""
    maps = [read_labels(root / path) for role, path in source.companions if role.endswith("_labels")]
    return tuple(sorted(set(maps[0].present()) & set(maps[1].present()))) if maps else ()


def kept_back(dataset: str, present: Sequence[int], asked: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The labels of a set that are kept back, of those present."""
    return tuple(n for n in present if n in asked[dataset]) if dataset in asked else tuple(present)[1::2]


def row(variant: Variant, source: Source, root: Path, asked: Mapping[str, Sequence[int]]) -> dict[str, object]:
    """Register a pair in a fresh process and measure it."""
    files: dict[str, Path | None] = {role: root / path for role, path in source.companions}
    files |= {"fixed": root / source.fixed, "moving": root / source.moving}
    told: dict[str, object] = {
        "variant": variant.name, "run": variant.run, "set": source.dataset, "pair": name_of(source),
    }  # fmt: skip
    options = variant.options(source, root, kept_back(source.dataset, shared_labels(source, root), asked))
    scans = {side: files.get(side) for side in ("fixed", "moving", "fixed_mask", "moving_mask")}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            field_mm, cost = run_tool("anamorph", scans, Path(scratch), 1, TIMEOUT_S, options=options)
            told |= cost | evaluate(
                field_mm, *(Geometry.of_file(root / f) for f in (source.fixed, source.moving)), files
            )
        except (ToolFailure, ValueError) as failure:
            told["error"] = str(failure)
    return {key: told[key] for key in COLUMNS if key in told}


def name_of(source: Source) -> str:
    """Both scans of a pair."""
    return "__".join(Path(one).name.removesuffix(".gz").rsplit(".", 1)[0] for one in (source.fixed, source.moving))


def distinct(variants: Sequence[Variant], source: Source, root: Path, nothing_kept_back: bool) -> list[Variant]:
    """The variants without those that would do what one before them does."""
    scans = [read_image(root / path) for path in (source.fixed, source.moving)]
    found: dict[tuple[object, ...], Variant] = {}
    for variant in variants:
        if variant.pull != "known" or not nothing_kept_back:
            method = plan_of(variant.run, *scans).method
            found.setdefault((type(method), method.config, variant.pull), variant)
    return list(found.values())


def summary(rows: Sequence[dict[str, str]], asked: Mapping[str, Sequence[int]]) -> str:
    """A table of means over pairs, a row for each set and variant."""
    head = (
        "set", "variant", "pairs", "Dice", "of labels kept back", "worst", "HD95 mm", "landmarks mm", "SDlogJ",
        "folding %", "processor s", "peak MB",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for dataset, variant in dict.fromkeys((row["set"], row["variant"]) for row in rows):
        own = [row for row in rows if (row["set"], row["variant"]) == (dataset, variant)]
        ended = [row for row in own if not row["error"]]
        overlaps = [_overlaps(row) for row in ended]
        kept = [[dice[n] for n in kept_back(dataset, sorted(dice), asked)] for dice in overlaps]
        worst = min((float(row["dice"]) for row in ended if row["dice"]), default=np.nan)
        failed = f" ({len(own) - len(ended)} failed)" if len(own) > len(ended) else ""
        lines.append((
            dataset, variant, f"{len(ended)}{failed}", _mean(ended, "dice", 3),
            f"{np.mean([np.mean(one) for one in kept if one]):.3f}" if any(kept) else "", f"{worst:.3f}",
            *(_mean(ended, column, digits) for column, digits in zip(MEASURED[1:], (2, 2, 3, 3, 1, 0), strict=True)),
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _overlaps(row: Mapping[str, str]) -> dict[int, float]:
    """Dice by label."""
    return {int(n): float(dice) for n, dice in (part.split(":") for part in row["dice_by_label"].split())}


def _mean(rows: Sequence[dict[str, str]], column: str, digits: int) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{np.mean(values):.{digits}f}" if values else ""


def main() -> None:
    """Run what has no row yet, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV of the rows")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--pairs", type=int, help="the first so many of each set")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=RUN", help="one more")
    parser.add_argument("--kept-back", action="append", default=[], metavar="SET=LABELS", help="such as hippocampus=2")
    parser.add_argument("--summary", action="store_true", help="print the table and stop")
    given = parser.parse_args()
    extra = [Variant(*text.split("=", 1)) for text in given.variant]
    asked = {name: [*map(int, values.split(","))] for name, values in (text.split("=") for text in given.kept_back)}
    root = given.data.resolve()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for dataset in [] if given.summary else given.sets.split(","):
        pairs = sources(dataset)[: given.pairs]
        nothing_kept_back = not kept_back(dataset, shared_labels(pairs[0], root), asked)
        variants = distinct([*VARIANTS, *extra], pairs[0], root, nothing_kept_back)
        done = {(one["variant"], one["pair"]) for one in read_rows(given.output) if one["set"] == dataset}
        for source in pairs:
            for variant in variants:
                if (variant.name, name_of(source)) not in done:
                    found = row(variant, source, root, asked)
                    append(given.output, found, COLUMNS)
                    print(dataset, name_of(source), variant.name, found.get("error") or found.get("dice"), flush=True)
    rows = [one for one in read_rows(given.output) if one["set"] in given.sets.split(",")]
    print(summary(sorted(rows, key=lambda one: SETS.index(one["set"])), asked))


if __name__ == "__main__":
    main()
