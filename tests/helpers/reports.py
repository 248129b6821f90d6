"""Reports of a small pair whose labels are balls."""

from __future__ import annotations

import dataclasses

import numpy as np

from anamorph.evaluation import RegisteredPair, measure, verdict
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.report import PairReport
from anamorph.transforms import Affine


def blob(grid: Grid, centre, radius: float) -> np.ndarray:
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    return np.linalg.norm((voxels - np.array(centre)) * grid.spacing_mm, axis=-1) < radius


def make_report(grid: Grid | None = None, **changes) -> PairReport:
    grid = grid or Grid((24, 20, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))
    middle = (np.array(grid.shape) - 1) / 2
    fixed_labels = Labels(blob(grid, middle, 9.0).astype(np.uint8) * 3, grid)
    moving_labels = Labels(blob(grid, middle + np.array([1, 0, 0]), 9.0).astype(np.uint8) * 3, grid)
    fixed = Image(fixed_labels.data * 30.0, grid, "fixed.nii.gz")
    moving = Image(moving_labels.data * 30.0, grid, "moving.nii.gz")
    there = Affine.translation(grid.affine[:3, 0])
    metrics = measure(
        RegisteredPair(fixed, moving, there, there.inverse(), fixed_labels=fixed_labels, moving_labels=moving_labels)
    )
    report = PairReport(
        title="a pair",
        fixed=fixed,
        moving=moving,
        verdict=verdict(metrics),
        warped=there.warp_image(moving, grid),
        fixed_to_moving=there,
        moving_to_fixed=there.inverse(),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        warped_labels=there.warp_labels(moving_labels, grid),
        metrics=metrics,
        timings={"affine": 0.5, "refine": 1.5},
        trace={"refine": [3.0, 2.0, float("nan"), 1.0]},
        settings={"method": "convex", "search": {"radius_mm": 24.0}},
        provenance={"seed": 7},
    )
    return dataclasses.replace(report, **changes)
