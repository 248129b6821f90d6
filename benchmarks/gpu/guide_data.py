"""The scans that guides are trained on, small enough to be carried to a machine with a GPU.

``python -m benchmarks.gpu.guide_data DATA_ROOT .gpu/data``

``DATA_ROOT`` is the folder that the paths of ``benchmarks/pairs`` start from. Every scan is read as its training reads
it, kept in 8 bits, and listed in a manifest. Patients of ``benchmarks/pairs`` are left out, so that their pairs can be
reported; of the fetal brains, which are all among the pairs, two are.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from anamorph.data import Case, Dataset, write_dataset
from anamorph.image.background import content_box
from anamorph.image.read import read_image, read_labels
from anamorph.networks.preprocessing import Preprocessing

PAIRS = Path(__file__).parents[1] / "pairs"
LOWEST_HU, HU_PER_STEP = -1024.0, 10.0


@dataclass(frozen=True)
class GuideSet:
    """One training: its scans, how they are read, and what their labels are called.

    Args:
        folder: below the root, with ``images`` and ``labels``.
        spacing_mm: at which the network reads them.
        shape: in voxels.
        labels: name by value.
        licence: of the scans.
        ct: values are Hounsfield units.
        validation: every how many patients one is measured.
        partial: labels that only those scans annotate which show them.
        kept_back: neither trained on nor measured, in place of the patients of the pairs.
        steps: between black and white of other scans than CT; fewer take less room.
    """

    folder: str
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    labels: tuple[str, ...]
    licence: str
    ct: bool = False
    validation: int = 7
    partial: tuple[int, ...] = ()
    kept_back: tuple[str, ...] = ()
    steps: int = 255


SETS = (
    GuideSet(
        "head_neck_ct", (4.0, 4.0, 4.0), (152, 88, 96),
        ("brainstem", "spinal cord", "right parotid", "left parotid", "oesophagus", "larynx", "mandible"),
        "MIT", ct=True, partial=(5, 6),
    ),
    GuideSet("cardiac_mr", (2.5, 2.5, 8.0), (144, 144, 16), ("left ventricle",), "public domain", validation=6),
    GuideSet(
        "hippocampus", (1.0, 1.0, 1.0), (48, 64, 48), ("anterior", "posterior"), "CC BY-SA 4.0", validation=9, steps=63,
    ),
    GuideSet(
        "fetal_brain_mr", (1.2, 1.2, 1.2), (88, 112, 96), tuple(f"tissue {n}" for n in range(1, 9)), "CC0-1.0",
        validation=4, kept_back=("GA22", "GA28"),
    ),
)  # fmt: skip


def main() -> None:
    """Write every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for one in SETS:
        dataset = write_set(one, arguments.root, arguments.out / one.folder)
        size = sum(file.stat().st_size for file in dataset.root.rglob("*") if file.is_file()) / 1e6
        counts = {split: len(dataset.of_split(split)) for split in ("training", "validation")}
        print(f"{one.folder}: {counts}, {size:.1f} MB", flush=True)


def write_set(one: GuideSet, root: Path, out: Path) -> Dataset:
    """Write the scans of one set and their manifest, ``GUIDE_dataset.json`` in ``out``."""
    patients: dict[str, list[Path]] = {}
    for image in sorted((root / one.folder / "images").glob("*.nii.gz")):
        patients.setdefault(_patient(image), []).append(image)
    left_out = set(one.kept_back or _patients_of_pairs(one.folder))
    used = [name for name in patients if name not in left_out]
    cases = tuple(case for number, name in enumerate(used, 1) for case in _written(one, patients[name], number, out))
    labels = dict(enumerate(one.labels, 1))
    extra = {"licence": one.licence, "patients": used}
    path = out / f"{one.folder}_dataset.json"
    modalities = {"0000": "CT" if one.ct else "MR"}
    dataset = Dataset(path, out, one.folder, modalities, labels, cases, pairings="unpaired", extra=extra)
    write_dataset(dataset, path)
    return dataset


def _written(one: GuideSet, images: list[Path], number: int, out: Path) -> Iterator[Case]:
    """The scans of one patient; of a heart there are two phases."""
    reading = Preprocessing(one.spacing_mm, one.shape, "none" if one.ct else "percentile")
    split = "training" if number % one.validation else "validation"
    for phase, source in enumerate(images):
        image = read_image(source)
        labels = read_labels(source.parents[1] / "labels" / source.name)
        box = content_box(image)  # as a guide is shown a scan
        image = image if box is None else image.cropped(box)
        frame = reading.frame(image.grid, one.shape)
        values, names = reading.channels(image, frame)[0], reading.labels(labels, frame)
        step, lowest = (HU_PER_STEP, LOWEST_HU) if one.ct else (1 / one.steps, 0.0)
        stored: np.ndarray = np.clip(np.rint((values - lowest) / step), 0, 255).astype(np.uint8)
        subject = f"{number:04d}{phase}"
        files = [out / kind / f"{one.folder}_{subject}_0000.nii.gz" for kind in ("imagesTr", "labelsTr")]
        arrays = (stored, (step, lowest)), (names.astype(np.uint8), (1.0, 0.0))
        for file, (data, scale) in zip(files, arrays, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            made = nibabel.Nifti1Image(data, frame.affine)
            # The 8 bits are written as they are, and the header says what they mean.
            made.header.set_slope_inter(*scale)
            made.to_filename(file)
        shown = [n for n in range(1, len(one.labels) + 1) if n not in one.partial or (names == n).any()]
        extra = {"annotated_labels": shown} if one.partial else {}
        yield Case(subject, "0000", *files, split=split, extra=extra)  # type: ignore[arg-type]


def _patient(image: Path) -> str:
    """``pt_200``, ``hippocampus_190``; of hearts without the phase, of fetal brains the week."""
    name = image.name.removesuffix(".nii.gz")
    return name.removesuffix("_ED").removesuffix("_ES").removesuffix("_operated").removesuffix("_notoperated")


def _patients_of_pairs(folder: str) -> Iterator[str]:
    with (PAIRS / f"{folder}.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            yield from (_patient(Path(row[side])) for side in ("fixed", "moving"))


if __name__ == "__main__":
    main()
