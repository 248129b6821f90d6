"""How large the report of a pair is, how long it takes to write, to open and to start its viewer.

``python -m benchmarks.report_page --voxels 53e6``

Two synthetic abdomens, read on finer grids, with noise as CT has it, and their true map: what is measured is the page,
whatever the registration. Opening and starting need the extra ``browser`` and a Chromium; the graphics are software's.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from anamorph.evaluation.verdict import Verdict
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.phantom import make_pair
from anamorph.report import PairReport, write_report
from anamorph.runtime.machine import peak_memory_mb
from anamorph.transforms import Affine

NOISE_HU = 12.0
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main() -> None:
    """Write a report of each size, open it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=float, nargs="+", default=[1.5e6, 53e6], help="of each scan, about")
    wanted = parser.parse_args()
    print("| voxels | page, MB | written in, s | peak memory, MB | opened in, s | viewer started in, s |")
    print("|---|---|---|---|---|---|", flush=True)
    for voxels in wanted.voxels:
        report = make_report(voxels)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            start = time.perf_counter()
            write_report(path, report)
            written = time.perf_counter() - start
            opened, started = in_a_browser(path)
            size = path.stat().st_size / 1e6
        shape = " x ".join(map(str, report.fixed.grid.shape))
        print(
            f"| {shape} | {size:.1f} | {written:.1f} | {peak_memory_mb():.0f} | {opened:.2f} | {started:.1f} |",
            flush=True,
        )


def make_report(voxels: float) -> PairReport:
    """The report of a pair of scans of about so many voxels."""
    pair = make_pair()
    grid = finer(pair.fixed.grid, voxels)
    fixed, moving = noisy(pair.fixed, grid, 0), noisy(pair.moving, finer(pair.moving.grid, voxels), 1)
    there = pair.true_fixed_to_moving.displacement_on(pair.fixed.grid)
    labels = [Affine.identity().warp_labels(one, scan.grid, "nearest") for one, scan in labelled(pair, fixed, moving)]
    return PairReport(
        title="two abdomens",
        fixed=fixed,
        moving=moving,
        verdict=Verdict("PASS", []),
        warped=there.warp_image(moving, grid),
        fixed_to_moving=there,
        moving_to_fixed=there.inverse(),
        fixed_labels=labels[0],
        moving_labels=labels[1],
        warped_labels=there.warp_labels(labels[1], grid, "nearest"),
        fixed_points=pair.fixed_points,
        moving_points=pair.moving_points,
    )


def labelled(pair, fixed: Image, moving: Image) -> list[tuple[Labels, Image]]:
    return [(pair.fixed_labels, fixed), (pair.moving_labels, moving)]


def finer(grid: Grid, voxels: float) -> Grid:
    return grid.resampled(grid.spacing_mm * (np.prod(grid.shape) / voxels) ** (1 / 3))


def noisy(scan: Image, grid: Grid, seed: int) -> Image:
    """A scan read on a grid, with noise of its own at each voxel."""
    read = Affine.identity().warp_image(scan, grid)
    noise = np.random.default_rng(seed).standard_normal(grid.shape, np.float32)
    return dataclasses.replace(read, data=(read.data + NOISE_HU * noise[None]).astype(np.int16))


def in_a_browser(path: Path) -> tuple[float, float]:
    """Seconds until a page is loaded, and from the click until its viewer can be used."""
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        page.goto(path.as_uri())
        opened = time.perf_counter() - start
        start = time.perf_counter()
        page.get_by_role("button", name="Explore").click()
        page.locator(".explorer[data-ready]").wait_for(timeout=120_000)
        return opened, time.perf_counter() - start


if __name__ == "__main__":
    main()
