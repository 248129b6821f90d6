"""Two dates of one patient: does unchanged anatomy stay, and what is found to have changed?

Usage: python -m benchmarks.change DATA

``brain_ms_mr`` has reference affines of both dates to a common space, and lesions that changed there. Everything is
within an ellipsoid about the brain. The numbers of chance are tried on maps of smooth noise with heavy tails.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, label
from scipy.stats import norm, t

import anamorph
from anamorph.evaluation.change import SIGNIFICANT, Change
from anamorph.image.image import Image
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Transform

CONTRASTS = ("FLAIR", "T1W", "T2W")
RADII_MM = np.array([65.0, 80.0, 60.0])
FIELDS = 200


def brain(grid: anamorph.Grid) -> np.ndarray:
    """The ellipsoid as a mask."""
    at = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = np.linalg.norm((grid.voxel_to_world(at) - grid.centre_mm) / RADII_MM, axis=1) < 1
    return inside.reshape(grid.shape)


def to_scan(folder: Path, date: int, contrast: str) -> Transform:
    """From the common space to a scan."""
    flair = read_transform(folder / f"study{date}_FLAIR_to_common_space.txt")
    if contrast == "FLAIR":
        return flair
    return flair @ read_transform(folder / f"study{date}_{contrast}_intrastudy_to_FLAIR.txt")


def area_under_curve(values: np.ndarray, true: np.ndarray) -> float:
    """Of the receiver operating characteristic."""
    order = np.argsort(np.argsort(values))
    return float((order[true].mean() - (true.sum() - 1) / 2) / (~true).sum())


def dates(folder: Path) -> None:
    """Both directions of every contrast."""
    truth = anamorph.read_labels(folder / "gt.nii.gz")
    for contrast in CONTRASTS:
        for dates_of in ((1, 2), (2, 1)):
            fixed, moving = (anamorph.read_image(folder / f"study{date}_{contrast}.nii.gz") for date in dates_of)
            here, there = (to_scan(folder, date, contrast) for date in dates_of)
            inside = brain(fixed.grid)
            places = fixed.grid.voxel_to_world(np.argwhere(inside)[::97])
            reference = there.map_world(here.inverse().map_world(places))
            print(f"{contrast} {dates_of}: {np.linalg.norm(reference - places, axis=1).mean():.2f} mm apart")
            for same_patient in (False, True):
                start = time.process_time()
                result = anamorph.register(fixed, moving, same_patient=same_patient)
                seconds = time.process_time() - start
                apart = np.linalg.norm(result.fixed_to_moving.map_world(places) - reference, axis=1)
                deformed = result.metrics.after.mean("sdlogj")
                print(
                    f"  same_patient={same_patient}: {apart.mean():.2f} mm off (95 %: {np.percentile(apart, 95):.2f}), "
                    f"SDlogJ {deformed:.4f}, {seconds:.1f} s of processor time",
                    flush=True,
                )
            start = time.process_time()
            change = result.change
            assert change is not None
            print(f"  {change.line}; {time.process_time() - start:.1f} s")
            true = here.inverse().warp_labels(truth, fixed.grid).data[0] > 0
            regions(change, true, inside)
            size = np.abs(change.map.data[0])
            plain = np.abs(result.warped.data[0].astype(np.float32) - fixed.data[0])
            both = inside & change.inside
            told = ", ".join(f"{area_under_curve(one[both], true[both]):.3f}" for one in (size, plain))
            print(f"  area under the curve of voxels, map and plain difference: {told}", flush=True)


def regions(change: Change, true: np.ndarray, inside: np.ndarray) -> None:
    """How many of the regions are true, and how many true ones are found."""
    grid = change.map.grid
    pieces, count = label(true)
    shown = np.zeros(true.shape, bool)
    hits = within = 0
    for region in change.sure:
        values = change.map.data[0] if region.mean_sd > 0 else -change.map.data[0]
        beyond, _ = label(values >= 5)
        i, j, k = np.rint(grid.world_to_voxel(np.array([region.middle_ras_mm]))[0]).astype(int)
        own = beyond == beyond[i, j, k] if beyond[i, j, k] else np.zeros(true.shape, bool)
        hits += bool(true[own].any())
        within += bool(inside[i, j, k])
        shown |= own
    found = len(np.unique(pieces[shown & true]))
    voxel_ml = abs(np.linalg.det(grid.affine[:3, :3])) / 1000
    print(
        f"  {len(change.sure)} regions, {within} of them within, {hits} true; {found} of {count} true ones found, "
        f"{true[shown].sum() * voxel_ml:.2f} of {true.sum() * voxel_ml:.2f} mL"
    )


def chances() -> None:
    """How many maps of noise have a region that chance gives in 5 % of them."""
    rng = np.random.default_rng(0)
    grid = anamorph.Grid((48, 48, 48), np.eye(4))
    inside = np.ones(grid.shape, bool)
    for degrees in (4.0, 8.0, np.inf):
        seen = 0
        for _ in range(FIELDS):
            field = gaussian_filter(rng.standard_normal(grid.shape), 1.5, mode="wrap")
            field /= field.std()
            if np.isfinite(degrees):
                field = t.ppf(norm.cdf(field), degrees)
            seen += bool(Change(Image(field.astype(np.float32), grid), inside).regions(3.0 if degrees > 9 else 5.0))
        share = 100 * seen / FIELDS
        print(f"noise, Student's {degrees:g}: {share:.1f} % of {FIELDS} maps; at most {100 * SIGNIFICANT:g} expected")


if __name__ == "__main__":
    chances()
    dates(Path(sys.argv[1]) / "brain_ms_mr" / "patient01")
