"""Small scans and manifests for the tests of data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (8, 9, 7)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])


def write_scan(path: Path, seed: int = 0, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


def write_labels(path: Path, value: int = 1, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Path:
    """Ten voxels of the value, which is 0.12 ml."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros(shape, np.uint8)
    data[1:6, 2:4, 3] = value
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


def write_points(path: Path, count: int = 3, offset: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{n + offset},{n},{n}\n" for n in range(count)))
    return path


def name_of(subject: int, modality: int = 0) -> str:
    return f"Task_{subject:04}_{modality:04}"


def image_of(subject: int, modality: int = 0, end: str = "Tr") -> str:
    return f"./images{end}/{name_of(subject, modality)}.nii.gz"


def make_learn2reg(folder: Path, subjects: int = 5, **changes: Any) -> Path:
    """An unpaired set: subjects 1 and 2 for training, 3 and 4 in ``registration_val``, all listed as training."""
    for subject in range(1, subjects + 1):
        write_scan(folder / image_of(subject), subject)
        write_labels(folder / f"labelsTr/{name_of(subject)}.nii.gz")
    content: dict[str, Any] = {
        "name": "Task",
        "release": "1.1",
        "pairings": "unpaired",
        "modality": {"0": "CT"},
        "labels": {"0": {"0": "background", "1": "liver"}},
        "tensorImageShape": {"0": list(SHAPE)},
        "numTraining": subjects,
        "training": [
            {"image": image_of(n), "label": f"./labelsTr/{name_of(n)}.nii.gz"} for n in range(1, subjects + 1)
        ],
        "test": [],
        "registration_val": [{"fixed": image_of(3), "moving": image_of(4)}],
    }
    return write_manifest(folder, content | changes)


def write_manifest(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "Task_dataset.json"
    path.write_text(json.dumps(content))
    return path
