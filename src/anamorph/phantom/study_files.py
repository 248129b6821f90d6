"""A synthetic study on disk: a pair to register, and a data set in the layout of Learn2Reg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from anamorph.data import Case, Dataset, Pair, write_dataset
from anamorph.errors import UserError
from anamorph.image import Points
from anamorph.image.atomic import atomic_directory, atomic_path, write_text
from anamorph.image.write import write_image, write_points
from anamorph.phantom.patients import StudyKind, SyntheticScan, make_study

LEAST_PATIENTS = 4
ABOUT = {"licence": "CC0", "reference": "synthetic scans of `anamorph demo`"}


def write_study(kind: StudyKind, folder: Path, patients: int, seed: int = 0, overwrite: bool = False) -> Dataset:
    """Write a study; the folder appears when it is complete.

    It holds ``fixed`` and ``moving`` with their ``_labels``, ``_mask`` (``.nii.gz``) and ``_points.csv``, which are the
    first two scans; a folder with the data set, named after the task; and, where a patient has two phases,
    ``labels.csv`` with the group of each patient. The last third of the patients, two at least, is for validation.

    Args:
        kind: one of :data:`anamorph.phantom.patients.KINDS`.
        folder: to write.
        patients: how many; four at least.
        seed: any whole number >= 0.
        overwrite: replace an earlier study.

    Raises:
        UserError: the folder exists, or a number is out of range.
    """
    if patients < LEAST_PATIENTS:
        raise UserError(f"a data set wants at least {LEAST_PATIENTS} patients, two of them for validation")
    with atomic_directory(folder, overwrite, marker=_manifest(kind)) as temporary:
        scans = _with_common_points([*make_study(kind, patients, seed)])
        for role, scan in zip(("fixed", "moving"), scans, strict=False):
            write_image(scan.image, temporary / f"{role}.nii.gz")
            write_image(scan.labels, temporary / f"{role}_labels.nii.gz")
            write_image(scan.mask, temporary / f"{role}_mask.nii.gz")
            write_points(scan.points, temporary / f"{role}_points.csv")
        if len(kind.phases) > 1:
            groups = {scan.patient: "ill" if scan.ill else "healthy" for scan in scans}
            rows = "".join(f"{patient:04d},{group}\n" for patient, group in groups.items())
            write_text(temporary / "labels.csv", f"subject,label\n{rows}")
        path = temporary / _manifest(kind)
        dataset = _dataset(kind, scans, path, patients - max(patients // 3, 2))
        write_dataset(dataset, path)
    return dataset


def _manifest(kind: StudyKind) -> str:
    return f"{kind.task}/{kind.task}_dataset.json"


def _with_common_points(scans: Sequence[SyntheticScan]) -> list[SyntheticScan]:
    """The scans, with the landmarks alone that all of them show."""
    seen = np.all([scan.image.grid.contains(scan.points.positions_mm) for scan in scans], axis=0)
    names = tuple(str(name) for name in np.array(scans[0].points.labels)[seen])
    return [replace(scan, points=Points(scan.points.positions_mm[seen], names)) for scan in scans]


def _dataset(kind: StudyKind, scans: Sequence[SyntheticScan], path: Path, training: int) -> Dataset:
    """Write the scans of a data set; it lists patients above ``training`` for validation."""
    cases = []
    for scan in scans:
        stem = f"{kind.task}_{scan.patient:04d}_{scan.phase:04d}"
        files = {name: path.parent / f"{name}sTr" / f"{stem}.nii.gz" for name in ("image", "label", "mask")}
        for content, file in zip((scan.image, scan.labels, scan.mask), files.values(), strict=True):
            write_image(content, file)
        landmarks = path.parent / "landmarksTr" / f"{stem}.csv"
        with atomic_path(landmarks) as temporary:
            np.savetxt(temporary, scan.points.to_voxel(scan.image.grid), "%.4f", ",")
        cases.append(
            Case(
                f"{scan.patient:04d}",
                f"{scan.phase:04d}",
                files["image"],
                files["label"],
                files["mask"],
                landmarks=landmarks,
                split="training" if scan.patient <= training else "validation",
            )
        )
    paired = len(kind.phases) > 1
    pairs = {
        name: tuple(
            Pair(fixed, moving)
            for fixed, moving in combinations([case for case in cases if case.split == split], 2)
            if not paired or fixed.subject == moving.subject
        )
        for name, split in (("training", "training"), ("val", "validation"))
    }
    return Dataset(
        path,
        path.parent,
        kind.task,
        {f"{n:04d}": f"{kind.modality} {phase}".strip() for n, phase in enumerate(kind.phases)},
        kind.label_names,
        tuple(cases),
        listed_pairs=pairs,
        pairings="paired" if paired else "unpaired",
        direction=("0000", "0001" if paired else "0000"),
        extra={**ABOUT, "tensorImageShape": {str(n): list(kind.shape) for n in range(len(kind.phases))}},
    )
