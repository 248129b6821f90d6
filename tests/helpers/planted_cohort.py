"""Patients whose deformations are noise, but for an effect that is planted in half of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from anamorph.classification import Features, Rows
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.write import write_image
from anamorph.transforms import Affine, Composite, Displacement
from anamorph.transforms.files import write_transform

SHAPE = (20, 20, 10)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 4.0, 1.0]))


def smooth_noise(rng: np.random.Generator, size_mm: float = 2.0) -> np.ndarray:
    """``(3, I, J, K)`` float32 smooth random vectors of a root mean square of ``size_mm``."""
    noise = np.stack([gaussian_filter(rng.standard_normal(SHAPE), (3, 3, 1.5)) for _ in range(3)])
    return (noise * size_mm / np.sqrt(np.mean(noise**2))).astype(np.float32)


def swelling(size_mm: float) -> np.ndarray:
    """``(3, I, J, K)``: vectors away from a point in one half of the volume, ``size_mm`` at their longest."""
    away = np.moveaxis(GRID.voxel_to_world(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0)
    away = away - GRID.voxel_to_world(np.array([6, 10, 5])).reshape(3, 1, 1, 1)
    bump = away * np.exp(-(away**2).sum(axis=0) / (2 * 8.0**2))
    return (bump * size_mm / np.linalg.norm(bump, axis=0).max()).astype(np.float32)


def planted_fields(count: int, size_mm: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``(N, 3, I, J, K)`` fields and ``(N,)`` labels; every second patient has a swelling."""
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 2 == 1
    return np.stack([smooth_noise(rng) + has * swelling(size_mm) for has in positive]), positive


def rows_of(fields: np.ndarray, positive: np.ndarray, patients: np.ndarray | None = None) -> Rows:
    """Rows whose summaries are the root mean square of each component."""
    names = np.array([f"P{n:03d}" for n in range(len(fields))]) if patients is None else patients
    summaries = np.sqrt(np.mean(fields**2, axis=(2, 3, 4), dtype=np.float64))
    return Rows(Features(fields.astype(np.float32), summaries), names, positive)


def write_planted(root: Path, count: int = 12, size_mm: float = 6.0, composite: bool = False) -> Path:
    """Folders like those of ``anamorph register``, labels of the fixed scans, and ``labels.csv``; its path."""
    fields, positive = planted_fields(count, size_mm)
    lines = ["subject,label,fixed_labels"]
    cube = np.zeros(SHAPE, np.uint8)
    cube[3:9, 7:13, 3:7] = 1
    write_image(Labels(cube, GRID, "labels"), root / "fixed_labels.nii.gz")
    for n, (field, ill) in enumerate(zip(fields, positive, strict=True)):
        folder = root / "runs" / f"P{n:03d}"
        folder.mkdir(parents=True)
        shift = Affine.translation(np.array([n, -n, 0.5 * n]))
        whole = Composite.of(Displacement.from_world(field, GRID), shift)
        write_transform(whole, folder / "fixed_to_moving.nii.gz", "itk", GRID)
        if composite:
            write_transform(whole, folder / "fixed_to_moving.h5", "itk-h5", GRID)
        write_image(Image(field[0], GRID, "warped"), folder / "warped.nii.gz")
        lines.append(f"P{n:03d},{'ill' if ill else 'healthy'},fixed_labels.nii.gz")
    table = root / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
