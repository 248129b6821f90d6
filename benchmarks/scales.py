"""Whether the same voxels register equally well whatever their spacing is called.

``python -m benchmarks.scales --method convex``

Two scans of textured bodies with four labels, 64 voxels along each axis, one of them deformed by a known smooth map of
up to six voxels. Nothing but the spacing in the header changes from row to row.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.registration.run import register

SPACINGS_MM = (1000.0, 5.0, 1.0, 0.4, 0.1, 0.025, 0.005, 1e-6)
VOXELS = 64
AIR_HU, TISSUE_HU = -1000.0, 1000.0


def main() -> None:
    """Register at every spacing, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="convex")
    parser.add_argument("--ct", action="store_true", help="values like Hounsfield units, air around the bodies")
    parser.add_argument("--spacings", type=float, nargs="+", default=SPACINGS_MM, help="mm")
    wanted = parser.parse_args()
    scans, truth = deformed_pair(VOXELS, wanted.ct)
    print("| spacing, mm | preset | Dice before | Dice after | error, voxels |\n|---|---|---|---|---|")
    for spacing in wanted.spacings:
        result, before, after, error = measure(scans, truth, spacing, wanted.method)
        print(f"| {spacing:g} | {result.provenance['preset']} | {before:.3f} | {after:.3f} | {error:.3f} |", flush=True)


def measure(scans, truth, spacing, method):
    """The result, mean Dice before and after, and the mean error over the bodies in voxels."""
    grid = Grid(truth.shape[1:], np.diag([spacing, spacing, spacing, 1.0]))
    (fixed, fixed_labels), (moving, moving_labels) = scans
    result = register(Image(fixed, grid), Image(moving, grid), method=method)
    here, there = Labels(fixed_labels, grid), Labels(moving_labels, grid)
    warped = result.fixed_to_moving.warp_labels(there, grid)
    before, after = (float(np.mean(list(dice(here, one).values()))) for one in (there, warped))
    apart = np.linalg.norm(result.fixed_to_moving.displacement_on(grid).disp_vox - truth, axis=0)
    return result, before, after, float(apart[fixed_labels > 0].mean())


def deformed_pair(voxels: int, ct: bool = False, seed: int = 0):
    """Values and labels of the fixed and of the moving scan, and the displacement ``(3, I, J, K)`` between them."""
    rng = np.random.default_rng(seed)
    shape = (voxels,) * 3
    labels = np.zeros(shape, np.uint8)
    places = np.stack(np.indices(shape), -1) / voxels - 0.5
    bodies = (
        ((0, 0, 0), (0.4, 0.36, 0.42)), ((-0.15, 0.05, 0.1), (0.13, 0.16, 0.14)),
        ((0.16, -0.08, -0.05), (0.14, 0.12, 0.2)), ((0.02, 0.18, -0.2), (0.16, 0.1, 0.1)),
    )  # fmt: skip
    for name, (centre, radii) in enumerate(bodies, start=1):
        labels[(((places - centre) / radii) ** 2).sum(-1) < 1] = name
    texture = gaussian_filter(rng.standard_normal(shape), 2.0)
    values = np.array([0.0, 0.45, 0.8, 0.65, 0.95])[labels] + 0.08 * (labels > 0) * texture / texture.std()
    field = gaussian_filter(rng.standard_normal((3, *shape)), (0, *(voxels / 7,) * 3), mode="wrap")
    field *= voxels * 6 / 64 / np.linalg.norm(field, axis=0).max()
    where = np.indices(shape) + field
    # The fixed scan is the moving one read at x + u(x): u is the displacement from fixed to moving.
    scans = []
    for one, names in (
        (
            map_coordinates(values, where, order=1, mode="nearest"),
            map_coordinates(labels, where, order=0, mode="nearest"),
        ),
        (values, labels),
    ):
        noisy = one + rng.normal(0, 0.015, shape)
        scans.append(
            ((AIR_HU + (TISSUE_HU - AIR_HU) * noisy if ct else np.maximum(noisy, 0)).astype(np.float32), names)
        )
    return scans, field.astype(np.float32)


if __name__ == "__main__":
    main()
