"""From supervoxel layers to a field at the published size of SLIC-Reg: seconds per step, and the error.

    python benchmarks/slicreg_field.py [--device cuda]

Layers of random cells (16 of 127, 96 x 80 x 128 voxels of 4 mm) and the same under a known affine map: no scan is
needed, and the truth is known. Threads are those of OMP_NUM_THREADS. The first round, which
compiles, is not counted.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from scipy.spatial import cKDTree

from anamorph.features.layer_codes import draw_codes
from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.methods.learned import lattice
from anamorph.methods.slicreg import PUBLISHED, PredictedLayers, SlicregConfig, keypoint_field
from anamorph.supervoxels.layers import jitter
from anamorph.transforms import Displacement

GRID = Grid((96, 80, 128), np.diag([4.0, 4, 4, 1]))


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Layers ``(16, I, J, K)``, and which voxels they cover."""
    rng = np.random.default_rng(0)
    places = identity_positions(GRID.shape).reshape(3, -1).T
    middle = (np.array(GRID.shape) - 1) / 2
    inside = (((places - middle) / (0.85 * middle)) ** 2).sum(axis=1) < 1
    layers = np.zeros((16, len(places)), np.uint8)
    for layer in layers:
        sites = places[rng.choice(np.flatnonzero(inside), 127, replace=False)]
        layer[inside] = cKDTree(sites).query(places[inside])[1] + 1
    return layers.reshape(16, *GRID.shape), inside.reshape(GRID.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    moving, inside = cells()
    true = jitter(GRID, 0.07, np.random.default_rng(3))
    fixed = sample(moving, true.moving_positions(GRID, GRID), "nearest", 0)
    goal = true.positions_on(GRID)
    start = np.linalg.norm(goal - identity_positions(GRID.shape), axis=0)[inside].mean()
    print(f"{torch.get_num_threads()} threads, {device}; {start:.2f} voxels of 4 mm before")
    published = {key: value for key, value in PUBLISHED.items() if key != "refine"}
    for name, config in (("default", SlicregConfig()), ("published", SlicregConfig(**published))):
        for _ in range(2):
            clock = [time.perf_counter()]
            codes = draw_codes(16, 128, np.random.default_rng(0))
            sides = [PredictedLayers.given(labels, GRID, codes, device) for labels in (fixed, moving)]
            clock.append(time.perf_counter())
            places = sides[0].points(config.points, config.point_count, None, GRID, 0)
            spline = config.kernel, config.smoothing
            field, _ = keypoint_field(*sides, places, config.fit(), config.neighbours, spline, lattice(GRID))
            clock.append(time.perf_counter())
        found = Displacement(field, lattice(GRID)).positions_on(GRID)
        error = np.linalg.norm(found - goal, axis=0)[inside]
        print(
            f"{name}: features of two scans {clock[1] - clock[0]:.2f} s, fit of {len(places)} points and spline "
            f"{clock[2] - clock[1]:.2f} s; error {error.mean():.2f} voxels, 95 % below {np.quantile(error, 0.95):.2f}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
