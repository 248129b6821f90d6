"""A Learn2Reg data set of a few small CT scans: shifted copies of one body, with labels, masks and landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Mask
from anamorph.image.write import write_image

SHAPE = (24, 20, 16)
SPACING_MM = (2.0, 3.0, 4.0)
ORGANS_MM = np.array([[-9.0, 0.0, 3.0], [8.0, 6.0, -6.0], [2.0, -9.0, 9.0]])
"""Centres of three organs, from the centre of the body."""


def body_at(centre_mm: np.ndarray, grid: Grid) -> tuple[Image, Labels, Mask]:
    """A soft ellipsoid in air with three organs of their own density."""
    sites = grid.voxel_to_world(np.stack(np.indices(grid.shape), -1)) - centre_mm
    inside = (sites / (21, 25, 27)) ** 2 @ np.ones(3) < 1
    hounsfield = np.where(inside, 60.0, -1000.0)
    labels = np.zeros(grid.shape, np.uint8)
    for n, organ in enumerate(ORGANS_MM, 1):
        near = np.linalg.norm(sites - organ, axis=-1) < 6
        labels[near] = n
        hounsfield[near] = 60 + 45 * n
    return (
        Image(hounsfield.astype(np.int16), grid, "scan"),
        Labels(labels, grid, "labels"),
        Mask(inside.astype(np.uint8), grid, "mask"),
    )


def write_cohort(
    root: Path, count: int = 3, shift_mm: float = 6.0, name: str = "AbdomenCTCT", shape: tuple[int, int, int] = SHAPE
) -> Path:
    """Write the data set; scan n is moved by ``n * shift_mm`` along every axis. The path of its JSON."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -np.array(SPACING_MM) * (np.array(shape) - 1) / 2
    grid = Grid(shape, affine)
    entries = []
    for n in range(count):
        centre = np.full(3, n * shift_mm) - shift_mm * (count - 1) / 2
        image, labels, mask = body_at(centre, grid)
        stem = f"{name}_{n + 1:04d}_0000"
        write_image(image, root / "imagesTr" / f"{stem}.nii.gz")
        write_image(labels, root / "labelsTr" / f"{stem}.nii.gz")
        write_image(mask, root / "masksTr" / f"{stem}.nii.gz")
        points = root / "landmarksTr" / f"{stem}.csv"
        points.parent.mkdir(exist_ok=True)
        np.savetxt(points, grid.world_to_voxel(ORGANS_MM + centre), delimiter=",")
        entries.append({"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"})
    pairs = [
        {"fixed": entries[a]["image"], "moving": entries[b]["image"]} for a in range(count) for b in range(a + 1, count)
    ]
    content = {
        "name": name,
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "one", "2": "two", "3": "three"},
        "tensorImageShape": {"0": list(shape)},
        "licence": "CC0",
        "training": entries,
        "registration_val": pairs,
    }
    path = root / f"{name}_dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
