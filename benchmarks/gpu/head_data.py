"""The label maps that a guide for brains of any contrast is trained on.

``python -m benchmarks.gpu.head_data LABEL_MAPS .gpu/data/heads``

``LABEL_MAPS`` is a folder of whole-head label maps with FreeSurfer's numbers, and numbers from 500 outside the brain,
those of SynthSeg (Billot et al., MedIA 2023; Apache-2.0). They become places in the ordered numbers of
:data:`STRUCTURES`, which fit into 8 bits; a manifest names them and what the network learns. There are no scans: the
training ``segment-synthetic`` makes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np

from anamorph.data import Case, Dataset, write_dataset
from anamorph.image.read import read_labels
from anamorph.networks.preprocessing import canonical
from anamorph.transforms.maps import Affine

NAME = "HEADS"
SIDES = ("left", "right")
VALIDATION = 5
"""Every so many maps one is measured."""

BOTH_SIDES = {
    (2, 41): "white matter", (3, 42): "cortex", (4, 43): "lateral ventricle", (5, 44): "inferior lateral ventricle",
    (7, 46): "cerebellar white matter", (8, 47): "cerebellar cortex", (10, 49): "thalamus", (11, 50): "caudate",
    (12, 51): "putamen", (13, 52): "pallidum", (17, 53): "hippocampus", (18, 54): "amygdala",
    (25, 57): "white matter lesion", (26, 58): "accumbens", (28, 60): "ventral diencephalon", (30, 62): "vessel",
    (136, 163): "posterior ventricle", (137, 164): "temporal ventricle",
}  # fmt: skip
MIDDLE = {
    14: "third ventricle", 15: "fourth ventricle", 16: "brainstem", 24: "cerebrospinal fluid", 72: "septal ventricle",
    85: "optic chiasm", 502: "head 502", 506: "head 506", 507: "soft tissue", 508: "head 508", 509: "head 509",
    511: "skin", 512: "head 512", 514: "head 514", 515: "skull bone", 516: "head 516", 530: "head 530",
}  # fmt: skip
STRUCTURES = MIDDLE | {
    value: f"{side} {name}" for pair, name in BOTH_SIDES.items() for value, side in zip(pair, SIDES, strict=True)
}
"""Name by the number in the files; the numbers from 500 are SynthSeg's, which names few of them."""

OF_EACH_SIDE = {
    "grey matter": ("cortex",),
    "white matter": ("white matter", "white matter lesion", "vessel"),
    "thalamus": ("thalamus",),
    "basal ganglia": ("caudate", "putamen", "pallidum", "accumbens"),
    "hippocampus and amygdala": ("hippocampus", "amygdala"),
}
LEARNED = {f"{side} {name}": [f"{side} {one}" for one in parts] for name, parts in OF_EACH_SIDE.items()
           for side in SIDES} | {
    "ventricles": [
        name for name in STRUCTURES.values() if name.endswith("ventricle")
    ],
    "brainstem": ["brainstem", "optic chiasm", "left ventral diencephalon", "right ventral diencephalon"],
    "cerebellar grey matter": ["left cerebellar cortex", "right cerebellar cortex"],
    "cerebellar white matter": ["left cerebellar white matter", "right cerebellar white matter"],
    "cerebrospinal fluid": ["cerebrospinal fluid"],
    "head": [name for value, name in STRUCTURES.items() if value > 500],
}  # fmt: skip
"""What the network tells apart, by the structures that it brings together."""
OUTSIDE = ["head"]


def main() -> None:
    """Write all maps and their manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    dataset = write_heads(sorted(arguments.maps.glob("*.nii.gz")), arguments.out)
    print({split: len(dataset.of_split(split)) for split in ("training", "validation")})


def write_heads(maps: list[Path], out: Path) -> Dataset:
    """Write label maps under numbers below 256, and ``HEADS_dataset.json`` in ``out``."""
    numbers = {value: number for number, value in enumerate(sorted(STRUCTURES), 1)}
    cases = []
    for n, source in enumerate(maps, 1):
        labels = read_labels(source)
        labels = Affine.identity().warp_labels(labels, canonical(labels.grid))
        values, places = np.unique(labels.data[0], return_inverse=True)
        own = np.array([0 if value == 0 else numbers[int(value)] for value in values], np.uint8)
        path = out / "labelsTr" / f"{NAME}_{n:04d}_0000.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(own[places].reshape(labels.grid.shape), labels.grid.affine).to_filename(path)
        # The training reads the map alone; where a scan is asked for, the map stands for it.
        split = "validation" if n % VALIDATION == 0 else "training"
        cases.append(Case(f"{n:04d}", "0000", path, path, split=split))  # type: ignore[arg-type]
    by_name = {name: numbers[value] for value, name in STRUCTURES.items()}
    extra = {
        "learned": {name: [by_name[part] for part in parts] for name, parts in LEARNED.items()},
        "outside": OUTSIDE,
        "licence": "Apache-2.0",
        "attribution": "label maps: SynthSeg, Billot et al., Medical Image Analysis 86 (2023)",
    }
    path = out / f"{NAME}_dataset.json"
    labels_by_number = {numbers[value]: STRUCTURES[value] for value in sorted(STRUCTURES)}
    dataset = Dataset(path, out, NAME, {"0000": "label map"}, labels_by_number, tuple(cases), extra=extra)
    write_dataset(dataset, path)
    return dataset


if __name__ == "__main__":
    main()
