"""Scans of two soft bodies that differ in place, size and shape, with their labels and a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from anamorph.data import read_dataset
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.cache import Cohort

SHAPE = (28, 32, 24)


def blob_scan(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and labels: body 1 around body 2, in noise."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    centre = (np.array(shape) - 1) / 2 + rng.uniform(-2.5, 2.5, 3)
    radii = np.array(shape) * rng.uniform(0.24, 0.34, 3)
    labels = np.zeros(shape, np.uint8)
    labels[(((places - centre) / radii) ** 2).sum(-1) < 1] = 1
    inner = centre + radii * rng.uniform(-0.2, 0.2, 3)
    labels[(((places - inner) / (radii * rng.uniform(0.6, 0.75, 3))) ** 2).sum(-1) < 1] = 2
    values = np.array([100.0, 300.0, 600.0])[labels] + rng.normal(0, 15, shape)
    return values.astype(np.float32), labels


def make_blobs(folder: Path, training: int = 2, validation: int = 2, name: str = "Blobs", **changes: Any) -> Path:
    """A data set on disk; the manifest may be changed. ``first_seed`` draws other patients, in a ``shape``."""
    first, shape = changes.pop("first_seed", 0), changes.pop("shape", SHAPE)
    lists: dict[str, list] = {"training": [], "validation": []}
    for n in range(training + validation):
        image, label = (folder / kind / f"{name}_{n + 1:04}_0000.nii.gz" for kind in ("imagesTr", "labelsTr"))
        for path, data in zip((image, label), blob_scan(first + n, shape), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(path)
        entry = {"image": f"./imagesTr/{image.name}", "label": f"./labelsTr/{label.name}"}
        lists["training" if n < training else "validation"].append(entry)
    content = {"name": name, "labels": {"1": "shell", "2": "core"}, **lists, **changes}
    path = folder / f"{name}_dataset.json"
    path.write_text(json.dumps(content))
    return path


def blob_cohort(folder: Path, preprocessing: Preprocessing | None = None, **options: Any) -> Cohort:
    path = make_blobs(folder / options.get("name", "Blobs"), **options)
    return Cohort.of(read_dataset(path), preprocessing or Preprocessing(), folder / "cache")
