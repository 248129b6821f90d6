"""Write the pair lists of the benchmarks, one CSV per data set, with paths relative to the data root.

``python benchmarks/pairs/make_pairs.py DATA_ROOT`` rewrites every list. The choice of subjects is a seeded shuffle of
the sorted file names, so the lists change only when the data or the seed changes.
"""

from __future__ import annotations

import argparse
import csv
import random
from itertools import permutations
from pathlib import Path

SEED = 20
PATHS = ("", "_labels", "_points", "_mask")
COLUMNS = ("dataset", "pair_id", *(side + suffix for suffix in PATHS for side in ("fixed", "moving")))
# Gestational weeks (fixed, moving): near weeks are easy, far weeks are hard, in both directions of growth.
FETAL_PAIRS = (("21", "22"), ("26", "25"), ("24", "28"), ("31", "26"), ("30", "22"), ("33", "21"))

Row = dict[str, str]


def shuffled(root: Path, pattern: str) -> list[str]:
    """Return the file names below ``root`` matching ``pattern``, without ``.nii.gz``, in the seeded order."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in root.glob(pattern))
    random.Random(SEED).shuffle(names)
    return names


def row(dataset: str, fixed: str, moving: str, folders: dict[str, str]) -> Row:
    """Return one pair of a data set whose ``folders`` map a column's suffix ("" for images) to a folder name."""
    result = {"dataset": dataset, "pair_id": f"{fixed}__{moving}"}
    for side, name in (("fixed", fixed), ("moving", moving)):
        for suffix, folder in folders.items():
            result[side + suffix] = f"{dataset}/{folder}/{name}.nii.gz"
    return result


def disjoint_pairs(root: Path, dataset: str, count: int) -> list[Row]:
    """Return ``count`` pairs of different subjects, no subject used twice."""
    names = shuffled(root, f"{dataset}/images/*.nii.gz")[: 2 * count]
    folders = {"": "images", "_labels": "labels"}
    return [row(dataset, *pair, folders) for pair in zip(names[::2], names[1::2], strict=True)]


def abdomen(root: Path) -> list[Row]:
    """Return all ordered pairs of the three abdomens, with the scanned field of view as mask."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in root.glob("abdomen_ct/images/*.nii.gz"))
    folders = {"": "images", "_labels": "labels", "_mask": "masks"}
    return [row("abdomen_ct", *pair, folders) for pair in permutations(names, 2)]


def cardiac(root: Path) -> list[Row]:
    """Return end-systole moved onto end-diastole of the same patient, for eight patients."""
    patients = [name.removesuffix("_ED") for name in shuffled(root, "cardiac_mr/images/*_ED.nii.gz")][:8]
    return [row("cardiac_mr", f"{p}_ED", f"{p}_ES", {"": "images", "_labels": "labels"}) for p in patients]


def fetal(root: Path) -> list[Row]:
    """Return six pairs of atlases from one to twelve gestational weeks apart."""
    by_week = {
        path.name[2:4]: path.name.removesuffix(".nii.gz") for path in root.glob("fetal_brain_mr/images/*.nii.gz")
    }
    folders = {"": "images", "_labels": "labels", "_points": "landmarks", "_mask": "masks"}
    return [row("fetal_brain_mr", by_week[f], by_week[m], folders) for f, m in FETAL_PAIRS]


def lung(root: Path) -> list[Row]:
    """Return the two breath-holds in both directions; the lung mask serves as label and as mask."""
    rows = []
    for pair in permutations(("baseline", "followup")):
        result = {"dataset": "lung_ct", "pair_id": "__".join(pair)}
        for side, name in zip(("fixed", "moving"), pair, strict=True):
            result[side] = f"lung_ct/{name}.mha"
            result[f"{side}_labels"] = result[f"{side}_mask"] = f"lung_ct/{name}_mask.mha"
            result[f"{side}_points"] = f"lung_ct/{name}_landmarks_vox.txt"
        rows.append(result)
    return rows


def ct_mr(root: Path) -> list[Row]:
    """Return T1 MR moved onto CT of the same patient; the tumour mask serves as label only."""
    rows = []
    for path in sorted(root.glob("ct_mr/*_CT_image.nii.gz")):
        patient = path.name.removesuffix("_CT_image.nii.gz")
        result = {"dataset": "ct_mr", "pair_id": f"{patient}_CT__{patient}_MR_T1"}
        for side, scan in (("fixed", "CT"), ("moving", "MR_T1")):
            result[side] = f"ct_mr/{patient}_{scan}_image.nii.gz"
            result[f"{side}_labels"] = f"ct_mr/{patient}_{scan}_mask.nii.gz"
        rows.append(result)
    return rows


def main() -> None:
    """Write every list beside this file and check that each named file exists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder holding the data sets")
    root = parser.parse_args().data
    lists = {
        "hippocampus": disjoint_pairs(root, "hippocampus", 12),
        "head_neck_ct": disjoint_pairs(root, "head_neck_ct", 6),
        "abdomen_ct": abdomen(root),
        "lung_ct": lung(root),
        "cardiac_mr": cardiac(root),
        "fetal_brain_mr": fetal(root),
        "ct_mr": ct_mr(root),
    }
    for dataset, rows in lists.items():
        missing = [value for r in rows for key, value in r.items() if "/" in value and not (root / value).is_file()]
        if missing:
            raise SystemExit(f"{dataset}: not found below {root}: {', '.join(missing)}")
        with (Path(__file__).parent / f"{dataset}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
