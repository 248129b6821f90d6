"""Time `anamorph evaluate` on 45 abdominal-sized pairs: `python -m benchmarks.evaluation [FOLDER]`.

Makes ten phantoms of 192 x 160 x 256 voxels with 13 labels and one smooth random float32 field (.nii.gz) for each two
of them, about 4 GB, in FOLDER or a temporary folder, and prints seconds and peak memory of the command.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from anamorph.evaluation.learn2reg import warp_labels

SHAPE, LABELS, SCANS = (192, 160, 256), 13, 10
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def main() -> None:
    """Make what is missing, evaluate it, and print one line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        if not (folder / "Speed_dataset.json").is_file():
            make_cohort(folder)
        command = ["anamorph", "evaluate", folder / "fields", "--dataset", folder, "-o", folder / "evaluation"]
        start = time.perf_counter()
        subprocess.run([*map(str, command), "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{SCANS * (SCANS - 1) // 2} pairs, {os.cpu_count()} cores: {seconds:.0f} s, peak {peak:.0f} MB")


def make_cohort(folder: Path) -> None:
    """Write scans, labels, fields and, last, the manifest."""
    rng = np.random.default_rng(0)
    organs = ellipsoids(rng)
    names = [f"Speed_{n:04d}_0000.nii.gz" for n in range(1, SCANS + 1)]
    for name in names:
        labels = warp_labels(organs, smooth_field(rng, 8))
        noise = rng.normal(0, 20, SHAPE)
        save(labels, folder / "labelsTr" / name)
        save((50.0 * labels + noise).astype(np.int16), folder / "imagesTr" / name)
    for a, b in combinations(range(1, SCANS + 1), 2):
        field = np.moveaxis(smooth_field(rng, 12), 0, -1)
        save(field, folder / "fields" / f"disp_{a:04d}_0000_{b:04d}_0000.nii.gz")
    images = [f"./imagesTr/{name}" for name in names]
    content = {
        "name": "Speed",
        "labels": {str(label): f"organ {label}" for label in range(1, LABELS + 1)},
        "training": [{"image": image} for image in images],
        "registration_val": [{"fixed": a, "moving": b} for a, b in combinations(images, 2)],
    }
    (folder / "Speed_dataset.json").write_text(json.dumps(content), encoding="utf-8")


def ellipsoids(rng: np.random.Generator) -> np.ndarray:
    """Thirteen organs, large ones below small ones."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij", sparse=True)
    labels = np.zeros(SHAPE, np.uint8)
    for label, size in enumerate(np.linspace(0.4, 0.08, LABELS), 1):
        centre, radii = rng.uniform(-0.5, 0.5, 3), size * rng.uniform(0.7, 1.3, 3)
        labels[sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) < 1] = label
    return labels


def smooth_field(rng: np.random.Generator, largest: float) -> np.ndarray:
    """A smooth random displacement ``(3, I, J, K)``, at most ``largest`` voxels along each axis."""
    coarse = [gaussian_filter(rng.standard_normal([n // 8 for n in SHAPE]), 2) for _ in range(3)]
    return np.stack([zoom(part * (largest / abs(part).max()), 8, order=1) for part in coarse]).astype(np.float32)


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, AFFINE).to_filename(path)


if __name__ == "__main__":
    main()
