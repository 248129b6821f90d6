"""Three cohorts of one data set, each of which annotates other organs, as clinics do.

usage: python make_cohorts.py DATASET OUT

The first patients of the list are held out; they and a few others make the cohort that annotates everything. The label
maps stay as they are: a manifest says which of their labels count, and `anamorph` hides the others.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from anamorph.data import Dataset, read_dataset, write_dataset
from anamorph.data.dataset import all_pairs, thin_pairs

HELD_OUT, COMPLETE = 10, 12
MEASURED_PAIRS = 45
PARTIAL = {"Parotids": (3, 4), "MandibleCord": (2, 7)}
EVERY_CASE_HAS = (1, 2, 3, 4, 7)


def cohort(source: Dataset, name: str, training: slice, held_out: slice, annotated: tuple[int, ...], out: Path) -> None:
    """Write the manifest of some patients of a data set."""
    split = [dataclasses.replace(case, split="training") for case in source.cases[training]]
    kept = tuple(dataclasses.replace(case, split="validation") for case in source.cases[held_out])
    pairs = thin_pairs(all_pairs(kept, "unpaired", ("0000", "0000")), MEASURED_PAIRS)
    made = dataclasses.replace(
        source,
        name=name,
        cases=(*split, *kept),
        listed_pairs={"val": pairs} if pairs else {},
        extra={**source.extra, "annotated_labels": list(annotated)},
    )
    write_dataset(made, out / f"{name}_dataset.json")
    print(f"{name}: {len(split)} patients to train on, {len(kept)} held out, labels {list(annotated)}")


def main() -> None:
    """Write all manifests."""
    source, out = read_dataset(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    first = HELD_OUT + COMPLETE
    cohort(source, "Complete", slice(HELD_OUT, first), slice(0, HELD_OUT), EVERY_CASE_HAS, out)
    share = -(-(len(source.cases) - first) // len(PARTIAL))
    for n, (name, labels) in enumerate(PARTIAL.items()):
        start = first + n * share
        cohort(source, name, slice(start, start + share), slice(0, 0), labels, out)


if __name__ == "__main__":
    main()
